"""What `adapt` finds out about a row, by one backward pass: its gradient as a short vector, and the selectors' scores.

Importing this imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.errors import BadRow
from stages.contract import Pool, State
from stages.influence import Directions, Examined, examine, find_layers
from stages.influence.batches import Batches
from stages.quad import cuts, engine
from stages.quad.engine import rounded, steady
from stages.quad.reading import read_batch
from stages.quad.setup import Setup
from stages.semantic.builtin import unit
from stages.student import builtin
from stages.student.loss import Pair, losses
from stages.student.models import Student
from stages.student.turns import Exchange, asked, exchanges

Floats = npt.NDArray[np.float64]


def fit(setup: Setup, pool: Pool, inputs: Mapping[str, Pool], names: Mapping[str, str]) -> State:
    """The built-in model, where no other is named, and the targets' directions, where there are targets."""
    if names:
        return engine.fit(setup, pool, inputs, names)
    return {f"model.{name}": array for name, array in builtin.fit(pool, setup.student).items()}


class Scorer:
    """Scores records; opened once for many batches."""

    def __init__(self, setup: Setup, state: State, dimensions: int, weights: Floats, ifd: bool) -> None:
        self._setup, self._dimensions, self._weights, self._ifd = setup, dimensions, weights, ifd
        self._student = engine.open_student(setup.model, state)
        self._layers = find_layers(self._student.model, setup.layers)
        towards = {name.removeprefix("towards."): a for name, a in state.items() if name.startswith("towards.")}
        self._towards = Directions.from_state(towards) if towards else None
        self._cuts = {name: state[name] for name in (cuts.TARGETS,) if name in state}

    def __call__(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        """`vector`, `loss`, `gradient_norm`, `el2n`, `influence` and `ifd`, null where `problem` says why, and what
        `cuts` counts.
        """
        rows = read_batch(batch, self._student, self._setup.on, self._setup.counts)
        with steady(self._setup):
            found = examine(
                self._student.model, self._layers, rows, towards=self._towards, norms=True,
                dimensions=self._dimensions, seed=self._setup.seed,
            )  # fmt: skip
            ratios = _difficulty(self._student, batch) if self._ifd else np.full(len(rows), np.nan)
        return self._columns(rows, found, ratios)

    def _columns(self, rows: Batches, found: Examined, ratios: Floats) -> dict[str, pa.Array]:
        assert found.norms is not None
        assert found.vectors is not None
        missing = np.isnan(found.loss)
        flat = pa.array(unit(np.nan_to_num(found.vectors)).astype(np.float16).ravel())
        influence = found.scores @ self._weights if len(self._weights) else np.full(len(rows), np.nan)
        said: dict[str, Any] = {
            "vector": pa.FixedSizeListArray.from_arrays(flat, found.vectors.shape[1], mask=pa.array(missing)),
            "problem": pa.array(engine.problems(rows, found.not_finite), pa.string()),
            **cuts.columns(rows, self._cuts),
        }
        numbers = {
            "loss": found.loss, "gradient_norm": found.norms, "el2n": found.el2n, "influence": influence, "ifd": ratios,
        }  # fmt: skip
        return said | {name: pa.array(rounded(one), mask=np.isnan(one)) for name, one in numbers.items()}


def _difficulty(student: Student, batch: pa.RecordBatch) -> Floats:
    """Instruction-following difficulty (Li et al. 2024): loss of the response after its prompt over its loss alone."""
    pairs: list[Pair] = []
    at: list[int] = []
    for row, found in enumerate(exchanges(batch)):
        context = _context(student, found)
        if context is not None and isinstance(found, Exchange):
            at.append(row)
            pairs += [Pair(context, found.response), Pair("", found.response)]
    out = np.full(batch.num_rows, np.nan)
    if pairs:
        mean = losses(student, pairs).mean
        out[at] = mean[::2] / mean[1::2]
    return out


def _context(student: Student, found: Exchange | str) -> str | None:
    if isinstance(found, str):
        return None
    try:
        return asked(student, found)
    except BadRow:  # the chat template refuses the turns
        return None
