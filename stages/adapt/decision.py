"""From gradient vectors and selectors' scores to decisions for `adapt`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from stages.adapt.memory import PRUNED
from stages.adapt.selection import Chosen, Redundancy, Share, choose, in_turn, prune, redundancy
from stages.contract import BoolArray, Decisions, IntArray, Scores
from stages.quad import cuts
from stages.quad.bandit import Floats
from stages.quad.clustering import Grouping, Ties, group
from stages.quad.embedding import Vectors, stored_vectors
from stages.zipfit.ranking import TokenBudget, quota, shortfall, tie_breaker, within


class Plan(NamedTuple):
    """The stage's parameters that a decision needs. `pool_rows` None: nothing is pruned; `targets` are their names."""

    keep: float | int | TokenBudget
    selectors: tuple[str, ...]
    skills: int | None
    share: Share
    pool_rows: int | None
    seed: int
    targets: tuple[str, ...]


class Rows(NamedTuple):
    """The columns of every row."""

    vectors: Vectors
    selectors: dict[str, Floats]
    tokens: IntArray
    ties: Ties
    problem: list[str | None]
    forgotten: BoolArray  # pruned by an earlier run
    cuts: cuts.Cuts


def decide(scores: Scores, plan: Plan, pruned: pa.Array) -> Decisions:
    """Cluster by gradient, take the best by each cluster's own selector, prune what is redundant for good."""
    rows = _read(scores, plan, pruned)
    usable = rows.vectors.any(axis=1) & ~rows.forgotten
    groups = group(rows.vectors, usable, rows.ties, plan.skills, plan.seed)
    chosen = choose(groups, rows.selectors, rows.ties)
    limit = quota(plan.keep, len(scores))
    taken = within(in_turn(groups, chosen, plan.share, rows.ties), rows.tokens, limit)
    keep = np.zeros(len(scores), np.bool_)
    keep[taken] = True
    twice = redundancy(rows.vectors, groups, chosen.rank)
    surplus = 0 if plan.pool_rows is None else int(usable.sum()) - plan.pool_rows
    gone = np.zeros(len(scores), np.bool_)
    gone[prune(twice, usable & ~keep, surplus, rows.ties)] = True
    notes = (*shortfall(len(taken), limit), *_notes(groups, chosen, plan, rows, gone, surplus))
    return Decisions(
        keep, _reasons(rows, groups, chosen, twice, keep, gone, plan), chosen.value, np.where(gone, twice.nearest, -1),
        detail=_details(groups, chosen, twice, plan), warnings=notes,
    )  # fmt: skip


def _read(scores: Scores, plan: Plan, pruned: pa.Array) -> Rows:
    table = scores.table([*plan.selectors, "n_tokens", "problem", "content_hash", cuts.LOST, cuts.TARGETS])
    hashes = table["content_hash"].combine_chunks().cast(pa.string())
    selectors = {name: pc.fill_null(table[name], np.nan).to_numpy() for name in plan.selectors}
    tokens = pc.fill_null(table["n_tokens"], 0).to_numpy().astype(np.int64)
    forgotten = pc.is_in(hashes, value_set=pruned).to_numpy(zero_copy_only=False)
    problems = table["problem"].to_pylist()
    return Rows(stored_vectors(scores), selectors, tokens, tie_breaker(hashes), problems, forgotten, cuts.read(table))


def _reasons(
    rows: Rows, groups: Grouping, chosen: Chosen, twice: Redundancy, keep: BoolArray, gone: BoolArray, plan: Plan
) -> list[str]:
    def reason(row: int) -> str:
        arm = groups.label[row]
        if rows.forgotten[row]:
            return f"{PRUNED} by an earlier run"
        if arm < 0:
            return f"no gradient; {rows.problem[row] or 'its gradient is zero'}"
        if gone[row]:
            return f"{PRUNED}: redundant; cosine {twice.cosine[row]:.4f} with a better row of its skill"
        named = plan.selectors[chosen.selector[arm]]
        where = f"{named} {chosen.value[row]:.4g}, rank {chosen.rank[row] + 1} of {len(groups.rows[arm])} in its skill"
        return f"kept: among the best of its skill; {where}" if keep[row] else f"not this time; {where}"

    return [reason(row) for row in range(len(keep))]


def _details(groups: Grouping, chosen: Chosen, twice: Redundancy, plan: Plan) -> list[str | None]:
    """JSON: the row's skill, that skill's selector and its entropy in nats, and how redundant the row is."""

    def detail(row: int) -> str | None:
        arm = int(groups.label[row])
        if arm < 0:
            return None
        cosine = twice.cosine[row]
        told = {
            "skill": arm, "selector": plan.selectors[chosen.selector[arm]],
            "entropy": round(float(chosen.entropy[arm]), 4), "redundancy": None if np.isnan(cosine) else float(cosine),
        }  # fmt: skip
        return orjson.dumps(told).decode()

    return [detail(row) for row in range(len(groups.label))]


def _notes(groups: Grouping, chosen: Chosen, plan: Plan, rows: Rows, gone: BoolArray, surplus: int) -> list[str]:
    count = np.bincount(chosen.selector, minlength=len(plan.selectors))
    used = ", ".join(f"{name} {times}" for name, times in zip(plan.selectors, count.tolist(), strict=True) if times)
    notes = [f"{len(groups.rows):,} skills; selectors: {used or 'none'}"]
    if rows.forgotten.any():
        notes.append(f"{int(rows.forgotten.sum()):,} rows were pruned by earlier runs")
    if gone.any():
        notes.append(f"{int(gone.sum()):,} redundant rows pruned for good")
    if surplus > int(gone.sum()):
        notes.append(f"the pool is still {surplus - int(gone.sum()):,} rows larger than {plan.pool_rows:,}")
    return [*notes, *cuts.notes(rows.cuts, plan.targets)]
