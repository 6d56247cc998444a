"""What asking a student costs: sizes from its weights, speed from a measurement here."""

from __future__ import annotations

from time import perf_counter
from typing import Any, Final, NamedTuple

from stages.student.loss import TOKENS_PER_BATCH
from stages.student.models import Student

_KEPT_PER_LAYER: Final = 16
"""Hidden states per token and layer that a backward pass needs: attention's four, the MLP's eight, norms and sums."""


class Cost(NamedTuple):
    """Sizes of a model, and the arithmetic it takes per token."""

    parameters: int
    bytes: int  # of the weights, as loaded
    forward_flops: int  # per token, attention over short texts left out: 2 per weight of a matrix product
    training_flops: int  # forward and backward: 6 per weight


def cost(student: Student) -> Cost:
    """Sizes, from the weights; tied weights count once, and multiply where the output layer uses them."""
    weights = list(student.model.parameters())
    total = sum(weight.numel() for weight in weights)
    stored = sum(weight.numel() * weight.element_size() for weight in weights)
    head, table = student.model.get_output_embeddings(), student.model.get_input_embeddings()
    tied = head is not None and head.weight is table.weight
    multiplied = total if tied else total - table.weight.numel()
    return Cost(total, stored, 2 * multiplied, 6 * multiplied)


def speed(student: Student, tokens: int = 256) -> float:
    """Tokens per second of a forward pass here, from timing one of `tokens` tokens (after one to warm up)."""
    import torch

    length = min(tokens, student.context)
    ids = torch.full((max(1, tokens // length), length), student.start, device=student.device)
    with torch.inference_mode():
        _forward(student, ids)
        started = perf_counter()
        _forward(student, ids)
    return float(ids.numel() / (perf_counter() - started))


def peak_bytes(student: Student, tokens_per_batch: int = TOKENS_PER_BATCH, gradients: bool = False) -> int:
    """Roughly the memory a batch needs beside the weights: logits and hidden states, of all layers where `gradients`.

    With gradients the weights' own are counted too, not an optimiser's moments.
    """
    config = student.model.config.get_text_config()
    each = next(iter(student.model.parameters())).element_size()
    hidden = _KEPT_PER_LAYER * config.hidden_size * each * (config.num_hidden_layers if gradients else 1)
    logits = config.vocab_size * (each + (8 if gradients else 4))
    weights = sum(w.numel() * w.element_size() for w in student.model.parameters()) if gradients else 0
    return int(tokens_per_batch * (hidden + logits) + weights)


def _forward(student: Student, ids: Any) -> None:
    import torch

    student.model(input_ids=ids, use_cache=False)
    if student.device.startswith("cuda"):
        torch.cuda.synchronize()
