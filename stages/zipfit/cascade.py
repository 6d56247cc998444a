"""The best rows by an exact score, with few exact evaluations.

A linear model of cheap features, fitted on exactly scored pilots, predicts every row's value. The best rows by that
prediction are scored against a few pivot targets, which sharpens it, and the best of them exactly: this gives a cut.
Every row whose prediction plus a margin (from the largest error on pilots left out of the fit) reaches the cut takes
the same two steps, until there is none left. What is returned is exact. A search can go on to more of the best rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.room import computed, filled, slices
from stages.contract import BoolArray, IntArray
from stages.zipfit.ranking import Ties, lowest

Floats = npt.NDArray[np.float64]

PILOTS: Final = 500
PIVOTS: Final = 8
_FOLDS: Final = 5
_RIDGE: Final = 1e-3
_WIDEST: Final = 5.0  # one odd pilot would cost thousands of evaluations
_SLACK: Final = 1.25
_STEP: Final = 128
_PIECE: Final = 4_096


class Model(NamedTuple):
    """A ridge regression and the errors it made on pilots that it had not seen."""

    centre: Floats
    scale: Floats
    weights: Floats
    errors: Floats

    def predict(self, features: Floats) -> Floats:
        """One value per row of `features`."""
        return np.asarray(_design(features, self.centre, self.scale) @ self.weights)

    def learn(self, errors: Floats) -> Model:
        """The same model with more errors known. The best rows are unlike the pilots: their errors count as well."""
        return self._replace(errors=np.concatenate([self.errors, errors]))

    @property
    def margin(self) -> float:
        """A quarter more than the largest underestimate known, but no more than five standard deviations of them."""
        return float(min(_SLACK * np.max(self.errors, initial=0.0), _WIDEST * np.std(self.errors)))


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

    features: cheap features of the named rows; pivots: their values against the pivot targets; exact: their values.
    """

    features: Callable[[IntArray], Floats]
    pivots: Callable[[IntArray], Floats]
    exact: Callable[[IntArray], Floats]


class Found(NamedTuple):
    """What is known of the rows: `value` is exact where `is_exact`, else the prediction."""

    value: Floats
    is_exact: BoolArray


def fit_model(features: Floats, values: Floats) -> Model:
    """Ridge regression with errors from five folds (values minus predictions)."""
    centre, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    design = _design(features, centre, scale)
    fold = np.arange(len(values)) % _FOLDS
    errors = np.zeros(len(values))
    for k in range(_FOLDS):
        held = fold == k
        errors[held] = values[held] - design[held] @ _solve(design[~held], values[~held])
    return Model(centre, scale, _solve(design, values), errors)


def pilot_rows(ties: Ties, usable: BoolArray, count: int = PILOTS) -> IntArray:
    """Rows of the lowest content hashes: a random sample that does not depend on the order of the rows."""
    return lowest(usable, count, lambda rows: (ties[rows],))


