"""From a score per row to the rows to keep."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt

from stages.contract import BoolArray, IntArray

Floats = npt.NDArray[np.float64]
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


def best_first(score: Floats, ties: Ties) -> IntArray:
    """Rows that have a score (not NaN), best first; equal scores by content hash, then by position."""
    order = np.lexsort((ties, -score))
    return order[: int(np.count_nonzero(~np.isnan(score)))]


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
    """The first 64 bits of hexadecimal content hashes."""
    digits = np.array(content_hash.to_pylist(), dtype="S32").view("S16").reshape(-1, 2)[:, 0]
    return np.array([int(item, 16) for item in digits.tolist()], np.uint64)


def reasons(score: Floats, keep: BoolArray, what: str) -> pa.StringArray:
    """Why each row stays or goes; `what` names the score."""
    dropped = np.where(np.isnan(score), "no text to compare", f"{what} below the cut")
    return pa.array(np.where(keep, f"kept: {what} within the quota", dropped), pa.string())


def shortfall(name: str, kept: int, limit: Quota) -> tuple[str, ...]:
    """A warning where there are fewer rows to keep than asked for, or none."""
    if np.isinf(limit.tokens) and kept < limit.rows:
        return (f"{name}: keep asks for {limit.rows} rows, but only {kept} can be kept",)
    if limit.rows and not kept:
        return (
            f"{name}: nothing can be kept: the best row has more than {limit.tokens:,.0f} tokens, or none has a text",
        )
    return ()
