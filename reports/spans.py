"""The stretch of a record that a decision points at (`path`, `start`, `stop` in its detail), with its surroundings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from rich.text import Text

_STEP: Final = re.compile(r"[^.\[\]]+")
_AROUND: Final = 80
_LONGEST: Final = 600
_SURE: Final = 40  # characters that must agree before a place is believed


@dataclass(frozen=True)
class Span:
    """Where a stage found something: the column's path, the text there, and what stands before and after it."""

    stage: str
    path: str
    before: str
    text: str
    after: str


def span_of(stage: str, detail: Any, record: Mapping[str, Any]) -> Span | None:
    """The span that a decision's detail names, or None where it names none or the record's text is not at hand."""
    if not isinstance(detail, Mapping) or not {"path", "start", "stop"} <= detail.keys():
        return None
    found = str(detail.get("text") or "")
    text, start, stop = _at(record, str(detail["path"])), detail["start"], detail["stop"]
    if text is None or not text[start:stop].startswith(found[:_SURE]):
        # The text at hand is not the one that was decided on (it was rewritten before, say).
        return Span(stage, str(detail["path"]), "", found, "") if found else None
    before, after = text[max(0, start - _AROUND) : start], text[stop : stop + _AROUND]
    return Span(stage, str(detail["path"]), before, text[start:stop], after)


def _at(record: Mapping[str, Any], path: str) -> str | None:
    """The string at a path such as `prompt` or `messages[2].content`."""
    value: Any = record
    for step in _STEP.findall(path):
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value if isinstance(value, str) else None


def highlighted(span: Span) -> Text:
    """The span in its surroundings, marked so that it reads without colours too."""
    text = span.text if len(span.text) <= _LONGEST else f"{span.text[:_LONGEST]}…"
    return (
        Text("…" + span.before, "dim")
        .append("⟦", "bold")
        .append(text, "bold reverse")
        .append("⟧", "bold")
        .append(span.after + "…", "dim")
    )
