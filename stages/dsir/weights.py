"""Log importance weights from bucket counts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Floats = npt.NDArray[np.float64]
Normalise = Literal["sum", "per_token"]

_EPSILON: Final = 1e-8  # as in `data-selection`
_PIECE: Final = 4_096


def counts(columns: Iterable[pa.ListArray], buckets: int) -> Floats:
    """How often each bucket occurs in all rows."""
    total = np.zeros(buckets)
    for column in columns:
        for part in _pieces(column):
            total += np.bincount(part.flatten().to_numpy(), minlength=buckets)
    return total


def weighted_counts(column: pa.ListArray, weights: Floats, buckets: int) -> Floats:
    """How often each bucket occurs in all rows, where a row counts in proportion to its weight (1 on average)."""
    # Divided by the largest first, so that rows of equal weight count 1 exactly.
    times = weights / weights.max()
    times *= len(times) / times.sum()
    total, start = np.zeros(buckets), 0
    for part in _pieces(column):
        each = np.repeat(times[start : start + len(part)], np.diff(part.offsets.to_numpy()))
        total += np.bincount(part.flatten().to_numpy(), weights=each, minlength=buckets)
        start += len(part)
    return total


def log_ratio(target: Floats, raw: Floats, laplace: float) -> Floats:
    """log p_target - log p_raw per bucket. `laplace` is added to every count; 0 is the published estimate."""
    return _log_probability(target + laplace) - _log_probability(raw + laplace)


def log_weights(column: pa.ListArray, ratio: Floats, normalise: Normalise) -> Floats:
    """Log importance weight of each row: the sum over its n-grams, or their mean, which does not favour short rows."""
    parts = [_sums(part, ratio, normalise) for part in _pieces(column)]
    return np.concatenate([np.empty(0), *parts])


def _sums(column: pa.ListArray, ratio: Floats, normalise: Normalise) -> Floats:
    lengths = np.diff(column.offsets.to_numpy())
    parents = np.repeat(np.arange(len(column)), lengths)
    weighted = np.bincount(parents, weights=ratio[column.flatten().to_numpy()], minlength=len(column))
    sums = weighted.astype(np.float64)
    return sums if normalise == "sum" else sums / np.maximum(lengths, 1)


def _pieces(column: pa.ListArray) -> Iterator[pa.ListArray]:
    """A few thousand rows at a time: a row's n-grams take much more memory as 64-bit numbers than they do stored."""
    return (column.slice(start, _PIECE) for start in range(0, len(column), _PIECE))


def _log_probability(weights: Floats) -> Floats:
    total = weights.sum()
    return np.log(weights / (total if total else 1.0) + _EPSILON)
