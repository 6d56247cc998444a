"""Random projections of gradients, block by block, without ever writing the projection down."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor

from stages.influence.layers import Block


class Projection:
    """G [out, in] of each block becomes P G R^T, [left, right], with Gaussian P and R of the block's own.

    Summed over blocks, inner products of such vectors are right on average (LoGra, Choe et al. 2024, without its
    initialisation; the sum over blocks in place of their concatenation keeps the vectors short).
    """

    def __init__(self, dimensions: int, seed: int) -> None:
        self.left = next(one for one in range(int(dimensions**0.5), 0, -1) if dimensions % one == 0)
        self.right, self.seed = dimensions // self.left, seed
        self._made: dict[str, tuple[Tensor, Tensor]] = {}

    def of(self, block: Block, like: Tensor) -> tuple[Tensor, Tensor]:
        """P [left, out] and R [right, in] where `like` is."""
        if block.name not in self._made:
            key = hashlib.blake2b(f"{self.seed} {block.name}".encode(), digest_size=16).digest()
            generator = np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
            shapes = (self.left, block.outputs), (self.right, block.inputs)
            drawn = [generator.standard_normal(shape, np.float32) / np.sqrt(shape[0]) for shape in shapes]
            left, right = (torch.from_numpy(one.astype(np.float32)).to(like.device, like.dtype) for one in drawn)
            self._made[block.name] = left, right
        return self._made[block.name]

    def tokens(self, block: Block, inputs: Tensor, grads: Tensor) -> Tensor:
        """P G R^T, flat [n, dimensions], of the gradients that `inputs` [n, m, in] and `grads` [n, m, out] make."""
        left, right = self.of(block, grads)
        return torch.bmm((grads @ left.T).mT, inputs.to(grads.dtype) @ right.T).float().flatten(1)

    def gradients(self, block: Block, gradients: Tensor) -> Tensor:
        """The same of gradients [n, out, in] themselves."""
        left, right = self.of(block, gradients)
        return (left @ gradients @ right.T).float().flatten(1)
