"""Losses of rows from logits, and their gradient, some tokens at a time: no float32 copy of all logits at once."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Reduction = Literal["mean", "sum"]
CHUNK = 1 << 24
"""Logits that are turned into probabilities at a time."""


class RowLosses(NamedTuple):
    """Losses of a batch's rows."""

    loss: Tensor  # [n], mean or sum over counted tokens
    el2n: Tensor  # [n], mean over counted tokens of |softmax - one-hot|
    gradient: Tensor  # [n, length, vocabulary], of the sum over rows of `loss`; zeros for rows that are not finite


def row_losses(
    logits: Tensor, ids: Tensor, counted: Tensor, reduction: Reduction = "mean", uniforms: Tensor | None = None
) -> RowLosses:
    """Next-token losses in float32.

    Args:
        logits: [n, length, vocabulary], without a graph.
        ids: token ids [n, length].
        counted: which tokens' loss counts [n, length].
        reduction: over a row's counted tokens.
        uniforms: numbers in [0, 1) [n, length]; where given, each label is drawn from the model's own distribution.
    """
    vocabulary = logits.shape[-1]
    row, place = torch.nonzero(counted[:, 1:], as_tuple=True)
    counts = counted[:, 1:].sum(1).clamp(min=1).float()
    weight = (1 / counts if reduction == "mean" else torch.ones_like(counts))[row]
    labels = ids[row, place + 1]
    draws = None if uniforms is None else uniforms[row, place + 1]
    gradient, losses, distances = torch.zeros_like(logits), [], []
    for at in torch.split(torch.arange(len(row), device=row.device), max(1, CHUNK // vocabulary)):
        part = logits[row[at], place[at]].float()
        one = labels[at] if draws is None else draw(part, draws[at])
        loss, distance = _tokens(part, one)
        gradient[row[at], place[at]] = part.mul_(weight[at, None]).to(gradient.dtype)
        losses.append(loss)
        distances.append(distance)
    loss = torch.zeros_like(counts).index_add_(0, row, torch.cat([weight.new_zeros(0), *losses]) * weight)
    el2n = torch.zeros_like(counts).index_add_(0, row, torch.cat([weight.new_zeros(0), *distances])) / counts
    gradient[~torch.isfinite(loss)] = 0
    return RowLosses(loss, el2n, gradient)


def _tokens(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Loss and EL2N of each token; `logits` [k, vocabulary] become softmax - one-hot in place."""
    at = labels[:, None]
    picked = logits.gather(1, at)
    total = torch.logsumexp(logits, 1, keepdim=True)
    loss = (total - picked).squeeze(1)
    logits.sub_(total).exp_().scatter_add_(1, at, torch.full_like(picked, -1.0))
    return loss, torch.linalg.vector_norm(logits, dim=1)


def draw(logits: Tensor, uniforms: Tensor) -> Tensor:
    """A label for each token: the inverse of the cumulative distribution at `uniforms` [k]."""
    cumulative = torch.cumsum(torch.softmax(logits, 1), 1)
    found = torch.searchsorted(cumulative, (uniforms.float() * cumulative[:, -1])[:, None], right=True)
    return found.squeeze(1).clamp(max=logits.shape[1] - 1)
