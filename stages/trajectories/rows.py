"""What `decide` knows of every row: scores, and what earlier stages and `meta` say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import RecipeError
from stages.contract import BoolArray, Scores
from stages.trajectories.actions import conversation
from stages.trajectories.gains import entity_scores
from stages.trajectories.meta import meta_values

if TYPE_CHECKING:
    from stages.trajectories.stage import Trajectories

Floats = npt.NDArray[np.float64]
_COUNTS: Final = ("n_steps", "n_actions", "n_repeated", "n_same_result", "efficiency", "n_required", "isr", "ise")
_READ: Final = ("messages", "prompt", "completion")


class Runs(NamedTuple):
    """What is known of every row; NaN and null where nothing is."""

    judged: BoolArray
    success: pa.BooleanArray
    source: pa.StringArray
    outcome: pa.StringArray
    counts: dict[str, Floats]


def read_rows(scores: Scores, stage: Trajectories) -> Runs:
    """All rows. A verifier overrules a flag, and a flag what the record itself says.

    Raises RecipeError for a verifier column that is neither true or false nor a number.
    """
    own = scores.table([*_COUNTS, "success", "success_source", "outcome"]).combine_chunks()
    counts = {name: _floats(own[name]) for name in _COUNTS}
    kinds = pa.chunked_array([batch["kind"] for batch in scores.batches(["kind"])], pa.string())
    everything = np.ones(len(kinds), np.bool_)
    judged = everything if stage.kinds == "all" else flags(pc.is_in(kinds, pa.array(stage.kinds)))
    success, source, text = (own[name].combine_chunks() for name in ("success", "success_source", "outcome"))
    runs = Runs(judged, success, source, text, counts)
    if stage.entities is not None and stage.entities != "answer":
        _add_entities(runs, scores, stage, stage.entities.removeprefix("meta."))
    if stage.flag is not None:
        values = [_is_in(value, stage.flag.values) for value in meta_values(scores, stage.flag.field)]
        runs = _overruled(runs, pa.array(values, pa.bool_()), f"meta.{stage.flag.field}")
    if stage.verifier is not None:
        runs = _overruled(runs, _verdicts(scores, stage), stage.verifier)
    return runs


def _is_in(value: Any, wanted: tuple[Any, ...]) -> bool | None:
    """Whether a value is among those wanted; a number is no truth value."""
    if value is None:
        return None
    return any(value == item and isinstance(value, bool) == isinstance(item, bool) for item in wanted)


def _overruled(runs: Runs, flags: pa.BooleanArray, source: str) -> Runs:
    """Success by `flags` where they tell it."""
    known, words = pc.is_valid(flags), pc.if_else(flags, f"{source}: passed", f"{source}: not passed")
    return runs._replace(
        success=pc.coalesce(flags, runs.success),
        source=pc.if_else(known, source, runs.source),
        outcome=pc.if_else(known, words, runs.outcome),
    )


def _verdicts(scores: Scores, stage: Trajectories) -> pa.BooleanArray:
    column = scores.table([str(stage.verifier)]).combine_chunks()[str(stage.verifier)].combine_chunks()
    if pa.types.is_boolean(column.type):
        return column
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return pc.greater_equal(column, stage.min_reward)
    raise RecipeError(f"trajectories: verifier '{stage.verifier}' is {column.type}, neither a verdict nor a number")


def _add_entities(runs: Runs, scores: Scores, stage: Trajectories, path: str) -> None:
    """Fill in what depends on entities that meta lists: they are no content, so no stored score may depend on them."""
    start = 0
    listed = meta_values(scores, path)
    for batch in scores.batches(_READ):
        for at, row in enumerate(batch.to_pylist(), start):
            found = entity_scores(next(listed), conversation(row), stage.search_tools)
            for name in ("n_required", "isr", "ise"):
                runs.counts[name][at] = found.get(name, np.nan)
        start += batch.num_rows


def flags(values: pa.Array | pa.ChunkedArray) -> BoolArray:
    """Booleans without nulls as numpy has them."""
    return np.asarray(values.to_numpy(zero_copy_only=False) if isinstance(values, pa.Array) else values.to_numpy())


def _floats(column: pa.ChunkedArray) -> Floats:
    return np.array(column.cast(pa.float64()).to_numpy(), dtype=np.float64)  # a copy: entities are filled in later
