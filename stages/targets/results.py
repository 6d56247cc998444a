"""The final result that a text states, and whether two of them are the same."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction
from typing import Final, Literal, NamedTuple

Kind = Literal["stated", "letter", "code", "number"]

_LINE: Final = re.compile(r"^[ \t*#>-]*Final result[ \t*]*[:：][ \t*]*(.*?)[ \t*]*$", re.I | re.M)
_TAG: Final = re.compile(r"<answer>\s*(.*?)\s*</answer>", re.S)
_SAYS: Final = re.compile(
    r"(?:\b(?:(?:final|correct)\s+(?:answer|option|choice)|answer)\b[ \t*_]*(?:is\b|[:：=])[ \t*_:：]*|"
    r"(?:正确)?答案(?:是|为)?[:：]?[ \t*]*)(?P<said>[^\n]*)",
    re.I,
)
_LEAD: Final = re.compile(r"^(?:option|choice|letter)\s+", re.I)
_OPTION: Final = re.compile(r"[(\[]?([A-Z])(?:[)\].:：、]|$)(?:\s.*)?", re.S)
_ALONE: Final = re.compile(r"[\s*]*[(\[]?([A-J])[)\]]?[.\s*]*")
_FENCE: Final = re.compile(r"^[ \t]*(`{3,}|~{3,})[^\n`]*\n(.*?)^[ \t]*\1[`~]*[ \t]*$", re.S | re.M)
_NUMBER: Final = re.compile(r"(?<![\w.])[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?![\w])")
_SENTENCE: Final = re.compile(r"(?<=[.!?。])\s+|\n+")

_DROPPED: Final = re.compile(r"\\(?:left|right|displaystyle|,|;|!|:|\s)|\\[()\[\]]|[$~]|\^\{?\\circ\}?|°")
_WRAPPED: Final = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox|operatorname)\s*\{([^{}]*)\}")
_FRACTION: Final = re.compile(r"\\[dtc]?frac\s*(?:\{([^{}]*)\}|(\d))\s*(?:\{([^{}]*)\}|(\d))")
_THOUSANDS: Final = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_DECIMAL: Final = r"[-+]?[0-9]{1,100}(?:\.[0-9]{1,100})?"
_RATIO: Final = re.compile(rf"([-+]?)\(?({_DECIMAL})\)?(?:/\(?({_DECIMAL})\)?)?(\\?%)?")
_LABEL: Final = re.compile(r"^[a-zA-Z](?:\([a-z]\))?=")


class Result(NamedTuple):
    """What a text says in the end. A `number` is only the last number of its last sentence: weak evidence."""

    kind: Kind
    value: str


class _Value(NamedTuple):
    """The elements of a value, and the innermost brackets around all of them ("" for none)."""

    parts: list[str]
    brackets: str


def final_result(text: str) -> Result | None:
    """The result a text states last: marked, as code, or at least as a number; None where it states none.

    Marks are a line `Final result:`, `\\boxed{}`, `<answer>`, `####`, and wording like "the answer is".
    """
    marked = _marked(text)
    if marked is not None:
        return _typed(marked) if marked else None
    blocks = code_blocks(text)
    if blocks:
        return Result("code", blocks[-1])
    alone = _ALONE.fullmatch(text)
    if alone:
        return Result("letter", alone[1])
    numbers = _NUMBER.findall(_last_sentence(text))
    return Result("number", numbers[-1]) if numbers else None


def result_line(text: str) -> str | None:
    """What the last `Final result:` line says; None without such a line."""
    lines = _LINE.findall(text)
    return _bare(lines[-1]) if lines else None


def without_result_line(text: str) -> str:
    """The text without its `Final result:` lines."""
    return _LINE.sub("", text).rstrip()


def same_result(one: Result, other: Result) -> bool:
    """Whether two results are the same: equal numbers however written, equal letters, equal code, equal text."""
    if "code" in (one.kind, other.kind):
        return one.kind == other.kind and _code(one.value) == _code(other.value)
    return same_value(one.value, other.value)


def same_value(one: str, other: str) -> bool:
    """Whether two values are equal as mathematics (numbers, fractions, tuples, intervals) or as text."""
    first, second = _value(one), _value(other)
    if len(first.parts) > 1 and _differ(first.brackets, second.brackets):
        return False
    return len(first.parts) == len(second.parts) and all(map(_same_part, first.parts, second.parts))


def code_blocks(text: str) -> list[str]:
    """The bodies of the closed fenced blocks of a text."""
    return [match[1] for match in _FENCE.findall(text)]


def boxed(text: str) -> str | None:
    """The content of the last `\\boxed{}` whose braces are closed."""
    for mark in ("\\boxed{", "\\fbox{"):
        start = text.rfind(mark)
        if start >= 0:
            return _braced(text, start + len(mark))
    return None


def _braced(text: str, start: int) -> str | None:
    depth = 1
    for at in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return text[start:at]
    return None


def _marked(text: str) -> str | None:
    """The result behind the strongest mark; "" where a `Final result:` line says there is none."""
    line = result_line(text)
    if line is not None:
        return "" if line.casefold() in ("", "none", "n/a", "no final result") else boxed(line) or line
    box = boxed(text)
    if box is not None:
        return box
    tags = _TAG.findall(text)
    if tags:
        return str(tags[-1])
    if "####" in text:
        return text.rpartition("####")[2].strip().split("\n")[0] or None
    said = [match["said"].strip() for match in _SAYS.finditer(text)]
    return _bare(_first_clause(said[-1])) or None if said else None


def _typed(value: str) -> Result:
    option = _OPTION.fullmatch(_WRAPPED.sub(r"\1", _bare(_LEAD.sub("", value))).strip())
    return Result("letter", option[1]) if option else Result("stated", value)


def _bare(value: str) -> str:
    """A value without emphasis, quotes and the full stop around it."""
    return value.strip().strip("*_`\"'“”").removesuffix(".").strip("*_` ")


def _first_clause(said: str) -> str:
    """Up to the end of the sentence, which no decimal point ends."""
    return re.split(r"(?<=[^\d\s])\.(?:\s|$)|(?<=\d)\.(?:\s|$)|[;,。，](?=\s)|\s+(?:because|since|as|where)\s", said)[0]


def _last_sentence(text: str) -> str:
    sentences = [sentence for sentence in _SENTENCE.split(text.strip()) if sentence.strip()]
    return sentences[-1] if sentences else ""


def _code(text: str) -> str:
    """Code without blank lines, trailing blanks and comments of a whole line."""
    lines = (line.rstrip() for line in text.splitlines())
    return "\n".join(line for line in lines if line and not line.lstrip().startswith(("#", "//")))


def _value(value: str) -> _Value:
    """The normalised elements of a value: one, or several between brackets or commas."""
    plain, brackets = _plain(value), ""
    while plain[:1] in ("(", "[", "\\") and plain[-1:] in (")", "]", "}") and _encloses(plain):
        escaped = plain.startswith("\\{")
        brackets = "{}" if escaped else plain[0] + plain[-1]
        plain = plain[2:-2] if escaped else plain[1:-1]
    parts, depth, start = [], 0, 0
    for at, char in enumerate(plain):
        depth += (char in "([{") - (char in ")]}")
        if char == "," and depth == 0:
            parts.append(plain[start:at])
            start = at + 1
    return _Value([*parts, plain[start:]], brackets)


def _differ(one: str, other: str) -> bool:
    """Whether brackets tell values apart: half-open intervals, and (1, 2) from [1, 2]. Sets and bare lists do not."""
    pairs = {one, other}
    return len(pairs) == 2 and (pairs == {"()", "[]"} or not pairs.isdisjoint({"(]", "[)"}))


def _encloses(text: str) -> bool:
    """Whether the first bracket is closed by the last character, and not before."""
    if text.startswith("\\") and not (text.startswith("\\{") and text.endswith("\\}")):
        return False
    depth = 0
    for at, char in enumerate(text):
        depth += (char in "([{") - (char in ")]}")
        if depth == 0 and at >= (1 if text.startswith("\\") else 0):
            return at == len(text) - 1
    return False


def _plain(value: str) -> str:
    """One spelling for many: no spaces, units in words, TeX decoration or thousands separators."""
    text = _bare(unicodedata.normalize("NFKC", value)).replace("−", "-")
    for _ in range(3):  # a fraction of fractions
        text = _FRACTION.sub(lambda match: f"({match[1] or match[2]})/({match[3] or match[4]})", text)
    text = _WRAPPED.sub(r"\1", text).replace("{,}", ",")
    text = _THOUSANDS.sub("", _DROPPED.sub("", text))
    return "".join(text.split()).removesuffix(".").casefold()


def _same_part(one: str, other: str) -> bool:
    if one == other:
        return True
    one, other = _LABEL.sub("", one), _LABEL.sub("", other)  # x = 5 is 5
    first, second = _number(one), _number(other)
    if first is None or second is None:
        return one == other
    return any(abs(a - b) <= abs(b) * Fraction(1, 10**9) for a in first for b in second)


def _number(text: str) -> tuple[Fraction, ...] | None:
    """What a number may stand for: 50% is a half, and is written as 50 too."""
    match = _RATIO.fullmatch(text)
    if not match or (match[3] and Fraction(match[3]) == 0):
        return None
    value = Fraction(match[2]) / Fraction(match[3] or "1") * (-1 if match[1] == "-" else 1)
    return (value, value / 100) if match[4] else (value,)
