"""Adam's moments, block by block, for LESS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from schemas.errors import RecipeError
from stages.influence.layers import Layers, weight_of


@dataclass(frozen=True)
class AdamState:
    """First and second moment per block name [out, in], and the optimiser's constants."""

    exp_avg: Mapping[str, Tensor]
    exp_avg_sq: Mapping[str, Tensor]
    step: int
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    @staticmethod
    def of(model: nn.Module, layers: Layers, optimizer: torch.optim.Optimizer) -> AdamState:
        """The moments of `torch.optim.Adam` or `AdamW` after training `model`.

        Raises:
            RecipeError: where it has none for one of the layers' weights.
        """
        group = optimizer.param_groups[0]
        first, second = ({id(one): s[name] for one, s in optimizer.state.items() if name in s} for name in _MOMENTS)
        try:
            exp_avg = {block.name: torch.cat(weight_of(model, block, first)) for block in layers}
            exp_avg_sq = {block.name: torch.cat(weight_of(model, block, second)) for block in layers}
        except KeyError as error:
            raise RecipeError("influence: the optimiser has no Adam moments for some of the layers' weights") from error
        step = max(int(state["step"]) for state in optimizer.state.values())
        return AdamState(exp_avg, exp_avg_sq, step, tuple(group["betas"]), group["eps"])

    def denominator(self, name: str) -> Tensor:
        """sqrt(v / (1 - beta2^step)) + eps of block `name` [out, in]."""
        corrected = self.exp_avg_sq[name].float() / (1 - self.betas[1] ** self.step)
        return corrected.sqrt() + self.eps

    def update(self, name: str, gradients: Tensor) -> Tensor:
        """Adam's next step (before the learning rate) on each of `gradients` [n, out, in]: LESS, definition 2.1."""
        beta1, beta2 = self.betas
        first, second = (part[name].to(gradients.device).float() for part in (self.exp_avg, self.exp_avg_sq))
        mean = (beta1 * first + (1 - beta1) * gradients) / (1 - beta1 ** (self.step + 1))
        square = (beta2 * second + (1 - beta2) * gradients.square()) / (1 - beta2 ** (self.step + 1))
        return mean / (square.sqrt() + self.eps)


_MOMENTS = ("exp_avg", "exp_avg_sq")
