"""The best rows by an exact score, with few exact evaluations.

Rows climb levels. A linear model of cheap features, fitted on exactly scored pilots, predicts every row's value.
Another that also knows the values against a few pivot targets predicts it better, one with more pivots better still. At
the top is the exact value. The best rows climb first, which gives a cut. Then every row climbs on whose prediction plus
a margin (from the largest error that the model is known to have made) reaches the cut, until there is none left. What
is returned is exact. A search can go on to more of the best rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.room import computed, filled, slices
from stages.contract import BoolArray, IntArray
from stages.zipfit.ranking import Ties, lowest
from stages.zipfit.regression import Model, fit_model

Floats = npt.NDArray[np.float64]

PILOTS: Final = 500
_PIVOTS: Final = (8, 32)
_STEP: Final = 128
_PIECE: Final = 4_096
_PREDICTED: Final = 1 << 15


class Affine(NamedTuple):
    """What turns a row's value into the score that rows are ranked by: `slope * value + offset`, slope > 0."""

    slope: float
    offset: Floats

    def scores(self, values: Floats) -> Floats:
        """The score of every row."""
        return computed(len(values), np.float64, lambda part: self.slope * values[part] + self.offset[part])


Ranking = Callable[[IntArray, Floats], Affine]
"""From the pilots and their exact values to what turns values into scores."""


class Problem(NamedTuple):
    """What the cascade asks its caller for.

    counts: how many pivots each level after the first has; features: cheap features of some rows; pivots: the named
    rows' values against so many of the pivots; exact: the named rows' values.
    """

    counts: tuple[int, ...]
    features: Callable[[IntArray | slice], Floats]
    pivots: Callable[[IntArray, int], Floats]
    exact: Callable[[IntArray], Floats]


class Pilots(NamedTuple):
    """Rows that everything is known of: values against the pivots (rows by pivots), and the values themselves."""

    rows: IntArray
    pivots: Floats
    values: Floats


class Found(NamedTuple):
    """What is known of the rows: `value` is exact where `is_exact`, else the prediction."""

    value: Floats
    is_exact: BoolArray


def pivot_counts(targets: int) -> tuple[int, ...]:
    """Numbers of pivots worth a level of their own: with more than half of the targets, the exact value is as cheap."""
    return tuple(count for count in _PIVOTS if 2 * count <= targets)


def pilot_rows(ties: Ties, usable: BoolArray, count: int = PILOTS) -> IntArray:
    """Rows of the lowest content hashes: a random sample that does not depend on the order of the rows."""
    return lowest(usable, count, lambda rows: (ties[rows],))


def choose_pivots(values: Floats, aggregated: Floats, count: int) -> IntArray:
    """Targets (columns of the pilots' `values`) that together explain the aggregated value best, best first."""
    chosen: list[int] = []
    left = aggregated - aggregated.mean()
    centred = values - values.mean(axis=0)
    norms = np.maximum(np.sqrt((centred**2).sum(axis=0)), 1e-12)
    for _ in range(min(count, values.shape[1])):
        fit = np.abs(left @ centred) / norms
        fit[chosen] = -1.0
        chosen.append(int(np.argmax(fit)))
        basis = centred[:, chosen]
        left = aggregated - aggregated.mean() - basis @ np.linalg.lstsq(basis, aggregated - aggregated.mean())[0]
    return np.array(chosen, np.int64)


