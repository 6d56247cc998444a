"""The language model, its curvature and the targets' directions: made once, stored as arrays, opened to examine rows.

Importing this imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.errors import RecipeError
from stages.contract import Pool, State
from stages.influence import Directions, directions, estimate_factors, examine, find_layers
from stages.influence.batches import Batches
from stages.quad import cuts
from stages.quad.reading import joined, read_batch, read_pool
from stages.quad.setup import Setup
from stages.student import builtin
from stages.student.models import Student, load
from stages.student.training import threads

Arrays = dict[str, npt.NDArray[Any]]

FACTOR_ROWS: Final = 256
"""Rows that the curvature is estimated from; 4,000 give the same ranking."""
DIGITS: Final = 6
"""Significant digits of stored influence: rows are scored in batches, whose sums differ in the digits after."""
_MODEL, _TOWARDS = "model.", "towards."


def fit(setup: Setup, pool: Pool, inputs: Mapping[str, Pool], names: Mapping[str, str]) -> Arrays:
    """The built-in model (where no other is named) and the directions that lower each target's loss.

    Args:
        setup: the parameters.
        pool: what the built-in model learns from and its curvature is estimated on; not looked at otherwise.
        inputs: the targets' records by role.
        names: the file behind each role, in the order of the scores.

    Raises:
        RecipeError: for a target of which nothing can be scored.
    """
    state = _prefixed(_MODEL, builtin.fit(pool, setup.student)) if setup.model is None else {}
    student = open_student(setup.model, state)
    targets = [target_rows(inputs[role], path, student, setup) for role, path in names.items()]
    with steady(setup):
        towards = _towards(setup, student, pool, targets)
    return {**state, **_prefixed(_TOWARDS, towards.to_state()), **cuts.counted(targets)}


def _towards(setup: Setup, student: Student, pool: Pool, targets: list[Batches]) -> Directions:
    layers = find_layers(student.model, setup.layers)
    sample = joined(targets) if setup.model else read_pool(pool, student, setup.on, setup.counts, 4 * FACTOR_ROWS)
    factors = estimate_factors(
        student.model, layers, sample, kind=setup.factors, samples=FACTOR_ROWS, seed=setup.seed,
        scratch=pool.scratch / "factors", progress=lambda step, *far: pool.progress(f"curvature, {step}", *far),
    )  # fmt: skip
    return directions(student.model, layers, factors, targets, damping=setup.damping)


def steady(setup: Setup) -> AbstractContextManager[None]:
    """One thread for the built-in model, always, since sums in another order give other last digits; as many as torch
    likes for a larger one, whose influence then is the same up to the digits that are stored.
    """
    return threads(1) if setup.model is None else nullcontext()


def open_student(model: str | None, state: State) -> Student:
    """The model in a folder, or the built-in one of a fitted state."""
    return load(model) if model is not None else builtin.from_state(_stripped(_MODEL, state))


class Examiner:
    """Scores records, one backward pass for all targets."""

    def __init__(self, setup: Setup, state: State) -> None:
        self._setup = setup
        self._student = open_student(setup.model, state)
        self._layers = find_layers(self._student.model, setup.layers)
        self._cuts = {cuts.TARGETS: state[cuts.TARGETS]}
        self._towards = Directions.from_state(_stripped(_TOWARDS, state))

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """`influences` (one per target set), `loss` (nats per token that counts), `problem`, and what `cuts` counts.

        The first two are null where `problem` says why.
        """
        rows = read_batch(batch, self._student, self._setup.on, self._setup.counts)
        with steady(self._setup):
            found = examine(self._student.model, self._layers, rows, towards=self._towards)
        said = problems(rows, found.not_finite)
        missing = np.array([problem is not None for problem in said], np.bool_)
        values = pa.array(rounded(found.scores).ravel())
        return pa.RecordBatch.from_pydict(
            {
                "influences": pa.FixedSizeListArray.from_arrays(values, found.scores.shape[1], mask=pa.array(missing)),
                "loss": pa.array(rounded(found.loss), mask=missing),
                "problem": pa.array(said, pa.string()),
                **cuts.columns(rows, self._cuts),
            }
        )


def problems(rows: Batches, not_finite: npt.NDArray[np.bool_]) -> list[str | None]:
    """Why each row has no score, or None."""
    flags = zip(rows.empty.tolist(), rows.truncated.tolist(), not_finite.tolist(), strict=True)
    return [_problem(*each) for each in flags]


def _problem(empty: bool, truncated: bool, not_finite: bool) -> str | None:
    if empty:
        return "nothing that counts fits into the model's context" if truncated else "too short: no token counts"
    return "its loss or gradient is not finite" if not_finite else None


def rounded(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """To `DIGITS` significant digits; what is not finite stays."""
    size = np.abs(values)
    usable = np.isfinite(values) & (size > 0)
    scale = 10.0 ** (DIGITS - 1 - np.floor(np.log10(np.where(usable, size, 1.0))))
    return np.where(usable, np.round(np.where(usable, values, 0.0) * scale) / scale, values)


def target_rows(pool: Pool, path: str, student: Student, setup: Setup) -> Batches:
    """A target's records as tokens. Raises RecipeError where nothing of them counts."""
    rows = read_pool(pool, student, setup.on, setup.counts)
    if not len(rows) or rows.empty.all():
        why = (
            f"the model's context of {student.context} tokens ends before anything that counts"
            if rows.truncated.any()
            else "none of its rows has a text that counts"
        )
        raise RecipeError(f"target {path} has nothing to score: {why}; see the parameters `on` and `counts`")
    return rows


def _prefixed(prefix: str, arrays: State) -> Arrays:
    return {prefix + name: array for name, array in arrays.items()}


def _stripped(prefix: str, state: State) -> Arrays:
    return {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}
