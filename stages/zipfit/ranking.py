"""From a score per row to the rows to keep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt

from schemas.room import slices
from stages.contract import BoolArray, IntArray

Floats = npt.NDArray[np.float64]
_DIGITS = 32
Ties = npt.NDArray[np.uint64]


class TokenBudget(BaseModel):
    """As many rows as fit, best first, into `tokens` words and punctuation marks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: float = Field(gt=0)


Keep = Annotated[StrictFloat, Field(gt=0, le=1)] | Annotated[StrictInt, Field(ge=1)] | TokenBudget
"""A fraction of the rows (with a decimal point), a number of rows, or a token budget."""


class Quota(NamedTuple):
    """How many rows, and how many tokens, may be kept."""

    rows: int
    tokens: float


def quota(keep: float | int | TokenBudget, n_rows: int) -> Quota:
    """What `keep` means for a stage that got `n_rows` rows."""
    if isinstance(keep, TokenBudget):
        return Quota(n_rows, keep.tokens)
    return Quota(keep if isinstance(keep, int) else round(keep * n_rows), np.inf)


def best_first(score: Floats, ties: Ties, most: int | None = None) -> IntArray:
    """Rows that have a score (not NaN), best first, at most `most`; equal scores by content hash, then by position."""
    count = len(score) if most is None else most
    return lowest(~np.isnan(score), count, lambda rows: (ties[rows], -score[rows]))


def lowest(among: BoolArray, count: int, keys: Callable[[IntArray], tuple[npt.NDArray[Any], ...]]) -> IntArray:
    """The first `count` of the rows that `among` marks, in ascending order of their keys (the last key counts most),
    then of position. Looks at a slice of the rows at a time.
    """
    best = np.empty(0, np.int64)
    for part in slices(len(among)):
        rows = np.concatenate([best, np.flatnonzero(among[part]) + part.start])
        best = np.sort(rows[np.lexsort(keys(rows))[:count]]) if len(rows) > count else rows
    return best[np.lexsort(keys(best))]


def within(order: IntArray, tokens: IntArray, limit: Quota) -> IntArray:
    """The first of `order` that fit the quota; a budget ends at the first row that would exceed it."""
    fit = int(np.searchsorted(np.cumsum(tokens[order]), limit.tokens, side="right"))
    return order[: min(limit.rows, fit)]


def mask(rows: IntArray, n_rows: int) -> BoolArray:
    """True at `rows`."""
    out = np.zeros(n_rows, np.bool_)
    out[rows] = True
    return out


def tie_breaker(content_hash: pa.StringArray) -> Ties:
    """The first 64 bits of hexadecimal content hashes (32 digits each)."""
    column = content_hash.cast(pa.large_binary())
    _, offsets, data = column.buffers()
    if not len(column):
        return np.zeros(0, np.uint64)
    start = int(np.frombuffer(offsets, np.int64, count=1, offset=8 * column.offset)[0])
    digits = np.frombuffer(data, np.uint8, count=_DIGITS * len(column), offset=start).reshape(-1, _DIGITS)[:, :16]
    nibbles = np.where(digits < ord("a"), digits - ord("0"), digits - ord("a") + 10).astype(np.uint8)
    return (nibbles[:, ::2] << 4 | nibbles[:, 1::2]).view(">u8").ravel().astype(np.uint64)


def reasons(score: Floats, keep: BoolArray, what: str) -> pa.StringArray:
    """Why each row stays or goes; `what` names the score."""
    # Not numpy's strings, which take four bytes for each character of the longest.
    dropped = pc.if_else(pa.array(np.isnan(score)), "no text to compare", f"{what} below the cut")
    return pc.if_else(pa.array(keep), f"kept: {what} within the quota", dropped)


def shortfall(kept: int, limit: Quota, unspent: float = 0.0) -> tuple[str, ...]:
    """A warning where there are fewer rows to keep than asked for, or none, or where `unspent` tokens of a budget are
    left to rows that may not be taken.
    """
    if np.isinf(limit.tokens) and kept < limit.rows:
        return (f"keep asks for {limit.rows} rows, but only {kept} can be kept",)
    if limit.rows and not kept:
        return (f"nothing can be kept: the best row has more than {limit.tokens:,.0f} tokens, or none has a text",)
    if unspent > 0:
        spent = limit.tokens - unspent
        return (f"keep asks for {limit.tokens:,.0f} tokens, but rows with only {spent:,.0f} can be kept",)
    return ()
