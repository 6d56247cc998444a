"""LESS's fit and scores: warm-up, Adam's moments, projected gradients. Importing this imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import nn

from schemas.errors import RecipeError
from stages.contract import Pool, State
from stages.influence import AdamState, Layers, examine, find_layers, project
from stages.influence.batches import Batches
from stages.less.warmup import adapter_rank, prepared, warm_up
from stages.quad import cuts, engine
from stages.quad.engine import rounded, steady, target_rows
from stages.quad.reading import read_batch, read_pool
from stages.quad.setup import Setup
from stages.student import builtin
from stages.student.models import Student

Arrays = dict[str, npt.NDArray[Any]]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Lesson:
    """How the warm-up goes: share of the pool, passes, highest rate, and LoRA's rank (None: by the model's size)."""

    share: float
    epochs: int
    rate: float
    lora: int | None
    dimensions: int


def fit(setup: Setup, lesson: Lesson, pool: Pool, inputs: Mapping[str, Pool], names: Mapping[str, str]) -> State:
    """The warmed-up weights, Adam's moments, and each target's projected gradient.

    Raises RecipeError for a pool or a target of which nothing can be scored.
    """
    state: Arrays = {}
    if setup.model is None:
        state = {f"model.{name}": array for name, array in builtin.fit(pool, setup.student).items()}
    student = engine.open_student(setup.model, state)
    rank = adapter_rank(student.model, lesson.lora)
    model = prepared(student.model, rank, setup.seed)
    most = max(1, round(lesson.share * len(pool)))
    rows = read_pool(pool, student, setup.on, setup.counts, most)
    if rows.empty.all():
        raise RecipeError("less: no row of the warm-up sample has a text that counts; see `on` and `counts`")
    targets = [target_rows(inputs[role], path, student, setup) for role, path in names.items()]
    with steady(setup):
        optimiser = warm_up(model, rows, lesson.epochs, lesson.rate, setup.seed, pool)
        layers = find_layers(model, setup.layers)
        vectors = [_mean(model, layers, target, lesson, setup) for target in targets]
    moments = AdamState.of(model, layers, optimiser)
    return {
        **state, **_weights(model), **_moments(moments), **cuts.counted(targets),
        "targets": np.stack(vectors), "rank": np.array(rank),
    }  # fmt: skip


class Scorer:
    """Scores records; opened once for many batches."""

    def __init__(self, setup: Setup, lesson: Lesson, state: State) -> None:
        self._setup, self._lesson = setup, lesson
        self._student: Student = engine.open_student(setup.model, state)
        self._model = prepared(self._student.model, int(state["rank"]), setup.seed)
        device = next(self._model.parameters()).device
        with torch.no_grad():
            for name, weight in self._model.named_parameters():
                if weight.requires_grad:
                    weight.copy_(torch.from_numpy(state[f"weights.{name}"].copy()).to(device))
        self._layers = find_layers(self._model, setup.layers)
        self._cuts = {cuts.TARGETS: state[cuts.TARGETS]}
        self._adam, self._targets = _adam(state, device), np.asarray(state["targets"], np.float64)

    def __call__(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        """`cosines` (one per target), `loss`, `problem`, and what `cuts` counts; the first two null where the third
        says why.
        """
        rows = read_batch(batch, self._student, self._setup.on, self._setup.counts)
        with steady(self._setup):
            found = examine(
                self._model, self._layers, rows, dimensions=self._lesson.dimensions, seed=self._setup.seed,
                adam=self._adam,
            )  # fmt: skip
        assert found.vectors is not None
        missing = np.isnan(found.loss)
        values = pa.array(rounded(cosines(found.vectors.astype(np.float64), self._targets)).ravel())
        return {
            "cosines": pa.FixedSizeListArray.from_arrays(values, len(self._targets), mask=pa.array(missing)),
            "loss": pa.array(rounded(found.loss), mask=missing),
            "problem": pa.array(engine.problems(rows, found.not_finite), pa.string()),
            **cuts.columns(rows, self._cuts),
        }


def cosines(vectors: Floats, targets: Floats) -> Floats:
    """Cosine of every row [n, d] with every target [t, d]; 0 where either is zero."""
    lengths = np.linalg.norm(vectors, axis=1)[:, None] * np.linalg.norm(targets, axis=1)[None, :]
    return np.asarray(vectors @ targets.T / np.where(lengths > 0, lengths, 1.0))


def _mean(model: nn.Module, layers: Layers, rows: Batches, lesson: Lesson, setup: Setup) -> Floats:
    """The target's gradient: the mean over its rows of their plain (not Adam's) gradients."""
    vectors = project(model, layers, rows, lesson.dimensions, seed=setup.seed)
    return np.asarray(np.nanmean(vectors.astype(np.float64), axis=0))


def _weights(model: nn.Module) -> Arrays:
    """What the warm-up trained: all weights, or the adapter's."""
    trained = [(name, one) for name, one in model.named_parameters() if one.requires_grad]
    return {f"weights.{name}": one.detach().float().cpu().numpy().copy() for name, one in trained}


def _moments(adam: AdamState) -> Arrays:
    first = {f"first.{name}": one.float().cpu().numpy() for name, one in adam.exp_avg.items()}
    second = {f"second.{name}": one.float().cpu().numpy() for name, one in adam.exp_avg_sq.items()}
    return {**first, **second, "step": np.array(adam.step)}


def _adam(state: State, device: torch.device) -> AdamState:
    def part(prefix: str) -> dict[str, torch.Tensor]:
        named = ((name.removeprefix(prefix), array) for name, array in state.items() if name.startswith(prefix))
        return {name: torch.from_numpy(array.copy()).to(device) for name, array in named}

    return AdamState(part("first."), part("second."), int(state["step"]))
