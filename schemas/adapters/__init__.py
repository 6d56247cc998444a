"""Adapters: from a decoded source row of any format found in the wild to canonical drafts.

An adapter is data: a name, a test for its shape and a pure function. Nothing of a source row is lost: what has no
column of its own is in `meta` under its original key.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from schemas.adapters import (
    alpaca,
    canonical,
    chat,
    code_problems,
    exploded,
    icpc,
    io_problems,
    mathematics,
    preference,
    programs,
    sandboxfusion,
    text,
    traces,
)
from schemas.adapters.base import Adapter, Row, wrong_type
from schemas.adapters.fields import field_map, mapped
from schemas.errors import BadRow, RecipeError, nearest
from schemas.record import Draft

__all__ = ["ADAPTERS", "UNKNOWN", "Adapter", "Detection", "adapt", "adapter", "detect", "field_map", "mapped"]

ADAPTERS: Final[tuple[Adapter, ...]] = (
    canonical.CANONICAL,
    icpc.PACKAGE,
    programs.EXERCISM,
    programs.QUIXBUGS,
    sandboxfusion.SANDBOX,
    code_problems.MBPP_PLUS,
    code_problems.MBPP,
    code_problems.LEETCODE,
    programs.MULTIPL_E,
    code_problems.ATTEMPTS,
    code_problems.HUMANEVAL,
    io_problems.LIVECODEBENCH,
    io_problems.PRIMEINTELLECT,
    io_problems.CODE_CONTESTS,
    io_problems.IO_PROBLEM,
    code_problems.KODCODE,
    code_problems.PROMPTS,
    code_problems.CRUXEVAL,
    programs.SAMPLED,
    programs.REWRITE,
    traces.MINT,
    traces.TAU_BENCH,
    traces.FIREACT,
    traces.WEB_AGENT,
    traces.SWE_AGENT,
    traces.INTERCODE,
    traces.SELF_REFINE,
    traces.CHOICE,
    traces.VERIFIABLE,
    exploded.NATURAL,
    exploded.SELF_INSTRUCT,
    exploded.MODEL_SOLUTIONS,
    exploded.SAMPLES,
    mathematics.GSM8K,
    mathematics.MATH,
    mathematics.INFORMAL,
    mathematics.FORMAL,
    preference.CHOSEN,
    preference.KTO,
    preference.ALPACA_EVAL,
    preference.PANDALM,
    preference.PERSONA,
    chat.OASST_TREE,
    chat.OASST_MESSAGE,
    chat.SHAREGPT,
    chat.MESSAGES,
    alpaca.GORILLA,
    alpaca.ALPACA,
    alpaca.PAIRS,
    text.CODE_FILE,
    chat.TAGGED,
    text.TEXT,
)
UNKNOWN: Final = "unknown"
_BY_NAME: Final = {each.name: each for each in ADAPTERS}


@dataclass(frozen=True)
class Detection:
    """Which adapter fits a sample of rows, why, for which share of them, and what else was found in it."""

    adapter: str
    why: str
    share: float
    others: dict[str, int]


def detect(rows: Sequence[Any]) -> Detection:
    """The adapter that fits most rows of a sample; `adapter` is "unknown" where none fits any."""
    found = [_fitting(row) for row in rows]
    counts = Counter(name for name, _ in found)
    known = [(count, name) for name, count in counts.items() if name != UNKNOWN]
    if not known:
        return Detection(UNKNOWN, "no known format has these fields" if rows else "no rows", 0.0, {})
    most = max(count for count, _ in known)
    best = next(name for name, _ in found if name != UNKNOWN and counts[name] == most)
    others = {name: count for name, count in counts.items() if name != best}
    return Detection(best, next(why for name, why in found if name == best), most / len(rows), others)


def _fitting(row: Any) -> tuple[str, str]:
    try:
        shaped = _as_row(row)
    except BadRow:
        return UNKNOWN, ""
    return next(((each.name, why) for each in ADAPTERS if (why := each.matches(shaped))), (UNKNOWN, ""))


def adapter(name: str) -> Adapter:
    """The adapter of that name. RecipeError, with the nearest name, where there is none."""
    found = _BY_NAME.get(name)
    if found is None:
        raise RecipeError(f"no format '{name}'; {nearest(name, _BY_NAME)}")
    return found


def adapt(row: Any, primary: Adapter) -> list[Draft]:
    """Drafts of one row: by `primary` where the row is of its shape, else by any adapter whose shape it has.

    Raises BadRow, from `primary`, for a row of no known shape.
    """
    shaped = row if type(row) is dict else _as_row(row)
    if primary.matches(shaped):
        return primary.read(shaped)
    for other in ADAPTERS:
        if other is not primary and other.matches(shaped):
            return other.read(shaped)
    return primary.read(shaped)


def _as_row(row: Any) -> Row:
    """A row as an object: bare text is a document, a bare list of turns is a conversation."""
    if isinstance(row, Mapping):
        return row
    if isinstance(row, str):
        return {"text": row}
    if isinstance(row, list | tuple) and row and all(isinstance(turn, Mapping) for turn in row):
        return {"messages": list(row)}
    raise wrong_type("row", row, "an object")
