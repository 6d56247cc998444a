"""Scores, losses, gradient norms and projected gradients of rows: one forward and backward pass per batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from schemas.errors import RecipeError
from stages.influence.adam import AdamState
from stages.influence.batches import Batch, Batches
from stages.influence.directions import Directions
from stages.influence.layers import Block, Layers
from stages.influence.losses import Reduction
from stages.influence.passes import Passes, Seen, watching
from stages.influence.products import gradient_scores, row_gradients, token_scores, tokenwise
from stages.influence.projection import Projection

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Examined:
    """Results per row, in the rows' order; NaN for empty rows, and for rows where anything is not finite."""

    scores: Floats
    """[rows, targets]; positive: a gradient step on the row lowers the target's loss. No targets: [rows, 0]."""
    loss: Floats
    """[rows], mean or sum over counted tokens, as `reduction` says."""
    el2n: Floats
    """[rows], mean over counted tokens of |softmax - one-hot| (Paul et al. 2021)."""
    norms: Floats | None
    """[rows], of the gradient over all blocks; None unless asked for."""
    vectors: npt.NDArray[np.float32] | None
    """[rows, dimensions], projected gradients; None unless asked for."""
    not_finite: npt.NDArray[np.bool_]
    """[rows], where the model's loss or gradient is infinite or no number."""


def examine(
    model: nn.Module,
    layers: Layers,
    batches: Batches,
    *,
    towards: Directions | None = None,
    norms: bool = False,
    dimensions: int = 0,
    seed: int = 0,
    adam: AdamState | None = None,
    reduction: Reduction = "mean",
) -> Examined:
    """All that is asked for, from one forward and backward pass per batch (forward only, for losses alone).

    Args:
        model: a causal language model.
        layers: from `find_layers`.
        batches: the rows.
        towards: score against these.
        norms: find each row's gradient norm.
        dimensions: of projected gradients; 0 for none.
        seed: of the projection.
        adam: project Adam's updates in place of gradients.
        reduction: a row's loss is the mean or the sum over its counted tokens; must be that of `towards`.

    Raises:
        RecipeError: where `towards` was made with another reduction or for other layers.
    """
    _check(layers, towards, reduction)
    asked = _Asked(towards, norms, Projection(dimensions, seed) if dimensions else None, adam, {})
    columns: dict[str, Floats] = {}
    with watching(model, layers) as passes:
        for batch in batches:
            for name, values in asked.of(passes, batch, reduction).items():
                _column(columns, name, len(batches), values.shape[1:])[batch.rows] = values
    return _examined(columns, batches, 0 if towards is None else towards.targets, norms, dimensions)


def score(model: nn.Module, layers: Layers, towards: Directions, batches: Batches) -> Floats:
    """float64 [rows, targets]: g_V^T H^-1 g_z, positive where a gradient step on the row lowers the target's loss.

    NaN for rows without a token that counts and for rows whose loss or gradient is not finite.
    """
    return examine(model, layers, batches, towards=towards, reduction=towards.reduction).scores


def gradient_norms(model: nn.Module, layers: Layers, batches: Batches, *, reduction: Reduction = "mean") -> Floats:
    """float64 [rows]: norm of each row's gradient over all blocks; NaN as in `score`."""
    found = examine(model, layers, batches, norms=True, reduction=reduction).norms
    assert found is not None
    return found


def project(
    model: nn.Module,
    layers: Layers,
    batches: Batches,
    dimensions: int,
    *,
    seed: int = 0,
    adam: AdamState | None = None,
    reduction: Reduction = "mean",
) -> npt.NDArray[np.float32]:
    """float32 [rows, dimensions]: random projection of each row's gradient, or of Adam's update on it (LESS); NaN as
    in `score`. Equal seeds, dimensions and layers give vectors that can be compared. See `Projection`.
    """
    found = examine(model, layers, batches, dimensions=dimensions, seed=seed, adam=adam, reduction=reduction).vectors
    assert found is not None
    return found