class Search:
    """A search under way: which rows have climbed how far."""

    def __init__(self, problem: Problem, pilots: Pilots, usable: BoolArray, rank: Affine) -> None:
        """`usable`: the rows that can be ranked."""
        self.problem, self.rank, self.k = problem, rank, 0
        cheap = problem.features(pilots.rows)
        self.models = [
            fit_model(np.hstack([cheap, pilots.pivots[:, :count]]), pilots.values) for count in (0, *problem.counts)
        ]
        first = self._predict_all(usable)
        nowhere = [computed(len(first), np.float64, _unknown) for _ in problem.counts]
        self.predicted = [first, *nowhere]
        self.value, self.score = filled(len(first), np.float64, [first]), rank.scores(first)
        self.level = np.zeros(len(first), np.uint8)
        self._set(pilots.rows, pilots.values)
        self.level[pilots.rows] = len(self.models)

    @property
    def is_exact(self) -> BoolArray:
        """Which rows have climbed to the top."""
        return np.asarray(self.level == len(self.models))

    def find(self, k: int) -> Found:
        """Exact values for at least the best `k` rows, beginning with what an earlier call with a lower `k` found.

        An exact row beyond the best `k` may be worse than rows that were never evaluated.
        """
        more, self.k = k - self.k, max(k, self.k)
        if more > 0:
            self._run(more)
        return Found(self.value, self.is_exact)

    def _run(self, more: int) -> None:
        """Let the best rows climb, then all that could be among the best."""
        last = len(self.models) - 1
        for level in range(last + 1):
            self._climb(level, self._top(level, more + more * (last - level) // (2 * max(1, last))))
        while any(self._advance(level) for level in range(last + 1)):
            pass

    def cut(self, k: int) -> float:
        """The k-th best exact score."""
        return _kth(self.score[self.is_exact], k)

    def _advance(self, level: int) -> bool:
        """Let rows of a level climb that could be among the best; to the top, only the best of them. Were there any?"""
        rows = self._reaching(level)
        if level == len(self.models) - 1:
            rows = rows[np.argsort(-self.score[rows], kind="stable")[: max(_STEP, self.k // 20)]]
        self._climb(level, rows)
        return len(rows) > 0

    def _reaching(self, level: int) -> IntArray:
        margin, cut = self.rank.slope * self.models[level].margin, self.cut(self.k)
        parts = slices(len(self.level))
        found = [
            np.flatnonzero((self.level[part] == level) & (self.score[part] + margin >= cut)) + part.start
            for part in parts
        ]
        return np.concatenate([np.empty(0, np.int64), *found])

    def _top(self, level: int, count: int) -> IntArray:
        return lowest((self.level == level) & ~np.isnan(self.score), count, lambda rows: (-self.score[rows],))

    def _climb(self, level: int, rows: IntArray) -> None:
        """From a level to the next."""
        for part in _parts(rows):
            self._set(part, self._evaluate(part) if level + 1 == len(self.models) else self._predict(level + 1, part))
        self.level[rows] = level + 1

    def _set(self, rows: IntArray, values: Floats) -> None:
        self.value[rows] = values
        self.score[rows] = self.rank.slope * values + self.rank.offset[rows]

    def _predict_all(self, usable: BoolArray) -> Floats:
        starts = range(0, len(usable), _PREDICTED)
        pieces = (self.problem.features(slice(start, start + _PREDICTED)) for start in starts)
        predicted = filled(len(usable), np.float64, map(self.models[0].predict, pieces))
        predicted[~usable] = np.nan
        return predicted

    def _predict(self, level: int, rows: IntArray) -> Floats:
        pivots = self.problem.pivots(rows, self.problem.counts[level - 1])
        values = self.models[level].predict(np.hstack([self.problem.features(rows), pivots]))
        self.predicted[level][rows] = values
        return values

    def _evaluate(self, rows: IntArray) -> Floats:
        """Exact values, from which every model learns: the best rows are unlike the pilots."""
        exact = self.problem.exact(rows)
        errors = [exact - predicted[rows] for predicted in self.predicted]
        self.models = [model.learn(known) for model, known in zip(self.models, errors, strict=True)]
        return exact

    def expected_missed(self, k: int) -> float:
        """Expected number of rows left out that belong among the best `k`, from the errors the models have made."""
        if k < 1:
            return 0.0
        left, cut = ~np.isnan(self.value), self.cut(k)
        return sum(
            self._missed(model, np.flatnonzero(left & (self.level == level)), cut)
            for level, model in enumerate(self.models)
        )

    def _missed(self, model: Model, rows: IntArray, cut: float) -> float:
        errors, missed = np.sort(model.errors), 0
        for part in slices(len(rows)):
            needed = (cut - self.score[rows[part]]) / self.rank.slope
            missed += int((len(errors) - np.searchsorted(errors, needed, side="left")).sum())
        return missed / max(1, len(errors))


def _unknown(part: slice) -> Floats:
    return np.full(part.stop - part.start, np.nan)


def _kth(scores: Floats, k: int) -> float:
    """The k-th largest score; minus infinity where there are fewer."""
    if len(scores) < k or k < 1:
        return -np.inf if k >= 1 else np.inf
    return float(np.partition(scores, len(scores) - k)[len(scores) - k])


def _parts(rows: IntArray) -> list[IntArray]:
    """Pieces of rows in storage order, small enough to hold their texts."""
    rows = np.sort(rows)
    return [rows[start : start + _PIECE] for start in range(0, len(rows), _PIECE)]