def choose_pivots(values: Floats, aggregated: Floats, count: int = PIVOTS) -> IntArray:
    """Targets (columns of the pilots' `values`) that together explain the aggregated value best, found greedily."""
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
    """A search under way: which rows have which kind of value."""

    def __init__(
        self, problem: Problem, first: Model, predicted: Floats, pilots: IntArray, pilot_values: Floats, rank: Affine
    ) -> None:
        """`predicted` by the model `first`, NaN for rows that cannot be ranked."""
        self.problem, self.first, self.rank, self.k = problem, first, rank, 0
        self.second = fit_model(np.hstack([problem.features(pilots), problem.pivots(pilots)]), pilot_values)
        self.predicted, self.value = predicted, filled(len(predicted), np.float64, [predicted])
        self.score = rank.scores(predicted)
        self.is_sharp = np.isnan(predicted)
        self.is_exact = np.zeros(len(predicted), np.bool_)
        self.learn(pilots, pilot_values)
        self.is_exact[pilots] = True

    def find(self, k: int) -> Found:
        """Exact values for at least the best `k` rows, beginning with what an earlier call with a lower `k` found.

        An exact row beyond the best `k` may be worse than rows that were never evaluated.
        """
        more, self.k = k - self.k, max(k, self.k)
        if more > 0:
            self._run(more)
        return Found(self.value, self.is_exact)

    def _run(self, more: int) -> None:
        """Sharpen and evaluate until no row is left that could be among the best."""
        self._sharpen(self._top(~self.is_exact & ~self.is_sharp, more + more // 2))
        self._evaluate(self._top(~self.is_exact & self.is_sharp, more))
        self._sharpen(self._reaching(~self.is_exact & ~self.is_sharp, self.first))
        while len(rows := self._reaching(~self.is_exact & self.is_sharp, self.second)):
            self._evaluate(self._best_of(rows, max(_STEP, self.k // 20)))

    def learn(self, rows: IntArray, values: Floats) -> None:
        """Give rows another value, and so another score."""
        self.value[rows] = values
        self.score[rows] = self.rank.slope * values + self.rank.offset[rows]

    def cut(self, k: int) -> float:
        """The k-th best exact score."""
        return _kth(self.score[self.is_exact], k)

    def _reaching(self, among: BoolArray, model: Model) -> IntArray:
        margin, cut = self.rank.slope * model.margin, self.cut(self.k)
        parts = slices(len(among))
        found = [np.flatnonzero(among[part] & (self.score[part] + margin >= cut)) + part.start for part in parts]
        return np.concatenate([np.empty(0, np.int64), *found])

    def _top(self, among: BoolArray, count: int) -> IntArray:
        return lowest(among & ~np.isnan(self.score), count, lambda rows: (-self.score[rows],))

    def _best_of(self, rows: IntArray, count: int) -> IntArray:
        return rows[np.argsort(-self.score[rows], kind="stable")[:count]]

    def _sharpen(self, rows: IntArray) -> None:
        for part in _parts(rows):
            self.learn(part, self.second.predict(np.hstack([self.problem.features(part), self.problem.pivots(part)])))
        self.is_sharp[rows] = True

    def _evaluate(self, rows: IntArray) -> None:
        for part in _parts(rows):
            exact = self.problem.exact(part)
            self.second = self.second.learn(exact - self.value[part])
            self.first = self.first.learn(exact - self.predicted[part])
            self.learn(part, exact)
        self.is_exact[rows] = True

    def expected_missed(self, k: int) -> float:
        """Expected number of rows left out that belong among the best `k`, from the errors on pilots."""
        if k < 1:
            return 0.0
        return sum(
            self._missed(model, np.flatnonzero(~self.is_exact & ~np.isnan(self.value) & rows), self.cut(k))
            for model, rows in ((self.first, ~self.is_sharp), (self.second, self.is_sharp))
        )

    def _missed(self, model: Model, rows: IntArray, cut: float) -> float:
        errors, missed = np.sort(model.errors), 0
        for part in slices(len(rows)):
            needed = (cut - self.score[rows[part]]) / self.rank.slope
            missed += int((len(errors) - np.searchsorted(errors, needed, side="left")).sum())
        return missed / max(1, len(errors))


def _kth(scores: Floats, k: int) -> float:
    """The k-th largest score; minus infinity where there are fewer."""
    if len(scores) < k or k < 1:
        return -np.inf if k >= 1 else np.inf
    return float(np.partition(scores, len(scores) - k)[len(scores) - k])


def _parts(rows: IntArray) -> list[IntArray]:
    """Pieces of rows in storage order, small enough to hold their texts."""
    rows = np.sort(rows)
    return [rows[start : start + _PIECE] for start in range(0, len(rows), _PIECE)]


def _design(features: Floats, centre: Floats, scale: Floats) -> Floats:
    return np.hstack([np.ones((len(features), 1)), (features - centre) / scale])


def _solve(design: Floats, values: Floats) -> Floats:
    penalty = np.full(design.shape[1], _RIDGE * len(design))
    penalty[0] = 0.0
    return np.asarray(np.linalg.solve(design.T @ design + np.diag(penalty + 1e-9), design.T @ values))
