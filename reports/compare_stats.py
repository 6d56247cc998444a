"""Intervals and tests over a few repetitions: Student's t, paired by seed, and Holm's correction for many tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, nan
from typing import Final

import numpy as np
from scipy.special import stdtr, stdtrit

LEVEL: Final = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean with its 95% confidence interval, and the two-sided p value of its being zero; nan for one value."""

    mean: float
    low: float
    high: float
    p: float


def interval(values: Sequence[float]) -> Interval:
    """Mean of `values` plus and minus t(0.975, n - 1) standard errors, with n - 1 in the standard deviation."""
    found = np.asarray(values, np.float64)
    mean, n = float(found.mean()), len(found)
    if n < 2:
        return Interval(mean, nan, nan, nan)
    error = float(found.std(ddof=1)) / n**0.5
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * error
    t = abs(mean) / error if error else (inf if mean else 0.0)
    return Interval(mean, mean - half, mean + half, float(2 * stdtr(n - 1, -t)))


def paired(first: Mapping[int, float], second: Mapping[int, float]) -> Interval:
    """The interval of first - second over the seeds that both have. Raises ValueError where there is none."""
    seeds = sorted(set(first) & set(second))
    if not seeds:
        raise ValueError("nothing to pair: no seed in both")
    return interval([first[seed] - second[seed] for seed in seeds])


def holm(values: Mapping[str, float]) -> dict[str, float]:
    """P values adjusted for as many tests as there are (Holm 1979); nan stays nan and counts as a test."""
    out: dict[str, float] = {}
    highest, n = 0.0, len(values)
    for rank, (name, p) in enumerate(sorted(values.items(), key=lambda item: (np.isnan(item[1]), item[1]))):
        highest = max(highest, min(1.0, (n - rank) * p)) if not np.isnan(p) else nan
        out[name] = highest
    return out
