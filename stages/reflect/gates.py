"""What a rewrite must pass, by its text alone, before it may replace anything."""

from __future__ import annotations

from typing import Final

import regex
from pydantic import BaseModel, ConfigDict, Field

from stages.fences import fenced
from stages.reflect.language import same_language
from stages.reflect.turns import Pair

_GRAM: Final = 5
_WORDS: Final = regex.compile(r"\w+")
_SHORT: Final = 200
"""Characters: a shorter original counts as this long for the upper bound, since one word may well become a page."""
_BEGINNING: Final = 160
_REFUSAL: Final = regex.compile(
    r"as an? (?:large )?(?:ai|language model)|\bI(?:'m| am) (?:sorry|afraid|unable|not able|not allowed)"
    r"|\bI (?:cannot|can't|can not|won't|will not|must decline|am unable)\b.{0,40}"
    r"\b(?:help|assist|provide|comply|fulfil|fulfill|answer|do that|create|generate|continue|engage)"
    r"|\bmy apologies, but\b"
    r"|(?:很|非常)?抱歉|对不起|我(?:无法|不能)(?:提供|回答|帮助|满足)|作为(?:一个)?(?:人工智能|AI)"
    r"|申し訳(?:ありません|ございません)|죄송합니다",
    regex.IGNORECASE,
)
_LEAKED: Final = regex.compile(
    r"\b(?:original|previous|given|old|improved|better|new|rewritten|revised) (?:answer|response|instruction)\b"
    r"|\b(?:original|rewritten|revised) (?:question|prompt)\b|\bcritique\b|\b(?:four|five) criteria\b"
    r"|(?:原|改进后的|新的?)(?:回答|指令)",
    regex.IGNORECASE,
)
_PLACEHOLDER: Final = regex.compile(
    r"\{\{-?\s*\w+(?:\.\w+)*\s*-?\}\}|\{%-?\s*\w+.*?%\}|\[\[[0-9a-f]{8} \w+\]\]"
    r"|<(?:(?:new|improved|better|your|the)[ _-])?(?:instruction|answer|response|critique)[^<>\n]{0,20}>"
    r"|\[(?:insert|your|put|write|new|improved|the)\b[^\[\]\n]{0,40}\b(?:instruction|answer|response|text)"
    r"[^\[\]\n]{0,20}\](?!\()|\(your examination\)|, and nothing but it\)",
    regex.IGNORECASE,
)
_EMPTY: Final = regex.compile(r"[\W_]*(?:(?:n/?a|none|null|empty|tbd|todo)[\W_]*)?", regex.IGNORECASE)


class Gates(BaseModel):
    """Bounds that a rewrite must keep to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_length_ratio: float = Field(0.3, ge=0, description="Least length, in characters, as a multiple of the old one.")
    max_length_ratio: float = Field(
        12.0, gt=0, description="Greatest length likewise; an original under 200 characters counts as 200."
    )
    near_copy: float = Field(
        0.9, gt=0, le=1, description="From this similarity (Jaccard of 5-character grams) on, nothing was rewritten."
    )
    language: bool = Field(True, description="Refuse a rewrite in another language than the original.")


def refusal_of(old: Pair, new: Pair, gates: Gates, changed: tuple[str, ...]) -> str | None:
    """Why `new` must not replace `old`, as `kind; particulars`; None where it may.

    `changed` names the parts that were to be rewritten: `instruction`, `answer`.
    """
    for part in changed:
        before, after = getattr(old, part), getattr(new, part)
        found = _text_fault(before, after, part) or _bounds_fault(before, after, gates)
        if found:
            kind, _, particulars = found.partition(";")
            return f"{kind} ({part})" + (f";{particulars}" if particulars else "")
        if gates.language and not same_language(_reference(old, part), after):
            return f"other language ({part})"
    if similarity(new.instruction, new.answer) >= gates.near_copy:
        return "answer repeats the instruction"
    return None


def similarity(one: str, other: str) -> float:
    """Jaccard similarity of 5-character grams of the words in lower case; 1 for equal texts."""
    first, second = _grams(one), _grams(other)
    together = len(first | second)
    return len(first & second) / together if together else 1.0


def is_empty(text: str) -> bool:
    """Nothing there, or only what stands for nothing (`N/A`): a text that merely contains `N/A` is not empty."""
    return _EMPTY.fullmatch(text) is not None and not any(char.isdigit() for char in text)


def _text_fault(before: str, after: str, part: str) -> str | None:
    if is_empty(after) and not _says_as_little(before, after):
        return "empty"
    if not fenced(after).balanced:
        return "unbalanced code fence"
    if part == "answer" and (match := _REFUSAL.search(after[:_BEGINNING])):
        return f"refusal; {match.group()}"
    for name, pattern in (("leaked critique", _LEAKED), ("placeholder", _PLACEHOLDER)):
        match = pattern.search(after)
        if match and not pattern.search(before):
            return f"{name}; {match.group()[:60]}"
    return None


def _says_as_little(before: str, after: str) -> bool:
    """An answer of `None` may be right: it is no worse than an old one of the same kind."""
    return bool(after.strip()) and is_empty(before)


def _bounds_fault(before: str, after: str, gates: Gates) -> str | None:
    alike = similarity(before, after)
    if alike >= gates.near_copy:
        return f"near copy; {alike:.2f} alike"
    if len(after) < gates.min_length_ratio * len(before):
        return f"too short; {len(after)} characters for {len(before)}"
    if len(after) > gates.max_length_ratio * max(len(before), _SHORT):
        return f"too long; {len(after)} characters for {len(before)}"
    return None


def _reference(old: Pair, part: str) -> str:
    """The old text whose language counts: the part itself, or both where it is too short to tell."""
    text: str = getattr(old, part)
    return text if len(text) >= _SHORT // 5 else f"{old.instruction}\n{old.answer}"


def _grams(text: str) -> frozenset[str]:
    flat = " ".join(_WORDS.findall(text.lower())) or " ".join(text.split())
    return frozenset(flat[at : at + _GRAM] for at in range(max(1, len(flat) - _GRAM + 1))) if flat else frozenset()
