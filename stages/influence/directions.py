"""Preconditioned gradients of target sets: what every row's gradient is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from schemas.errors import RecipeError, RunError
from stages.influence.adam import AdamState
from stages.influence.arrays import Arrays, State, Storage, pack, unpack
from stages.influence.batches import Batches
from stages.influence.factors import Factors
from stages.influence.layers import Layers
from stages.influence.losses import Reduction
from stages.influence.passes import Seen, watching
from stages.influence.products import finite


@dataclass(frozen=True)
class Directions:
    """One matrix per block name and target [targets, out, in]; `reduction` is that of the rows they were made of, and
    of the rows that are compared with them.
    """

    matrices: Mapping[str, Tensor]
    targets: int
    reduction: Reduction

    def to_state(self, dtype: Storage = "float32") -> Arrays:
        """As named arrays; `float16` halves them (each is scaled to its largest entry)."""
        about: Arrays = {"targets": np.array(self.targets), "reduction": np.array(self.reduction)}
        return {**about, **pack("directions", self.matrices, dtype)}

    @staticmethod
    def from_state(state: State) -> Directions:
        """What `to_state` wrote."""
        return Directions(unpack("directions", state), int(state["targets"]), str(state["reduction"]))  # type: ignore[arg-type]

    def to(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> Directions:
        """On another device or in another precision (bfloat16 halves memory; products are summed in float32)."""
        moved = {name: one.to(device, dtype) for name, one in self.matrices.items()}
        return Directions(moved, self.targets, self.reduction)


def directions(
    model: nn.Module,
    layers: Layers,
    factors: Factors,
    targets: Sequence[Batches],
    *,
    damping: float = 0.1,
    reduction: Reduction = "mean",
) -> Directions:
    """(H + damping x mean eigenvalue)^-1 g_V for each target set V, g_V the mean over its rows' gradients.

    Args:
        model: the one `factors` are of.
        layers: from `find_layers`; `factors` must have them.
        factors: from `estimate_factors`.
        targets: the target sets.
        damping: in units of each block's mean eigenvalue; 0.01 to 1 hardly changes the order of scores.
        reduction: a row's loss is the mean or the sum over its counted tokens.

    Raises:
        RecipeError: where a target set has no token that counts, or `factors` lack a layer.
        RunError: where the model's loss is finite on no row of a target set.
    """
    missing = [] if factors.kind == "identity" else [one.name for one in layers if one.name not in factors.eigenvalues]
    if missing:
        raise RecipeError(f"influence: the curvature was estimated without layer {missing[0]}; estimate it anew")
    gradients = mean_gradients(model, layers, targets, reduction)
    solved = {name: factors.solve(name, gradient, damping) for name, gradient in gradients.items()}
    return Directions(solved, len(targets), reduction)


def adam_directions(
    model: nn.Module, layers: Layers, adam: AdamState, targets: Sequence[Batches], *, reduction: Reduction = "mean"
) -> Directions:
    """g_V / (sqrt(v) + eps), v Adam's second moment: LESS (Xia et al. 2024, section 2.2) with the moments held fixed.

    A row's score is then, up to a constant, how much Adam's next step on it lowers the target's loss. `project` with
    `adam` is LESS itself, whose moments move with the row.
    """
    gradients = mean_gradients(model, layers, targets, reduction)
    scaled = {name: one / adam.denominator(name).to(one.device) for name, one in gradients.items()}
    return Directions(scaled, len(targets), reduction)


def mean_gradients(
    model: nn.Module, layers: Layers, targets: Sequence[Batches], reduction: Reduction
) -> dict[str, Tensor]:
    """Mean over each set's rows of their gradients: float32 [targets, out, in] per block name."""
    device = next(model.parameters()).device
    means = {block.name: torch.zeros(len(targets), block.outputs, block.inputs, device=device) for block in layers}
    with watching(model, layers) as passes:
        for place, rows in enumerate(targets):

            def use(seen: Seen, place: int = place) -> None:
                inputs, grads, _ = finite(seen)
                means[seen.block.name][place].addmm_(grads.flatten(0, 1).T, inputs.flatten(0, 1))

            count = sum(int(torch.isfinite(passes.run(one, use, reduction=reduction).loss).sum()) for one in rows)
            if rows.empty.all():
                raise RecipeError(f"influence: target set {place} has no token whose loss counts")
            if not count:
                raise RunError(f"influence: the model's loss is finite on no row of target set {place}")
            for total in means.values():
                total[place] /= count
    return means
