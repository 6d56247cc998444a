"""From stored columns and influence on demand to decisions for `quad`."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from stages.contract import BoolArray, Decisions, IntArray, Scores
from stages.quad import cuts
from stages.quad.bandit import FILLED, WITH_CLUSTER, Floats, Selection, Tuning
from stages.quad.clustering import Grouping, Ties, caps, default_clusters, group, neighbours
from stages.quad.embedding import Vectors, stored_vectors, tfidf_vectors
from stages.quad.policies import Policy, Task, select
from stages.zipfit.ranking import Quota, TokenBudget, quota, shortfall, tie_breaker

_ARMS: Final = 50


class Plan(NamedTuple):
    """The parameters a decision needs. `targets` are paths and `weights` their shares; `stored` says that vectors were
    stored.
    """

    policy: Policy
    keep: float | int | TokenBudget
    weights: Floats
    clusters: int | None
    distance: float
    max_share: float | None
    max_scored: float
    dimensions: int
    seed: int
    stored: bool
    alpha: float
    threshold: float
    relative: bool
    sweep: bool
    arms: int | None
    draws: int
    batch: int | None
    targets: tuple[str, ...]


class Pool(NamedTuple):
    """The rows: unit vectors, words and tie breakers, and which of them have a text."""

    vectors: Vectors
    tokens: IntArray
    ties: Ties
    usable: BoolArray


class Oracle:
    """Influence on demand, weighted over targets; remembers what was said of each row."""

    def __init__(self, scores: Scores, weights: Floats) -> None:
        self._scores, self._weights = scores, weights
        self.problem: dict[int, str] = {}
        self.cuts = cuts.Cuts(np.zeros(len(scores), np.int64), np.zeros((0, 3), np.int64))
        self.each = np.full((len(scores), len(weights)), np.nan)

    def __call__(self, rows: IntArray) -> Floats:
        """Influence of the rows; NaN for those that have none."""
        found = self._scores.ask(rows)
        self.each[rows] = _matrix(found["influences"].combine_chunks(), len(self._weights))
        told = cuts.read(found)
        self.cuts.lost[rows] = told.lost
        self.cuts = cuts.Cuts(self.cuts.lost, told.targets)
        said = zip(rows.tolist(), found["problem"].to_pylist(), strict=True)
        self.problem.update({row: problem for row, problem in said if problem})
        return np.asarray(self.each[rows] @ self._weights)


def decide(scores: Scores, plan: Plan) -> Decisions:
    """Cluster, select, and say why."""
    pool = read(scores, plan)
    limit = quota(plan.keep, len(scores))
    groups = group(pool.vectors, pool.usable, pool.ties, plan.clusters, plan.seed)
    oracle = Oracle(scores, plan.weights)
    given = task(pool, groups, plan, limit)
    found = select(plan.policy, given, oracle)
    keep = found.how > 0
    unspent = _unspent(found, given, plan.policy)
    notes = [*shortfall(len(found.order), limit, unspent), *_notes(found, groups, oracle, plan, pool)]
    return Decisions(
        keep, _reasons(found, groups, oracle, plan), found.influence,
        detail=_details(found, groups, oracle, flat_map(pool.vectors, groups)), warnings=tuple(notes),
    )  # fmt: skip


def read(scores: Scores, plan: Plan) -> Pool:
    """The stored columns. Rows without a word cannot be clustered, and are not usable."""
    table = scores.table(["n_tokens", "content_hash"])
    ties = tie_breaker(table["content_hash"].combine_chunks().cast(pa.string()))
    tokens = pc.fill_null(table["n_tokens"], 0).to_numpy().astype(np.int64)
    vectors = stored_vectors(scores) if plan.stored else tfidf_vectors(scores, ties, plan.dimensions, plan.seed)
    return Pool(vectors, tokens, ties, tokens > 0)


def task(pool: Pool, groups: Grouping, plan: Plan, limit: Quota) -> Task:
    """What the policy works on; unless told otherwise a batch is a third of an average cluster (as published)."""
    n = int(pool.usable.sum())
    sizes = np.array([len(rows) for rows in groups.rows], np.int64)
    batch = plan.batch or max(1, round(n / max(1, len(sizes)) / 3))
    arms = plan.arms or min(_ARMS, max(1, len(sizes) // 10))
    tuning = Tuning(plan.alpha, plan.threshold, plan.relative, plan.sweep, arms, plan.draws, batch)
    costs = np.ones(len(pool.tokens), np.int64) if np.isinf(limit.tokens) else pool.tokens
    wanted = min(n, limit.rows) if np.isinf(limit.tokens) else limit.tokens
    shares = np.array([costs[rows].sum() for rows in groups.rows], np.int64)
    return Task(
        groups, neighbours(groups.centres, plan.distance), caps(shares, wanted, int(shares.sum()), plan.max_share),
        costs, limit, pool.tokens, pool.ties, round(plan.max_scored * n), tuning, plan.seed,
    )  # fmt: skip


def _unspent(found: Selection, given: Task, policy: Policy) -> float:
    """Tokens of the budget that are left because clusters with more good rows have given all they may."""
    if np.isinf(given.limit.tokens) or not found.open:
        return 0.0
    label, count = given.groups.label, len(given.caps)
    spent = np.bincount(label[found.order], weights=given.costs[found.order], minlength=count)
    good = found.influence > 0 if policy == "positive_random" else ~found.asked | ~np.isnan(found.influence)
    more = np.bincount(label[(label >= 0) & good & (found.how == 0)], minlength=count)
    return given.limit.tokens - float(spent.sum()) if (more[spent >= given.caps] > 0).any() else 0.0


def flat_map(vectors: Vectors, groups: Grouping) -> Floats:
    """Two coordinates per row for a map of the pool: the plane through the cluster centres (PCA weighted by size)."""
    if len(groups.rows) < 2 or vectors.shape[1] < 2:
        return np.zeros((len(vectors), 2))
    weight = np.sqrt([len(rows) for rows in groups.rows])[:, None]
    middle = (groups.centres * weight**2).sum(axis=0) / (weight**2).sum()
    _, _, axes = np.linalg.svd((groups.centres - middle) * weight, full_matrices=False)
    axes = axes[:2] * np.sign(axes[:2].sum(axis=1, keepdims=True) + 1e-12)  # a plane has no preferred sign
    return np.asarray(np.round((vectors - middle) @ axes.T, 4))


def _matrix(column: pa.FixedSizeListArray, width: int) -> Floats:
    out = np.full((len(column), width), np.nan)
    valid = np.asarray(column.is_valid())
    out[valid] = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
    return out


def _reasons(found: Selection, groups: Grouping, oracle: Oracle, plan: Plan) -> list[str]:
    return [_reason(row, found, groups, oracle, plan) for row in range(len(found.how))]


def _reason(row: int, found: Selection, groups: Grouping, oracle: Oracle, plan: Plan) -> str:
    how, arm = found.how[row], groups.label[row]
    if arm < 0:
        return "no text to score"
    if row in oracle.problem:
        return f"no influence; {oracle.problem[row]}"
    number = f"influence {found.influence[row]:.4g}"
    if how == WITH_CLUSTER:
        return f"kept: taken with its cluster; mean reward {found.reward[arm]:.3g}"
    if how == FILLED:
        what = number if found.asked[row] else "unscored: its cluster's mean"
        return f"kept: the best of what was left; {what}"
    if how:
        return f"kept: {_WHY_KEPT[plan.policy]}; {number}"
    if found.asked[row]:
        return f"scored: influence below the cut; {number}"
    if not found.draws[arm]:
        return "not scored: its cluster was never drawn from"
    return f"not scored: not taken with its cluster; mean reward {found.reward[arm]:.3g}"


_WHY_KEPT = {
    "quad": "scored and taken with its cluster",
    "full": "influence within the quota",
    "positive_random": "drawn at random among positive influence",
}


def _details(found: Selection, groups: Grouping, oracle: Oracle, places: Floats) -> list[str | None]:
    return [_detail(row, found, groups, oracle, places) for row in range(len(found.how))]


def _detail(row: int, found: Selection, groups: Grouping, oracle: Oracle, places: Floats) -> str | None:
    """JSON; a cluster is called `arm`, since `cluster` names groups of copies in other stages."""
    arm = int(groups.label[row])
    if arm < 0:
        return None
    told: dict[str, object] = {
        "arm": arm, "arm_rows": len(groups.rows[arm]), "arm_draws": int(found.draws[arm]),
        "arm_reward": _short(found.reward[arm]), "at": places[row].tolist(),
    }  # fmt: skip
    if found.asked[row]:
        told |= {"influences": [_short(value) for value in oracle.each[row]]}
    if oracle.cuts.lost[row]:
        told["lost"] = int(oracle.cuts.lost[row])
    return orjson.dumps(told).decode()


def _short(value: np.float64) -> float | None:
    return float(f"{value:.6g}") if np.isfinite(value) else None


def _notes(found: Selection, groups: Grouping, oracle: Oracle, plan: Plan, pool: Pool) -> list[str]:
    scored, n = int(found.asked.sum()), int(pool.usable.sum())
    share = f"{scored / n:.1%}" if n else "none"
    notes = [f"{scored:,} of {n:,} rows scored ({share}), {len(groups.rows):,} clusters"]
    asked = plan.clusters or default_clusters(n)
    if n and len(groups.rows) < min(asked, n):
        notes.append(f"{asked:,} clusters asked for, but the rows give {len(groups.rows):,}")
    filled = int((found.how == FILLED).sum())
    if filled:
        notes.append(f"{filled:,} kept rows only fill the quota: no cluster had a positive reward any more")
    if oracle.problem:
        notes.append(f"{len(oracle.problem):,} scored rows have no influence")
    return [*notes, *cuts.notes(oracle.cuts, plan.targets)]
