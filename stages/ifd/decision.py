"""From losses to decisions for `ifd`: rows that cannot be judged go, then those above the limit, then the easiest."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stages.contract import BoolArray, Decisions, IntArray, Scores
from stages.ifd.measure import Floats, Ratio, quotient
from stages.zipfit.ranking import Ties, TokenBudget, best_first, mask, quota, shortfall, tie_breaker, within

_WORTH_SAYING = 0.01
"""Share of rows with a truncated text from which on a warning says so."""


class Settings(NamedTuple):
    """The stage's parameters that a decision needs."""

    keep: float | int | TokenBudget
    ratio: Ratio
    max_ifd: float | None
    min_tokens: int


class _Columns(NamedTuple):
    conditional: Floats
    alone: Floats
    target: Floats
    context: Floats
    lost: BoolArray
    problem: pa.StringArray
    ties: Ties


def decide(scores: Scores, settings: Settings) -> Decisions:
    """Keep the rows of the highest IFD up to `max_ifd`, within the quota; equal ones by content hash."""
    columns = _read(scores)
    value = quotient(columns.conditional, columns.alone, settings.ratio)
    drops = _drops(columns, value, settings)
    eligible = pc.is_null(pc.coalesce(*drops)).to_numpy(zero_copy_only=False)
    limit = quota(settings.keep, len(value))
    tokens: IntArray = np.nan_to_num(columns.target + columns.context).astype(np.int64)
    chosen = within(best_first(np.where(eligible, value, np.nan), columns.ties), tokens, limit)
    keep = mask(chosen, len(value))
    kept = pc.if_else(pa.array(keep), "kept: ifd within the quota", "ifd below the cut")
    return Decisions(
        keep,
        pc.coalesce(*drops, kept),
        np.where(np.isfinite(value), value, np.nan),
        warnings=(*shortfall(len(chosen), limit), *_losses_told(columns)),
    )


def _drops(columns: _Columns, value: Floats, settings: Settings) -> list[pa.StringArray]:
    """Reasons to drop, the first that holds counts; null where one does not hold."""
    shown = pc.round(pa.array(value), 4).cast(pa.string())
    drops = [
        columns.problem,
        _where(columns.target < settings.min_tokens, f"response too short: under {settings.min_tokens} tokens;",
               pc.coalesce(pa.array(columns.target, from_pandas=True).cast(pa.int64()).cast(pa.string()), "")),
        _where(~np.isfinite(value), "ifd is not a number", None),
    ]  # fmt: skip
    if settings.max_ifd is not None:
        drops.append(_where(value > settings.max_ifd, f"ifd over {settings.max_ifd:g}: the prompt is no help;", shown))
    return drops


def _where(hit: BoolArray, kind: str, particulars: pa.StringArray | None) -> pa.StringArray:
    text = pa.scalar(kind) if particulars is None else pc.binary_join_element_wise(kind, particulars, " ")
    return pc.if_else(pa.array(hit), text, pa.scalar(None, pa.string()))


def _losses_told(columns: _Columns) -> tuple[str, ...]:
    n, lost = len(columns.lost), int(columns.lost.sum())
    if not n or lost < _WORTH_SAYING * n:
        return ()
    return (f"{lost:,} of {n:,} rows did not fit the model's window whole (columns `truncated` and `cut`)",)


def _read(scores: Scores) -> _Columns:
    names = ["loss_conditional", "loss_alone", "n_target_tokens", "n_context_tokens", "truncated", "cut", "problem"]
    table = scores.table([*names, "content_hash"]).combine_chunks()
    lost = pc.fill_null(pc.or_(table["truncated"].cast(pa.bool_()), table["cut"].cast(pa.bool_())), False)
    hashes = pa.concat_arrays(
        [pa.array([], pa.string()), *(chunk.cast(pa.string()) for chunk in table["content_hash"].chunks)]
    )
    conditional, alone, target, context = (_floats(table[name]) for name in names[:4])
    problem = pa.concat_arrays([pa.array([], pa.string()), *table["problem"].chunks])
    return _Columns(conditional, alone, target, context, np.asarray(lost, np.bool_), problem, tie_breaker(hashes))


def _floats(column: pa.ChunkedArray) -> Floats:
    return np.asarray(column.cast(pa.float64()).to_numpy(), np.float64)
