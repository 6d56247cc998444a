"""How well texts compress together with targets (ZIP-FIT, Obbad et al. 2024), over many targets at a time."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from stages.contract import IntArray
from stages.zipfit.kernel import GzipLengths, gzip_lengths
from stages.zipfit.packed import Packed

Floats = npt.NDArray[np.float64]
Aggregation = Literal["mean", "max", "top_m"]

_CELLS: Final = 1 << 20  # pairs at a time: bounds memory however many targets there are


class Rule(NamedTuple):
    """How the values for many targets become one: weighted mean, maximum, or mean of the `top_m` largest."""

    how: Aggregation
    top_m: int
    weights: Floats


class Fit(NamedTuple):
    """Per text: gzip length, bytes saved and alignment aggregated over the targets, and the target aligned best.

    `gain` of a pair is C(x) + C(t) - C(x+t); `alignment` divides it by max(C(x), C(t)). `each`: alignments per target.
    """

    c_x: npt.NDArray[np.int32]
    gain: Floats
    alignment: Floats
    best: IntArray
    each: npt.NDArray[np.float32] | None


def fit_texts(texts: Packed, targets: Packed, level: int, rule: Rule, each: bool = False, threads: int = 1) -> Fit:
    """Score texts against all targets, exactly."""
    step = max(1, _CELLS // max(1, len(targets)))
    parts = [
        _aggregate(gzip_lengths(texts.part(start, min(start + step, len(texts))), targets, level, threads), rule, each)
        for start in range(0, len(texts), step)
    ] or [_aggregate(gzip_lengths(texts, targets, level), rule, each)]
    each_part = [part.each for part in parts if part.each is not None]
    return Fit(
        np.concatenate([part.c_x for part in parts]),
        np.concatenate([part.gain for part in parts]),
        np.concatenate([part.alignment for part in parts]),
        np.concatenate([part.best for part in parts]),
        np.concatenate(each_part) if each_part else None,
    )


def gains(found: GzipLengths) -> Floats:
    """Bytes saved by compressing each text together with each target."""
    return (found.texts[:, None] + found.targets[None, :] - found.pairs).astype(np.float64)


def combine(values: Floats, rule: Rule) -> Floats:
    """One value per row of `values` (texts by targets)."""
    if rule.how == "mean":
        # Not a matrix product: its rounding depends on the number of rows, and scores must not.
        return np.asarray((values * rule.weights).sum(axis=1))
    top = min(1 if rule.how == "max" else rule.top_m, values.shape[1])
    return np.asarray(np.sort(values, axis=1)[:, -top:].mean(axis=1))


def _aggregate(found: GzipLengths, rule: Rule, each: bool) -> Fit:
    gain = gains(found)
    alignment = gain / np.maximum(found.texts[:, None], found.targets[None, :])
    return Fit(
        found.texts,
        combine(gain, rule),
        combine(alignment, rule),
        np.argmax(alignment, axis=1),
        alignment.astype(np.float32) if each else None,
    )
