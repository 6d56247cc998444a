"""The rules that drop a run, each with the reason it gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stages.contract import BoolArray, IntArray
from stages.trajectories.rows import Floats, Runs, flags
from stages.trajectories.tasks import Rank, at_least_median

if TYPE_CHECKING:
    from stages.trajectories.stage import Trajectories


class Rule(NamedTuple):
    """Rows that a rule drops, the kind of reason, and the particulars of each row."""

    hit: BoolArray
    kind: str
    particulars: pa.StringArray | None = None


def absolute(runs: Runs, stage: Trajectories) -> list[Rule]:
    """The rules that look at one run at a time."""
    return [*_accuracy(runs, stage), *_steps(runs, stage), *_efficiency(runs, stage), *_entities(runs, stage)]


def _accuracy(runs: Runs, stage: Trajectories) -> Iterator[Rule]:
    known = flags(pc.is_valid(runs.success))
    failed = known & ~flags(pc.fill_null(runs.success, False))
    found = ~np.isnan(runs.counts["isr"])
    if stage.unknown == "drop":
        yield Rule(~known & ~found, "no success flag")
    yield Rule(failed, "not successful", runs.outcome)
    told = _ratio("ISR", runs.counts["isr"])
    yield Rule(found & ~(runs.counts["isr"] > stage.min_isr), f"too little found: ISR not over {stage.min_isr:g}", told)


def _steps(runs: Runs, stage: Trajectories) -> Iterator[Rule]:
    steps = runs.counts["n_steps"]
    if stage.min_steps is not None:
        yield Rule(steps < stage.min_steps, f"too few steps: under {stage.min_steps}", _whole(steps))
    if stage.max_steps is not None:
        yield Rule(steps > stage.max_steps, f"too many steps: over {stage.max_steps}", _whole(steps))


def _efficiency(runs: Runs, stage: Trajectories) -> Iterator[Rule]:
    calls = runs.counts["n_actions"]
    repeated = runs.counts["n_repeated" if stage.repeats == "call" else "n_same_result"]
    told = pc.binary_join_element_wise(_whole(repeated), "of", _whole(calls), " ")
    kind = f"repeats itself: over {stage.max_repeated:.0%} of its calls"
    yield Rule((calls > 0) & (repeated > stage.max_repeated * calls), kind, told)
    kind = f"gains little: not over {stage.min_efficiency:g} new results per call"
    some = ~np.isnan(runs.counts["efficiency"])
    low = some & ~(runs.counts["efficiency"] > stage.min_efficiency)
    yield Rule(low, kind, _ratio("", runs.counts["efficiency"]))


def _entities(runs: Runs, stage: Trajectories) -> Iterator[Rule]:
    ise, many = runs.counts["ise"], runs.counts["n_required"] >= stage.few_entities
    told = _ratio("ISE", ise)
    yield Rule(many & ~(ise > stage.min_ise), f"finds too slowly: ISE not over {stage.min_ise:g}", told)


def within_task(runs: Runs, stage: Trajectories, tasks: IntArray, left: BoolArray) -> Iterator[Rule]:
    """Runs whose task has few entities compete by ISE with the others of the task that are still in."""
    few = left & (runs.counts["n_required"] < stage.few_entities)
    if few.any():
        ise = runs.counts["ise"]
        hit = few & ~at_least_median(tasks, few, ise)
        yield Rule(hit, "finds more slowly than its task's median", _ratio("ISE", ise))


def not_among_best(rank: Rank, left: BoolArray, most: int) -> Rule:
    """Drops those of the ranked runs that have `most` better ones of their task."""
    told = pc.binary_join_element_wise("rank", _whole(rank.place), "of", _whole(rank.size), " ")
    return Rule(left & (rank.place > most), f"not among the {most} best of its task", told)


def _whole(values: npt.NDArray[Any]) -> pa.StringArray:
    return pa.array(np.nan_to_num(values).astype(np.int64)).cast(pa.string())


def _ratio(name: str, values: Floats) -> pa.StringArray:
    return pc.binary_join_element_wise(name, pc.round(pa.array(np.nan_to_num(values)), 3).cast(pa.string()), " ")
