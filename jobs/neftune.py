"""NEFTune: uniform noise on the embeddings while training, scaled by each example's own length.

Noise is U(-1, 1) * alpha / sqrt(L * d) with d the width of the embeddings and L the number of tokens of the example
(Jain et al. 2023). L is not the length of the padded or packed line: 300 tokens packed to 8,192 would get a fifth of
the noise that is meant.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def example_lengths(position_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
    """For every token the number of tokens of its example, shape [lines, tokens]; 0 for padding of a padded batch.

    Args:
        position_ids: shape [lines, tokens]; a new example begins where they do not go up by one.
        attention_mask: shape [lines, tokens], of a padded batch: one example per line.
    """
    if attention_mask is not None:
        return attention_mask * attention_mask.sum(dim=1, keepdim=True)
    new = torch.ones_like(position_ids, dtype=torch.bool)
    new[:, 1:] = position_ids.diff(dim=1) != 1
    example = new.flatten().cumsum(0) - 1
    return torch.bincount(example)[example].view_as(position_ids)


def noise(embeddings: torch.Tensor, lengths: torch.Tensor, alpha: float) -> torch.Tensor:
    """Noise for embeddings of shape [lines, tokens, d] whose examples have these lengths (shape [lines, tokens])."""
    scale = alpha / (lengths.clamp(min=1) * embeddings.shape[-1]).sqrt() * (lengths > 0)
    return torch.empty_like(embeddings).uniform_(-1, 1) * scale.unsqueeze(-1).to(embeddings.dtype)


class Neftune:
    """A hook on a model's input embeddings. Within `batch` it adds noise; outside it, or in evaluation, nothing."""

    def __init__(self, alpha: float) -> None:
        self._alpha = alpha
        self._lengths: torch.Tensor | None = None

    def attach(self, model: Any) -> None:
        """Put the hook on the model's input embeddings."""
        model.get_input_embeddings().register_forward_hook(self._add)

    @contextmanager
    def batch(self, inputs: dict[str, torch.Tensor]) -> Iterator[None]:
        """The batch whose embeddings come next: `position_ids`, and `attention_mask` where it is padded."""
        if self._alpha:
            mask = inputs.get("attention_mask")
            self._lengths = example_lengths(inputs["position_ids"], mask)
        try:
            yield
        finally:
            self._lengths = None

    def _add(self, module: torch.nn.Module, given: Any, embeddings: torch.Tensor) -> torch.Tensor:
        if self._lengths is None or not module.training:
            return embeddings
        return embeddings + noise(embeddings, self._lengths, self._alpha)
