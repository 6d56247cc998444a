"""Taking length out of a score: how far a value lies above what is usual for texts of its compressed length."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_BINS: Final = 40
_FEWEST: Final = 25  # rows per bin, below which medians are noise
_MAD_TO_SD: Final = 1.4826


class Trend(NamedTuple):
    """Median and spread (median absolute deviation, as a standard deviation) within bins of the length."""

    edges: Floats
    centre: Floats
    spread: Floats


def fit_trend(length: Floats, value: Floats) -> Trend:
    """Bins of about equal numbers of rows, at most 40 and none with fewer than 25 rows. Needs at least one row."""
    bins = max(1, min(_BINS, len(length) // _FEWEST))
    edges = np.unique(np.quantile(length, np.arange(1, bins) / bins))
    place = np.searchsorted(edges, length, side="right")
    groups = [value[place == k] for k in range(len(edges) + 1)]
    overall = _robust(value)
    found = np.array([_robust(group, overall) for group in groups])
    return Trend(edges, found[:, 0], found[:, 1])


def centre_and_spread(trend: Trend, length: Floats) -> tuple[Floats, Floats]:
    """The trend at each row's length."""
    place = np.searchsorted(trend.edges, length, side="right")
    return trend.centre[place], trend.spread[place]


def detrend(trend: Trend, length: Floats, value: Floats) -> Floats:
    """Standard deviations above what is usual at this length."""
    centre, spread = centre_and_spread(trend, length)
    return (value - centre) / spread


def z_score(value: Floats) -> Floats:
    """Standard deviations above the mean, NaN where the value is; zeros for a constant."""
    if not np.isfinite(value).any():
        return value
    spread = float(np.nanstd(value))
    return (value - float(np.nanmean(value))) / (spread if spread > 0 else 1.0)


def _robust(values: Floats, otherwise: tuple[float, float] = (0.0, 1.0)) -> tuple[float, float]:
    """Median and spread; the spread of `otherwise` where all values are (nearly) the same."""
    if not len(values):
        return otherwise
    middle = float(np.median(values))
    spread = float(np.median(np.abs(values - middle))) * _MAD_TO_SD
    return middle, spread if spread > 0 else otherwise[1]
