"""Gradients of single rows, for a moment and some rows at a time, and what is made of them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from stages.influence.passes import Seen

CHUNK = 1 << 24
"""Entries of rows' gradients that are held at a time."""


def finite(seen: Seen) -> tuple[Tensor, Tensor, Tensor]:
    """Float32 inputs [n, m, in], gradients [n, m, out] and live tokens [n, m]; rows with infinities or NaN are zero."""
    inputs, grads = seen.inputs.float(), seen.grads.float()
    sound = torch.isfinite(inputs.sum((1, 2))) & torch.isfinite(grads.sum((1, 2))) & seen.sound
    keep = sound[:, None, None]
    return torch.where(keep, inputs, 0), torch.where(keep, grads, 0), seen.live & sound[:, None]


def row_gradients(inputs: Tensor, grads: Tensor) -> Iterator[Tensor]:
    """Each row's gradient, sum over tokens of d a^T [rows, out, in], a few rows at a time."""
    at_a_time = max(1, CHUNK // (inputs.shape[-1] * grads.shape[-1]))
    for given, grad in zip(torch.split(inputs, at_a_time), torch.split(grads, at_a_time), strict=True):
        yield torch.bmm(grad.mT, given)


def row_scores(inputs: Tensor, grads: Tensor, matrices: Tensor) -> Tensor:
    """Sum over tokens of d^T M a, for every row and target: float32 [n, targets]; `matrices` is [targets, out, in].

    One target: M a for every token, then the product with d. Several: each row's gradient, which costs as much, then
    its product with all of them, which costs next to nothing.
    """
    if len(matrices) == 1:
        moved = inputs.to(matrices.dtype) @ matrices[0].T
        return (moved * grads).sum((1, 2), dtype=torch.float32)[:, None]
    flat = matrices.flatten(1).T
    parts = [one.flatten(1).to(flat.dtype) @ flat for one in row_gradients(inputs, grads)]
    return torch.cat(parts).float()
