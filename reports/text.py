"""A record's content as one readable text, excerpts of it, and word-by-word differences."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal

Change = tuple[Literal["same", "removed", "added"], str]
"""A piece of text and what became of it."""

_TOKEN: Final = re.compile(r"\w+|\s+|[^\w\s]", re.UNICODE)
_PARTS: Final = ("prompt", "text", "reasoning", "completion", "rejected", "answer")
MAX_WORDS: Final = 4000
"""Differences look at this many tokens of each side at most: the comparison is quadratic."""


def plain(record: Mapping[str, Any]) -> str:
    """What a reader would call the record's text: its turns, or its text columns with their names."""
    turns = record.get("messages") or ()
    if turns:
        return "\n\n".join(f"{turn.get('role') or '?'}: {turn.get('content') or ''}" for turn in turns)
    named = [(name, str(record[name])) for name in _PARTS if record.get(name)]
    if len(named) == 1:
        return named[0][1]
    return "\n\n".join(f"{name}: {value}" for name, value in named)


def excerpt(text: str, length: int = 240) -> str:
    """At most `length` characters on one line, with an ellipsis where something was cut."""
    line = " ".join(text[: 4 * length].split())
    return line if len(line) <= length and len(text) <= 4 * length else line[: length - 1] + "…"


def word_diff(before: str, after: str) -> list[Change]:
    """Pieces that, `added` left out, make `before` and, `removed` left out, make `after`.

    Beyond MAX_WORDS tokens of a differing middle part the rest counts as replaced as a whole.
    """
    old, new = _TOKEN.findall(before), _TOKEN.findall(after)
    head = _common(old, new)
    tail = _common(old[head:][::-1], new[head:][::-1])
    middle_old, middle_new = old[head : len(old) - tail], new[head : len(new) - tail]
    changes: list[Change] = [("same", "".join(old[:head]))]
    changes.extend(_middle(middle_old, middle_new))
    changes.append(("same", "".join(old[len(old) - tail :])))
    return list(_merged(changes))


def shortened(changes: Sequence[Change], context: int = 60) -> list[Change]:
    """The same changes with long unchanged stretches cut to `context` characters on either side.

    Where nothing changed at all, the text's beginning.
    """
    if len(changes) == 1 and changes[0][0] == "same":
        return [("same", excerpt(changes[0][1], 4 * context))]
    short: list[Change] = []
    for index, (kind, text) in enumerate(changes):
        if kind == "same" and len(text) > 2 * context + 1:
            before = text[:context] if index > 0 else ""
            after = text[-context:] if index < len(changes) - 1 else ""
            text = f"{before}…{after}"
        short.append((kind, text))
    return short


def _middle(old: list[str], new: list[str]) -> Iterator[Change]:
    if len(old) > MAX_WORDS or len(new) > MAX_WORDS:
        yield "removed", "".join(old)
        yield "added", "".join(new)
        return
    for kind, i1, i2, j1, j2 in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            yield "same", "".join(old[i1:i2])
        else:
            yield "removed", "".join(old[i1:i2])
            yield "added", "".join(new[j1:j2])


def _merged(changes: Sequence[Change]) -> Iterator[Change]:
    """Without empty pieces; neighbours of a kind joined."""
    pending: Change | None = None
    for change in changes:
        if not change[1]:
            continue
        if pending and pending[0] == change[0]:
            pending = (pending[0], pending[1] + change[1])
            continue
        if pending:
            yield pending
        pending = change
    if pending:
        yield pending


def _common(old: Sequence[str], new: Sequence[str]) -> int:
    """Length of the common beginning."""
    pairs = zip(old, new, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(old), len(new)))
