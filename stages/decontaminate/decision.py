"""Deciding from the matches: which stretches are common phrases, and which records repeat too much of an item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stages.contract import Decisions, Scores
from stages.decontaminate.index import HOWS, NEAR
from stages.decontaminate.items import FIELDS
from stages.decontaminate.match import FLOOR
from stages.decontaminate.phrases import Floats, discount
from stages.decontaminate.tokens import Ints
from stages.decontaminate.wording import Item, detail, reason
from stages.text import explode

_NOTHING: Final = "kept: nothing in common"


class Limits(NamedTuple):
    """What decides: share of a text, share of one of fewer telling tokens than `short` gives by how it is matched,
    Jaccard similarity (None: never), which fields, and how many records make a stretch of an item a common phrase
    (None: no number does)."""

    threshold: float
    short_threshold: float
    short: Mapping[int, int]
    near: float | None
    fields: Sequence[str]
    common: int | None


class Table(NamedTuple):
    """All matches of a pool by row, the content that each row has, and which item, field and way each is about."""

    rows: Ints
    contents: Ints
    matches: pa.StructArray
    items: Ints
    fields: Ints
    hows: Ints


def decide(scores: Scores, limits: Limits) -> Decisions:
    """Decisions for every row of the pool."""
    table = _read(scores)
    before = _numbers(table.matches, "share")
    shares = _without_common(table, before, limits.common)
    over = _over(table, shares, limits)
    best = _best_of_rows(table, shares, over, limits.fields)
    items = _items(scores, table.items[best])
    keep, score = np.ones(len(scores), np.bool_), np.full(len(scores), np.nan)
    rows = table.rows[best]
    keep[rows], score[rows] = ~over[best], shares[best]
    reasons: list[str] = [_NOTHING] * len(scores)
    related: list[str | None] = [None] * len(scores)
    details: list[str | None] = [None] * len(scores)
    for match, row, view in zip(
        best.tolist(), rows.tolist(), table.matches.take(pa.array(best)).to_pylist(), strict=True
    ):
        item, share = items[view["item"]], float(shares[match])
        reasons[row] = reason(view, share, item, bool(over[match]))
        related[row] = item.name if over[match] else None
        details[row] = detail(view, share, item)
    return Decisions(
        keep, reasons, score, related_id=related, detail=details, warnings=_warnings(table, before, shares, limits)
    )


def _read(scores: Scores) -> Table:
    rows, contents, parts = [np.zeros(0, np.int64)], list[pa.Array](), list[pa.StructArray]()
    start = 0
    for batch in scores.scores(["content_hash", "matches"]):
        matches, parents = explode(batch["matches"])
        rows.append(parents + start)
        contents.append(batch["content_hash"].take(pa.array(parents)))
        parts.append(matches)
        start += batch.num_rows
    found = pa.concat_arrays(parts)
    codes = pa.concat_arrays(contents).dictionary_encode().indices.to_numpy().astype(np.int64)
    return Table(np.concatenate(rows), codes, found, *(_numbers(found, name) for name in ("item", "field", "how")))


def _numbers(matches: pa.StructArray, name: str) -> npt.NDArray[Any]:
    values = np.asarray(matches.field(name).to_numpy(zero_copy_only=False))
    return values if values.dtype.kind == "f" else values.astype(np.int64)


def _without_common(table: Table, shares: Floats, common: int | None) -> Floats:
    """The shares, without what are common phrases of the pool; Jaccard similarities stay."""
    at = np.flatnonzero(table.hows != NEAR)
    if common is None or not len(at):
        return shares
    keys = (table.items * len(FIELDS) + table.fields) * len(HOWS) + table.hows
    some = table.matches.take(pa.array(at))
    stretches = some.field("stretches")
    parts, spans = stretches.offsets.to_numpy().astype(np.int64), stretches.values.to_numpy().astype(np.int64)
    out = shares.copy()
    out[at] = discount(keys[at], table.contents[at], _numbers(some, "telling"), shares[at], parts, spans, common)
    return out


def _over(table: Table, shares: Floats, limits: Limits) -> npt.NDArray[np.bool_]:
    """Which matches reach their limit."""
    near = np.inf if limits.near is None else limits.near
    least = np.where(table.hows == NEAR, near, limits.threshold)
    short = np.array([limits.short.get(how, 0) for how in range(len(HOWS))], np.int64)[table.hows]
    least = np.where(_numbers(table.matches, "telling") < short, np.maximum(least, limits.short_threshold), least)
    return _counted(table, limits.fields) & (shares >= least - 1e-9)


def _counted(table: Table, fields: Sequence[str]) -> npt.NDArray[np.bool_]:
    return np.isin(table.fields, [FIELDS.index(name) for name in fields])


def _best_of_rows(table: Table, shares: Floats, over: npt.NDArray[np.bool_], fields: Sequence[str]) -> Ints:
    """For each row the match to tell about: one over its limit if there is any, then the largest share; of equal ones
    the first (they are in the order of the items)."""
    at = np.flatnonzero(_counted(table, fields) & (shares >= FLOOR))
    order = at[np.lexsort((at, table.hows[at] == NEAR, -shares[at], ~over[at], table.rows[at]))]
    rows = table.rows[order]
    return order[np.append(True, rows[1:] != rows[:-1])] if len(order) else order


def _items(scores: Scores, wanted: Ints) -> dict[int, Item]:
    """Names and files of items."""
    rows = np.unique(wanted)
    found = scores.inputs["against"].fetch(rows, ["source_id", "origin"])
    names = zip(found["source_id"].to_pylist(), found["origin"].to_pylist(), strict=True)
    return {row: Item.of(source_id, origin) for row, (source_id, origin) in zip(rows.tolist(), names, strict=True)}


def _warnings(table: Table, before: Floats, after: Floats, limits: Limits) -> tuple[str, ...]:
    """What common phrases saved from being dropped."""
    saved = _over(table, before, limits) & ~_over(table, after, limits)
    dropped = np.unique(table.rows[_over(table, after, limits)])
    rows = np.setdiff1d(table.rows[saved], dropped)
    if not len(rows):
        return ()
    return (
        f"{len(rows)} records share stretches of evaluation items that more than {limits.common} records hold; "
        "they were taken for common phrases and kept (`common: null` counts them)",
    )
