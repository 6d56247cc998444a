"""Reading what a model answered: a JSON object, or sections between marks that no text of the record contains."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from schemas.hashing import digest
from stages.reflect.turns import Pair

_THOUGHT: Final = re.compile(r"\A\s*<think>.*?</think>\s*", re.S)
_FENCED: Final = re.compile(r"\A\s*```(?:json)?[ \t]*\n(.*)\n[ \t]*```\s*\Z", re.S)
_DECODER: Final = json.JSONDecoder(strict=False)  # models write raw line breaks into strings


class Unparsed(ValueError):
    """A reply that does not hold what was asked for; the message says what is missing."""


def mark_for(*texts: str) -> str:
    """Eight hex digits that occur in none of `texts`, the same ones every time."""
    joined = "\0".join(texts)
    attempt = 0
    while (mark := digest(f"{attempt}\0{joined}".encode("utf-8", "surrogatepass")).hex()[:8]) in joined:
        attempt += 1
    return mark


def parse(reply: str, mark: str, instruction: str | None) -> Pair:
    """The rewritten pair in a reply.

    `instruction` is the one that stays; None where the reply must bring a new one, which is never paired with an old
    answer. JSON is tried first, then sections `[[mark name]] ... [[mark end]]`. Raises Unparsed.
    """
    text = _THOUGHT.sub("", reply, count=1)
    names = ("answer",) if instruction is not None else ("instruction", "answer")
    found = _from_json(text, names) or _from_sections(text, mark, names)
    missing = [name for name in names if name not in found]
    if missing:
        raise Unparsed(f"no {' and no '.join(missing)} in the reply")
    return Pair(instruction if instruction is not None else found["instruction"], found["answer"])


def _from_json(text: str, names: tuple[str, ...]) -> dict[str, str]:
    """Texts under `names` of the first JSON object that has one of them."""
    inner = _FENCED.sub(r"\1", text)
    start = inner.find("{")
    while start >= 0:
        value = _object(inner, start)
        found = {name: value[name].strip() for name in names if isinstance(value.get(name), str)}
        if found:
            return found
        start = inner.find("{", start + 1) if start < 4 * len(names) else -1
    return {}


def _object(text: str, start: int) -> Mapping[str, Any]:
    try:
        value, _ = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _from_sections(text: str, mark: str, names: tuple[str, ...]) -> dict[str, str]:
    """Whole sections only, and none that comes twice."""
    found = {}
    for name in names:
        pattern = rf"^\[\[{mark} {name}\]\][ \t]*\n(.*?)\n[ \t]*\[\[{mark} end\]\]"
        sections = re.findall(pattern, text, re.S | re.M)
        if len(sections) == 1:
            found[name] = sections[0].strip()
    return found
