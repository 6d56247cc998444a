"""From scores to decisions for `trajectories`: accurate, efficient, and among the best of its task."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from stages.contract import BoolArray, Decisions, IntArray, Scores
from stages.trajectories.rows import Floats, Runs, flags, read_rows
from stages.trajectories.rules import Rule, absolute, not_among_best, within_task
from stages.trajectories.tasks import Rank, Tasks, ranks, read_tasks

if TYPE_CHECKING:
    from stages.trajectories.stage import Trajectories


def decide(scores: Scores, stage: Trajectories) -> Decisions:
    """Apply the rules in order; the first that hits a row is its reason."""
    runs, tasks = read_rows(scores, stage), read_tasks(scores, stage.task)
    rules = absolute(runs, stage)
    left = runs.judged & ~_any(rules, len(tasks.code))
    rules += within_task(runs, stage, tasks.code, left)
    left &= ~_any(rules, len(tasks.code))
    rank, related = None, None
    if stage.per_task is not None:
        rank = ranks(tasks.code, left, _order(runs, stage), _ties(scores))
        rules.append(not_among_best(rank, left, stage.per_task))
        related = np.where(rules[-1].hit, rank.best, -1)
    keep = ~runs.judged | ~_any(rules, len(tasks.code))
    return Decisions(
        keep, _reasons(runs, rules), _gained(runs), related=related, detail=_details(runs, tasks, rank),
        warnings=_warnings(runs, stage),
    )  # fmt: skip


def _gained(runs: Runs) -> Floats:
    """ISE where entities are known, else new results per call."""
    return np.where(np.isnan(runs.counts["ise"]), runs.counts["efficiency"], runs.counts["ise"])


def _order(runs: Runs, stage: Trajectories) -> list[Floats]:
    """Keys of the ranking, the first one first; the smallest is best. A known success goes before an unknown one."""
    counts = runs.counts
    unknown = (~flags(pc.is_valid(runs.success))).astype(np.float64)
    gained = _gained(runs)
    keys = [counts["n_steps"], -gained] if stage.best == "shortest" else [-gained, counts["n_steps"]]
    return [unknown, *(np.nan_to_num(key, nan=np.inf) for key in keys), counts["n_repeated"]]


def _reasons(runs: Runs, rules: list[Rule]) -> pa.StringArray:
    kept = pc.if_else(
        pc.fill_null(runs.success, False),
        pc.binary_join_element_wise("kept: successful", pc.fill_null(runs.outcome, ""), "; "),
        pc.if_else(np.isnan(runs.counts["isr"]), "kept: no success flag", "kept: finds enough"),
    )
    cases = [~runs.judged, *(rule.hit for rule in rules)]
    texts = [pa.scalar("kept: not judged"), *(_reason(rule) for rule in rules)]
    struct = pa.StructArray.from_arrays([pa.array(case) for case in cases], [str(k) for k in range(len(cases))])
    return pc.case_when(struct, *texts, kept)


def _reason(rule: Rule) -> pa.StringArray | pa.StringScalar:
    if rule.particulars is None:
        return pa.scalar(rule.kind)
    return pc.binary_join_element_wise(rule.kind, pc.fill_null(rule.particulars, ""), "; ")


def _details(runs: Runs, tasks: Tasks, rank: Rank | None) -> list[str | None]:
    """As JSON: what told success, the row's task, and its rank."""
    names = tasks.name.to_pylist()
    success, source, words = runs.success.to_pylist(), runs.source.to_pylist(), runs.outcome.to_pylist()
    details: list[str | None] = [None] * len(names)
    for at in np.flatnonzero(runs.judged).tolist():
        said = {"success": success[at], "by": source[at], "outcome": words[at], "task": names[at]}
        said |= {name: float(runs.counts[name][at]) for name in ("isr", "ise") if not np.isnan(runs.counts[name][at])}
        if rank is not None and rank.place[at]:
            said |= {"rank": int(rank.place[at]), "of": int(rank.size[at])}
        details[at] = orjson.dumps({key: value for key, value in said.items() if value is not None}).decode()
    return details


def _warnings(runs: Runs, stage: Trajectories) -> tuple[str, ...]:
    judged = int(runs.judged.sum())
    if len(runs.judged) and not judged:
        return (f"no record is of kind {', '.join(stage.kinds)}; set kinds to judge others",)
    told = runs.judged & flags(pc.is_valid(runs.success))
    if judged and not told.any() and np.isnan(runs.counts["isr"]).all():
        return ("nothing tells success of any run; set verifier, flag or entities",)
    return ()


def _any(rules: list[Rule], n: int) -> BoolArray:
    hit = np.zeros(n, np.bool_)
    for rule in rules:
        hit |= rule.hit
    return hit


def _ties(scores: Scores) -> IntArray:
    """Rows in the order of their content hashes, as ranks: what decides between equals."""
    hashes = scores.table(["content_hash"])["content_hash"].combine_chunks()
    order = pc.array_sort_indices(hashes).to_numpy()
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    return ranks