class _Asked(NamedTuple):
    towards: Directions | None
    norms: bool
    projection: Projection | None
    adam: AdamState | None
    here: dict[str, Tensor]
    """`towards`, where the model is: moved once per call."""

    def of(self, passes: Passes, batch: Batch, reduction: Reduction) -> dict[str, Floats]:
        """What is asked for, of the batch's rows, by name."""
        parts: dict[str, list[Tensor]] = {}

        def use(seen: Seen) -> None:
            for name, values in self._block(seen).items():
                parts.setdefault(name, []).append(values)

        backward = self.towards is not None or self.norms or self.projection is not None
        losses = passes.run(batch, use if backward else None, reduction=reduction)
        found = {"loss": losses.loss.cpu().double(), "el2n": losses.el2n.cpu().double()}
        for name, several in parts.items():
            found[name] = torch.stack([one.to(several[0].device) for one in several]).cpu().double().sum(0)
        return {name: np.asarray(one.numpy()) for name, one in found.items()}

    def _block(self, seen: Seen) -> dict[str, Tensor]:
        """What is asked for of one block; rows' gradients are made once for all that takes them."""
        found: dict[str, Tensor] = {}
        taking = self._taking_gradients(seen.block)
        if self.towards is not None:
            matrices = self._matrices(self.towards, seen)
            if not taking and tokenwise(seen.inputs, matrices):
                found["scores"] = token_scores(seen.inputs, seen.grads, matrices)
            else:
                taking["scores"] = partial(gradient_scores, matrices=matrices)
        if self.projection is not None and self.adam is None:
            found["vectors"] = self.projection.tokens(seen.block, seen.inputs, seen.grads)
        return found | _by_row(seen, taking)

    def _taking_gradients(self, block: Block) -> dict[str, _Taking]:
        """What needs the rows' gradients of a block, scores apart."""
        taking: dict[str, _Taking] = {}
        projection, adam = self.projection, self.adam
        if self.norms:
            taking["squares"] = lambda rows: rows.float().square().sum((1, 2))
        if projection is not None and adam is not None:
            taking["vectors"] = lambda rows: projection.gradients(block, adam.update(block.name, rows.float()))
        return taking

    def _matrices(self, towards: Directions, seen: Seen) -> Tensor:
        name = seen.block.name
        if name not in self.here:
            self.here[name] = towards.matrices[name].to(seen.grads.device)
        return self.here[name]


_Taking = Callable[[Tensor], Tensor]
"""From some rows' gradients of a block [n, out, in] to something of each row [n, ...]."""


def _by_row(seen: Seen, taking: Mapping[str, _Taking]) -> dict[str, Tensor]:
    parts: dict[str, list[Tensor]] = {name: [] for name in taking}
    for rows in row_gradients(seen.inputs, seen.grads) if taking else ():
        for name, take in taking.items():
            parts[name].append(take(rows))
    return {name: torch.cat(several) for name, several in parts.items()}


def _check(layers: Layers, towards: Directions | None, reduction: Reduction) -> None:
    if towards is None:
        return
    if towards.reduction != reduction:
        raise RecipeError(f"influence: directions for reduction {towards.reduction} cannot score {reduction} losses")
    for block in layers:
        if block.name not in towards.matrices:
            raise RecipeError(f"influence: the directions were made without layer {block.name}; make them anew")


def _column(columns: dict[str, Floats], name: str, rows: int, shape: tuple[int, ...]) -> Floats:
    if name not in columns:
        columns[name] = np.full((rows, *shape), np.nan)
    return columns[name]


def _examined(columns: Mapping[str, Floats], batches: Batches, targets: int, norms: bool, dimensions: int) -> Examined:
    """Results with NaN in every column of a row that has any."""
    rows = len(batches)
    finite = np.ones(rows, bool)
    for values in columns.values():
        finite &= np.isfinite(values).reshape(rows, -1).all(1)

    def column(name: str, *shape: int) -> Floats:
        values = columns.get(name, np.full((rows, *shape), np.nan))
        return np.where(finite.reshape(-1, *[1] * len(shape)), values, np.nan)

    return Examined(
        column("scores", targets),
        column("loss"),
        column("el2n"),
        np.sqrt(column("squares")) if norms else None,
        column("vectors", dimensions).astype(np.float32) if dimensions else None,
        ~finite & ~batches.empty,
    )
