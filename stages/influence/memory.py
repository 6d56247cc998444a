"""What a run will need, said before it starts."""

from __future__ import annotations

import time
import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from stages.influence.batches import TOKENS_PER_BATCH, Batches, encode
from stages.influence.directions import Directions
from stages.influence.factors import Kind
from stages.influence.layers import Layers
from stages.influence.passes import watching
from stages.influence.products import CHUNK
from stages.influence.scoring import score

_FLOAT, _DOUBLE = 4, 8


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak of each step where the model is; its weights are in all of them. None grows with the pool."""

    weights: int
    factors: int
    directions: int
    score: int


@dataclass(frozen=True)
class Cost:
    """What scoring takes."""

    tokens: int
    """Tokens that go through the model, padding included."""
    seconds: float
    """From the time that one batch took here."""


def memory_needed(
    model: nn.Module,
    layers: Layers,
    *,
    targets: int = 1,
    tokens: int = TOKENS_PER_BATCH,
    length: int = 512,
    kind: Kind = "ekfac",
) -> Memory:
    """Peak memory for batches of `tokens` tokens in rows of `length`, curvature and directions in float32.

    One row of that length is run through the model, and what it allocates is counted.
    """
    weights = sum(one.numel() * one.element_size() for one in model.parameters())
    shapes = [(block.inputs, block.outputs) for block in layers]
    rows = max(1, tokens // length)
    matrices = _FLOAT * sum(given * made for given, made in shapes)
    largest = max(given * made for given, made in shapes)
    passing = rows * _one_row(model, layers, length)
    passing += 2 * _FLOAT * min(rows * largest, max(CHUNK, largest))  # some rows' gradients, and their copy
    squares = _FLOAT * sum(given**2 + made**2 for given, made in shapes)
    side = max(max(one) for one in shapes)
    curvature = max(squares + passing, 2 * squares + 4 * _DOUBLE * side**2, squares + matrices + passing)
    known = 0 if kind == "identity" else squares + matrices
    return Memory(
        weights,
        weights if kind == "identity" else weights + curvature,
        weights + known + targets * matrices + max(passing, targets * matrices),
        weights + targets * matrices + passing,
    )


def cost(model: nn.Module, layers: Layers, batches: Batches, *, targets: int = 1, rows: int | None = None) -> Cost:
    """What scoring `rows` rows (default: as many as there are) like those of `batches` takes; one batch is timed.

    NaN seconds where no row of `batches` has a token that counts.
    """
    plan = batches.plan()
    share = 1.0 if rows is None else rows / max(1, len(batches))
    total = sum(len(one) * int(batches.lengths[one].max()) for one in plan)
    if not plan:
        return Cost(0, float("nan"))
    middle = batches.take(plan[len(plan) // 2])
    device = next(model.parameters()).device
    nowhere = {block.name: torch.zeros(targets, block.outputs, block.inputs, device=device) for block in layers}
    seconds = min(_seconds(model, layers, Directions(nowhere, targets, "mean"), middle) for _ in range(2))
    return Cost(round(total * share), seconds / (len(middle) * int(middle.lengths.max())) * total * share)


def _seconds(model: nn.Module, layers: Layers, towards: Directions, batches: Batches) -> float:
    start = time.perf_counter()
    score(model, layers, towards, batches)
    return time.perf_counter() - start


def _one_row(model: nn.Module, layers: Layers, length: int) -> int:
    """Bytes that are allocated at once, at most, while one row of `length` goes forward and back."""
    (batch,) = encode([np.ones(length, np.int64)], context=length)
    with watching(model, layers) as passes, _Tracker() as tracker:
        passes.run(batch, lambda seen: None)
    return int(tracker.peak)


class _Tracker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the storages that operations make while they live."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now, self.peak = 0, 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        given = {one.untyped_storage() for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)}
        for one in tree_leaves(output):
            if isinstance(one, Tensor) and one.untyped_storage() not in given:
                self._count(one.untyped_storage())
        return output

    def _count(self, storage: Any) -> None:
        if storage not in self._known:
            self._known.add(storage)
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._free, storage.nbytes())

    def _free(self, size: int) -> None:
        self.now -= size
