"""Short answers as comparable words: case, punctuation and articles do not count; signs and operators do."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

_APOSTROPHE: Final = re.compile(r"['’`]")
_ONE_SPELLING: Final = str.maketrans("‐‑‒–—−⁄", "------/")
_THOUSANDS: Final = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_SPACED: Final = re.compile(r"(?<=\d)[ \t]+([-+*/:^])[ \t]+(?=\d)")
_SIGN: Final = re.compile(r"(?<![\w)\]}])-[(\\${]*(?=\.?\d|[^\W\d_](?![^\W\d_])|(?<=\\)[a-z])")
"""A minus before a number, one letter, or TeX. A hyphen between words and the mark of a list are none."""
_MINUS: Final = "\N{MINUS SIGN}"
_TOKEN: Final = re.compile(
    rf"{_MINUS}?(?:\d*\.\d+|[^\W_]+(?:[+#]+(?!\w))?)%?"  # -5, 3.5, 50%, word, C++, C#
    r"|(?<=\d)[-:*/](?=\d)|(?<=\b\w)[*/](?=\w\b)"  # 3:2, 1/2, a/b; and/or, **bold**, 24-hour are words alone
    r"|[+^<>=±×÷¬←-⇿∀-⋿]"
)
_ARTICLES: Final = frozenset({"a", "an", "the"})
_NOT_BRACKET: Final = re.compile(r"[^()\[\]{}]+")


def answer_words(text: str) -> str:
    """The words, numbers and operators of an answer with single spaces, without articles."""
    plain = _APOSTROPHE.sub("", unicodedata.normalize("NFKC", text).casefold()).translate(_ONE_SPELLING)
    plain = _SPACED.sub(r"\1", _THOUSANDS.sub("", plain))
    tokens = _TOKEN.findall(_SIGN.sub(f" {_MINUS}", plain))
    return " ".join(_without_articles(tokens) or tokens)


def _without_articles(tokens: Sequence[str]) -> list[str]:
    """The words but for articles; `a` beside an operator is a name."""
    around = zip(["x", *tokens], tokens, [*tokens[1:], "x"], strict=False)
    return [
        word
        for before, word, after in around
        if word not in _ARTICLES or not (before[-1].isalnum() and after[-1].isalnum())
    ]


def same_words(one: str, other: str) -> bool:
    """Whether two answers have the same words, and the same brackets where they are but numbers and signs."""
    words = answer_words(one)
    if words != answer_words(other):
        return False
    return has_letters(words) or _NOT_BRACKET.sub("", one) == _NOT_BRACKET.sub("", other)


def has_letters(text: str) -> bool:
    """Whether a text has more to it than numbers and signs."""
    return any(char.isalpha() for char in text)
