"""Which rows are scored and taken: by the bandit, by a full scan, or at random among those that help."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import numpy as np

from stages.contract import BoolArray, IntArray
from stages.quad.bandit import SCORED, Bandit, Floats, Influence, Neighbours, Purse, Selection, Tuning, spent_before
from stages.quad.clustering import Grouping, Ties, shuffled
from stages.zipfit.ranking import Quota, best_first

Policy = Literal["quad", "full", "positive_random"]
SLICE: Final = 256
"""Rows asked for at a time: what a crash can lose."""


class Task(NamedTuple):
    """Everything a policy works on. A cluster gives rows while those it gave cost less than its cap; `costs` are tokens
    where the quota counts tokens, else one per row. `most` is the number of rows that may be scored.
    """

    groups: Grouping
    near: Neighbours
    caps: IntArray
    costs: IntArray
    limit: Quota
    tokens: IntArray
    ties: Ties
    most: int
    tuning: Tuning
    seed: int

    @property
    def usable(self) -> IntArray:
        """Rows that are in a cluster."""
        return np.flatnonzero(self.groups.label >= 0)


def select(policy: Policy, task: Task, influence: Influence) -> Selection:
    """Play a policy."""
    if policy == "quad":
        purse = Purse(task.limit, task.tokens)
        arms = Bandit(task.groups.rows, task.near, task.caps, purse, task.tuning, task.costs)
        return arms.run(influence, task.most)
    return full(task, influence) if policy == "full" else positive_random(task, influence)


def full(task: Task, influence: Influence) -> Selection:
    """Score every row and take the best."""
    values = _asked(task.usable, len(task.tokens), influence)
    order, purse = _capped(best_first(values, task.ties), task), Purse(task.limit, task.tokens)
    return _selection(task, values, purse.pay(order), [(len(task.usable), len(order))], purse)


def positive_random(task: Task, influence: Influence) -> Selection:
    """Score rows in random order and take those whose influence is positive, until the quota is met.

    That is a random sample of the rows with positive influence, without scoring those it does not come to.
    """
    order = task.usable[np.argsort(shuffled(task.ties[task.usable], task.seed), kind="stable")][: task.most]
    purse, caps = Purse(task.limit, task.tokens), task.caps.copy()
    values, taken, trace = np.full(len(task.tokens), np.nan), list[IntArray](), list[tuple[int, int]]()
    for start in range(0, len(order), SLICE):
        if not purse.open:
            break
        rows = order[start : start + SLICE]
        found = influence(rows)
        values[rows] = np.where(np.isfinite(found), found, np.nan)
        arm = task.groups.label[rows[values[rows] > 0]]
        good = rows[values[rows] > 0]
        taken.append(purse.pay(good[spent_before(arm, task.costs[good]) < caps[arm]]))
        np.subtract.at(caps, task.groups.label[taken[-1]], task.costs[taken[-1]])
        trace.append((min(start + SLICE, len(order)), sum(map(len, taken))))
    asked = np.zeros(len(task.tokens), np.bool_)
    asked[order[: trace[-1][0] if trace else 0]] = True
    return _selection(task, values, np.concatenate([np.empty(0, np.int64), *taken]), trace, purse, asked)


def _asked(rows: IntArray, n: int, influence: Influence) -> Floats:
    values = np.full(n, np.nan)
    for start in range(0, len(rows), SLICE):
        part = rows[start : start + SLICE]
        found = influence(part)
        values[part] = np.where(np.isfinite(found), found, np.nan)
    return values


def _capped(order: IntArray, task: Task) -> IntArray:
    arm = task.groups.label[order]
    return order[spent_before(arm, task.costs[order]) < task.caps[arm]]


def _selection(
    task: Task,
    values: Floats,
    taken: IntArray,
    trace: list[tuple[int, int]],
    purse: Purse,
    asked: BoolArray | None = None,
) -> Selection:
    """As the bandit's: a cluster's reward is the mean influence of its scored rows in standard deviations."""
    if asked is None:
        asked = task.groups.label >= 0
    known = values[~np.isnan(values)]
    deviation = float(known.std()) or 1.0 if len(known) else 1.0
    means = [values[rows][~np.isnan(values[rows])] for rows in task.groups.rows]
    reward = np.array([float(part.mean()) / deviation if len(part) else np.nan for part in means])
    how = np.zeros(len(values), np.int8)
    how[taken] = SCORED
    draws = np.array([int(asked[rows].sum()) for rows in task.groups.rows], np.int64)
    return Selection(taken, how, values, asked, draws, reward, tuple(trace), purse.open)
