"""Gradients of single rows, for a moment and some rows at a time, and what is made of them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from stages.influence.passes import Seen

CHUNK = 1 << 24
"""Entries of rows' gradients that are held at a time."""
_ENTRY = 64
"""Products that take as long as writing and reading an entry of a gradient: 70 on a CPU, more on a GPU."""


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


def tokenwise(inputs: Tensor, matrices: Tensor) -> bool:
    """Whether `token_scores` is the cheaper way to score towards `matrices` [targets, out, in] alone.

    It multiplies once per target, `gradient_scores` once for all of them; but that has to write and read a gradient per
    row, which costs as much as `_ENTRY` products of each entry. Not where M would be multiplied in another precision
    than the model's.
    """
    return inputs.dtype == matrices.dtype and (len(matrices) - 1) * inputs.shape[1] < _ENTRY


def token_scores(inputs: Tensor, grads: Tensor, matrices: Tensor) -> Tensor:
    """Sum over tokens of d^T (M a) for every row and target: float32 [n, targets]."""
    columns = [((inputs @ one.T) * grads).sum((1, 2), dtype=torch.float32) for one in matrices]
    return torch.stack(columns, 1)


def gradient_scores(gradients: Tensor, matrices: Tensor) -> Tensor:
    """The same of rows' gradients [n, out, in]."""
    flat = matrices.flatten(1).T
    return (gradients.flatten(1).to(flat.dtype) @ flat).float()
