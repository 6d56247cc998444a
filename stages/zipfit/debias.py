"""Taking length out of a score: how far the bytes saved lie above what is usual for a text of that length."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.room import computed, slices

Floats = npt.NDArray[np.float64]


class Line(NamedTuple):
    """`value = intercept + slope * log(length)`, and the standard deviation around it."""

    intercept: float
    slope: float
    spread: float


def fit_line(length: Floats, value: Floats) -> Line:
    """Least squares. Lengths are positive; with fewer than two different ones the line is level."""
    x = np.log(length)
    if len(x) == 0:
        return Line(0.0, 0.0, 1.0)
    varied = float(x.std()) > 0
    slope = float(((x - x.mean()) * (value - value.mean())).mean() / x.var()) if varied else 0.0
    intercept = float(value.mean() - slope * x.mean())
    spread = float((value - intercept - slope * x).std())
    return Line(intercept, slope, spread if spread > 0 else 1.0)


def expected(line: Line, length: Floats) -> Floats:
    """What the line says for each length."""
    return np.asarray(line.intercept + line.slope * np.log(length))


def z_score(value: Floats) -> Floats:
    """Standard deviations above the mean, NaN where the value is; zeros for a constant."""
    count = sum(int(np.count_nonzero(~np.isnan(value[part]))) for part in slices(len(value)))
    if not count:
        return value
    mean = sum(float(np.nansum(value[part])) for part in slices(len(value))) / count
    spread = np.sqrt(sum(float(np.nansum((value[part] - mean) ** 2)) for part in slices(len(value))) / count)
    return computed(len(value), np.float64, lambda part: (value[part] - mean) / (spread if spread > 0 else 1.0))
