"""Which language a text is in, as far as script and function words tell: enough to see that a rewrite changed it."""

from __future__ import annotations

from typing import Final

import regex

from stages.fences import fenced

_SCRIPTS: Final = (
    "Latin", "Cyrillic", "Greek", "Arabic", "Hebrew", "Devanagari", "Bengali", "Tamil", "Thai", "Georgian", "Armenian",
    "Han", "Hiragana", "Katakana", "Hangul",
)  # fmt: skip
_ANY: Final = regex.compile("|".join(rf"(?P<{name}>\p{{{name}}}+)" for name in _SCRIPTS))
_SYLLABIC: Final = frozenset({"Han", "Hiragana", "Katakana", "Hangul"})
_SYLLABLE: Final = 3
"""A Chinese, Japanese or Korean character counts as this many letters: it holds about as much as a short word."""
_LEAST_LETTERS: Final = 12
_LEAST_WORDS: Final = 4
_WORDS: Final = {
    "english": "the of and to is in that it for with as are this be on you not or from by an at which",
    "german": "der die das und ist nicht ein eine zu mit von den dem für auf sich des auch es werden",
    "french": "le la les et est des une un dans pour que qui du pas sur avec sont ce plus aux",
    "spanish": "el los las y es una un que en para por con del se su como más son no al",
    "italian": "il lo gli e è una un che di per con del della si non sono le più dei alla",
    "portuguese": "o os as e é uma um que em para por com do da não se mais são dos na",
    "dutch": "de het een en is van dat niet op te zijn voor met aan ook als naar bij er die",
}
_FUNCTION_WORDS: Final = {name: frozenset(words.split()) for name, words in _WORDS.items()}
_WORD: Final = regex.compile(r"\p{L}+")


def language_of(text: str) -> str | None:
    """A name such as `english`, `chinese` or `cyrillic`; None where the text is too short or too mixed to tell.

    Code blocks do not count. Kana make a text Japanese, Hangul Korean, Han alone Chinese; a Latin text is told by its
    function words, and is `latin` where they do not say.
    """
    prose = fenced(text).prose
    letters = _letters(prose)
    total = sum(letters.values())
    if total < _LEAST_LETTERS:
        return None
    script, most = max(letters.items(), key=lambda item: item[1])
    if most < 0.6 * total:
        return None
    return _latin(prose) if script == "latin" else script


def same_language(before: str, after: str) -> bool:
    """False only where both languages are known and differ; Latin text of unknown language is like any other."""
    old, new = language_of(before), language_of(after)
    if old is None or new is None or old == new:
        return True
    return "latin" in (old, new) and {old, new} <= {"latin", *_FUNCTION_WORDS}


def _letters(prose: str) -> dict[str, int]:
    counts = dict.fromkeys(_SCRIPTS, 0)
    for match in _ANY.finditer(prose):
        counts[match.lastgroup] += len(match.group())
    east = {name: _SYLLABLE * counts.pop(name) for name in _SYLLABIC}
    han, kana = east["Han"], east["Hiragana"] + east["Katakana"]
    named = {name.lower(): count for name, count in counts.items()}
    japanese = kana > 0.1 * han
    return {
        **named,
        "chinese": 0 if japanese else han + kana,
        "japanese": han + kana if japanese else 0,
        "korean": east["Hangul"],
    }


def _latin(prose: str) -> str:
    words = [word.lower() for word in _WORD.findall(prose)]
    hits = {name: sum(word in known for word in words) for name, known in _FUNCTION_WORDS.items()}
    best, second = sorted(hits, key=lambda name: -hits[name])[:2]
    clear = hits[best] >= max(_LEAST_WORDS, 0.1 * len(words)) and hits[best] >= 1.5 * hits[second]
    return best if clear else "latin"
