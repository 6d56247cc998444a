"""Quad's bandit over clusters (Zhang et al. 2024, arXiv 2409.16986, section 4), with influence as a callable.

Each cluster is an arm. A round takes the arms of the highest cluster score and draws a few unseen rows from each; the
mean of their influence, in running standard deviations and less a threshold, is the arm's reward. An arm's neighbours
share in its reward and in the choice. An arm with a positive reward gives a batch of its rows. Everything follows from
the content of the rows and the seed: the order of the rows does not matter, nor does how many are asked for at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import log
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from stages.contract import IntArray
from stages.zipfit.ranking import Quota

Floats = npt.NDArray[np.float64]
Influence = Callable[[IntArray], Floats]
"""Influence of the named rows; not finite where a row has none."""

UNTOUCHED: Final = 0
WITH_CLUSTER: Final = 1  # taken unscored, with its cluster
SCORED: Final = 2  # scored and taken with its cluster
FILLED: Final = 3  # scored and taken at the end, since no cluster had anything better to give
_TOGETHER: Final = 256  # rows of a sweep asked for at a time


class Tuning(NamedTuple):
    """The bandit's constants.

    Attributes:
        alpha: weight of exploration, in standard deviations of influence.
        threshold: what a reward must exceed, in standard deviations of influence.
        relative: whether rewards count from the mean influence of all rows drawn so far, or from zero as published.
        sweep: whether every cluster is drawn from once before any gives rows (not in the published method, whose
            first clusters give theirs before anything is known of the others).
        arms: clusters per round.
        draws: rows scored per chosen cluster and round.
        batch: rows that a cluster gives at a time.
    """

    alpha: float
    threshold: float
    relative: bool
    sweep: bool
    arms: int
    draws: int
    batch: int


class Neighbours(NamedTuple):
    """For each arm its neighbours, itself among them, and their weights 1 - distance / limit."""

    arms: Sequence[IntArray]
    weights: Sequence[Floats]


@dataclass(frozen=True)
class Selection:
    """What the bandit did. Arrays over rows, then arrays over arms.

    Attributes:
        order: rows taken, in the order they were taken.
        how: per row one of the module's constants.
        influence: per row; NaN where it was never scored (or has none).
        asked: per row, whether it was scored.
        draws: per arm, rows scored.
        reward: per arm, the mean reward in standard deviations; NaN for an arm that was never drawn from.
        trace: after each round the number of rows scored and of rows taken.
        open: whether the quota still had room in the end.
    """

    order: IntArray
    how: npt.NDArray[np.int8]
    influence: Floats
    asked: npt.NDArray[np.bool_]
    draws: IntArray
    reward: Floats
    trace: tuple[tuple[int, int], ...]
    open: bool


class Purse:
    """What is left of a quota. It closes at the first row that would exceed it."""

    def __init__(self, limit: Quota, tokens: IntArray) -> None:
        self._rows, self._tokens, self._sizes = limit.rows, limit.tokens, tokens
        self.open = limit.rows > 0

    def pay(self, rows: IntArray) -> IntArray:
        """The first of `rows` that the quota still has room for."""
        fit = int(np.searchsorted(np.cumsum(self._sizes[rows]), self._tokens, side="right"))
        paid = rows[: min(self._rows, fit)]
        self._rows -= len(paid)
        self._tokens -= float(self._sizes[paid].sum())
        self.open = self._rows > 0 and len(paid) == len(rows)
        return paid


class Moments:
    """Running mean and standard deviation of everything seen."""

    def __init__(self) -> None:
        self._count, self.mean, self._squares = 0, 0.0, 0.0

    def add(self, values: Iterable[float]) -> None:
        """Take in more values (Welford's update)."""
        for value in values:
            self._count += 1
            step = value - self.mean
            self.mean += step / self._count
            self._squares += step * (value - self.mean)

    @property
    def deviation(self) -> float:
        """One until two different values were seen: there is no scale yet."""
        found = float(np.sqrt(self._squares / self._count)) if self._count else 0.0
        return found if found > 0 else 1.0


@dataclass
class _Arms:
    """What is known of each arm. Sums are of raw influence, so that a new scale reaches old rewards too."""

    neighbours: Neighbours
    total: Floats = field(init=False)
    weight: Floats = field(init=False)
    choices: Floats = field(init=False)

    def __post_init__(self) -> None:
        count = len(self.neighbours.arms)
        self.total, self.weight, self.choices = np.zeros(count), np.zeros(count), np.zeros(count)

    def credit(self, arm: int, mean: float) -> None:
        """Share an arm's mean influence, and the choice, with its neighbours."""
        near, weight = self.neighbours.arms[arm], self.neighbours.weights[arm]
        self.total[near] += weight * mean
        self.weight[near] += weight
        self.choices[near] += 1

    def rewards(self, offset: float, deviation: float) -> Floats:
        """Mean reward of every arm in standard deviations; 0 for one never chosen."""
        return (self.total - offset * self.weight) / deviation / np.maximum(self.choices, 1)

    def scores(self, offset: float, deviation: float, alpha: float) -> Floats:
        """Cluster score: mean reward + alpha sqrt(2 ln(all choices) / (own choices + 1))."""
        spread = 2 * log(max(1.0, float(self.choices.sum()))) / (self.choices + 1)
        return self.rewards(offset, deviation) + alpha * np.sqrt(spread)


class Bandit:
    """One selection in the making. `rows_of[arm]` are its rows in the order in which they are drawn.

    An arm gives rows while those it gave cost less than its cap: `caps` and `costs` (per row) count rows or tokens.
    """

    def __init__(
        self,
        rows_of: Sequence[IntArray],
        neighbours: Neighbours,
        caps: IntArray,
        purse: Purse,
        tuning: Tuning,
        costs: IntArray,
    ) -> None:
        self._rows_of, self._caps, self._purse, self._tuning = rows_of, caps.copy(), purse, tuning
        self._arms, self._moments, self._costs = _Arms(neighbours), Moments(), costs
        self._sizes = np.array([len(rows) for rows in rows_of], np.int64)
        self._next = np.zeros(len(rows_of), np.int64)  # an arm's rows before it are scored or taken
        self._draws = np.zeros(len(rows_of), np.int64)
        self._influence, self._asked = np.full(len(costs), np.nan), np.zeros(len(costs), np.bool_)
        self._how = np.zeros(len(costs), np.int8)
        self._taken: list[IntArray] = []
        self._trace: list[tuple[int, int]] = []

    def run(self, influence: Influence, most: int) -> Selection:
        """Play until the quota is used up, every arm is exhausted, or `most` rows are scored; then fill the quota."""
        if self._tuning.sweep and self._purse.open:
            self._sweep(influence, most)
        while self._purse.open and len(arms := self._choose(most)):
            drawn = self._round(arms, influence, most)
            for arm, rows in zip(arms, drawn, strict=True):
                if self._mean(rows) > self._offset():
                    self._give(arm)
            self._trace.append(self._progress())
        self._fill()
        return self._selection()

    def _sweep(self, influence: Influence, most: int) -> None:
        """Draw from every arm once; many at a time, since nothing is decided between them."""
        step = max(self._tuning.arms, -(-_TOGETHER // self._tuning.draws))
        for start in range(0, len(self._sizes), step):
            arms = np.arange(start, min(start + step, len(self._sizes)))
            arms = arms[: self._affordable(most)]
            if len(arms):
                self._round(arms, influence, most)
                self._trace.append(self._progress())

    def _round(self, arms: IntArray, influence: Influence, most: int) -> list[IntArray]:
        """Draw from arms and learn from what is found; returns the rows of each."""
        drawn = [self._draw(arm, most) for arm in arms]
        self._learn(arms, drawn, influence(np.concatenate(drawn)))
        return drawn

    def _affordable(self, most: int) -> int:
        """Arms that can be drawn from before `most` rows are scored."""
        return max(0, -(-(most - int(self._draws.sum())) // self._tuning.draws))

    def _choose(self, most: int) -> IntArray:
        """Arms with rows left, the highest cluster scores first (equal ones by number); none once `most` are scored."""
        left = np.flatnonzero((self._next < self._sizes) & (self._caps > 0))
        scores = self._arms.scores(self._offset(), self._moments.deviation, self._tuning.alpha)
        return left[np.argsort(-scores[left], kind="stable")][: min(self._tuning.arms, self._affordable(most))]

    def _draw(self, arm: int, most: int) -> IntArray:
        """The arm's next unseen rows."""
        start = self._next[arm]
        rows = self._rows_of[arm][start : start + min(self._tuning.draws, most - int(self._draws.sum()))]
        self._next[arm] += len(rows)
        self._draws[arm] += len(rows)
        return rows

    def _learn(self, arms: IntArray, drawn: Sequence[IntArray], found: Floats) -> None:
        rows = np.concatenate(drawn)
        self._influence[rows] = np.where(np.isfinite(found), found, np.nan)
        self._asked[rows] = True
        self._moments.add(found[np.isfinite(found)])
        for arm, part in zip(arms, drawn, strict=True):
            self._arms.credit(arm, self._mean(part))

    def _mean(self, rows: IntArray) -> float:
        """Mean influence of those of the rows that have one; where none has, what earns a reward of zero."""
        known = self._influence[rows][~np.isnan(self._influence[rows])]
        return float(known.mean()) if len(known) else self._offset()

    def _offset(self) -> float:
        """The influence whose reward is zero."""
        base = self._moments.mean if self._tuning.relative else 0.0
        return base + self._tuning.threshold * self._moments.deviation

    def _give(self, arm: int) -> None:
        """A batch of the arm's rows: those known to be good, best first, then unseen ones."""
        start, size = self._next[arm], self._tuning.batch
        good = self._good(self._rows_of[arm][:start])[:size]
        rows = np.concatenate([good, self._rows_of[arm][start : start + size - len(good)]])
        rows = rows[spent_before(np.full(len(rows), arm), self._costs[rows]) < self._caps[arm]]
        known, unseen = rows[: len(good)], rows[len(good) :]
        self._next[arm] += len(unseen)
        self._caps[arm] -= self._costs[rows].sum()
        self._take(known, SCORED)
        self._take(unseen, WITH_CLUSTER)

    def _good(self, rows: IntArray) -> IntArray:
        """Rows scored above the offset and not taken yet, best first."""
        value = np.nan_to_num(self._influence[rows], nan=-np.inf)
        good = (self._how[rows] == UNTOUCHED) & (value > self._offset())
        return np.asarray(rows[good][np.argsort(-value[good], kind="stable")])

    def _take(self, rows: IntArray, how: int) -> None:
        if self._purse.open:
            paid = self._purse.pay(rows)
            self._how[paid] = how
            self._taken.append(paid)

    def _fill(self) -> None:
        """What the quota still has room for: the other rows by influence, unscored ones by their cluster's mean."""
        if not self._purse.open:
            return
        means = np.where(self._arms.choices > 0, self._arms.total / np.maximum(self._arms.weight, 1e-300), -np.inf)
        rows = np.concatenate([np.empty(0, np.int64), *self._rows_of])
        arm = np.repeat(np.arange(len(self._sizes)), self._sizes)
        value = np.where(self._asked[rows], self._influence[rows], means[arm])
        able = (self._how[rows] == UNTOUCHED) & ~np.isnan(value)
        best = np.argsort(-value[able], kind="stable")
        order, arm = rows[able][best], arm[able][best]
        self._take(order[spent_before(arm, self._costs[order]) < self._caps[arm]], FILLED)
        self._trace.append(self._progress())

    def _progress(self) -> tuple[int, int]:
        return int(self._draws.sum()), sum(map(len, self._taken))

    def _selection(self) -> Selection:
        rewards = self._arms.rewards(self._offset(), self._moments.deviation)
        return Selection(
            np.concatenate([np.empty(0, np.int64), *self._taken]), self._how, self._influence, self._asked, self._draws,
            np.where(self._arms.choices > 0, rewards, np.nan), tuple(self._trace), self._purse.open,
        )  # fmt: skip


def spent_before(groups: IntArray, costs: IntArray) -> IntArray:
    """What earlier entries of the same group cost."""
    order = np.argsort(groups, kind="stable")
    before = np.cumsum(costs[order]) - costs[order]
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    out = np.empty(len(groups), np.int64)
    out[order] = before - np.repeat(before[starts], np.diff(np.append(starts, len(groups))))
    return out
