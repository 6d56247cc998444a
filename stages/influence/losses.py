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
    gradient: Tensor  # [k, vocabulary] at `logits`, of the sum over rows of `loss`; zeros for rows that are not finite


def asked(counted: Tensor) -> tuple[Tensor, Tensor]:
    """Row and place [k] of every token whose logits a counted token's loss is made of: the one before it."""
    row, place = torch.nonzero(counted[:, 1:], as_tuple=True)
    return row, place


def row_losses(
    logits: Tensor, ids: Tensor, counted: Tensor, reduction: Reduction = "mean", uniforms: Tensor | None = None
) -> RowLosses:
    """Next-token losses in float32.

    Args:
        logits: [k, vocabulary] at the places that `asked` names, without a graph.
        ids: token ids [n, length].
        counted: which tokens' loss counts [n, length].
        reduction: over a row's counted tokens.
        uniforms: numbers in [0, 1) [n, length]; where given, each label is drawn from the model's own distribution.
    """
    row, place = asked(counted)
    counts = counted[:, 1:].sum(1).clamp(min=1).float()
    weight = (1 / counts if reduction == "mean" else torch.ones_like(counts))[row]
    labels = ids[row, place + 1]
    draws = None if uniforms is None else uniforms[row, place + 1]
    gradient, losses, distances = torch.empty_like(logits), torch.empty_like(weight), torch.empty_like(weight)
    size = max(1, CHUNK // logits.shape[-1])
    for at in (slice(start, start + size) for start in range(0, len(row), size)):
        label = labels[at] if draws is None else draw(logits[at].float(), draws[at])
        losses[at], distances[at], residual = _tokens(logits[at], label)
        torch.mul(residual, weight[at, None], out=gradient[at])
    loss = torch.zeros_like(counts).index_add_(0, row, losses * weight)
    el2n = torch.zeros_like(counts).index_add_(0, row, distances) / counts
    gradient[~torch.isfinite(loss)[row]] = 0
    return RowLosses(loss, el2n, gradient)


def _tokens(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Loss and EL2N of each token [k], and softmax - one-hot [k, vocabulary], in float32."""
    at = labels[:, None]
    chances = torch.log_softmax(logits, 1, dtype=torch.float32)
    loss = -chances.gather(1, at)
    residual = chances.exp_().scatter_add_(1, at, torch.full_like(loss, -1.0))
    return loss.squeeze(1), torch.linalg.vector_norm(residual, dim=1), residual


def draw(logits: Tensor, uniforms: Tensor) -> Tensor:
    """A label for each token: the inverse of the cumulative distribution at `uniforms` [k]."""
    cumulative = torch.cumsum(torch.softmax(logits, 1), 1)
    found = torch.searchsorted(cumulative, (uniforms.float() * cumulative[:, -1])[:, None], right=True)
    return found.squeeze(1).clamp(max=logits.shape[1] - 1)
