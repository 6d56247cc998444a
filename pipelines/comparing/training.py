"""Training on a fixed number of tokens, in a fixed number of steps, whatever the rows are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from stages.contract import IntArray
from stages.student.training import threads

_WARM_UP: Final = 0.1
_LAST: Final = 0.1
"""The rate at the end, as a share of the highest."""


def blocks(rows: Sequence[Sequence[int]], ends: tuple[int, int], tokens: int, window: int, seed: int) -> IntArray:
    """Rows as one stream of tokens, cut into sequences: (tokens // window, at least 1; window).

    Every row stands between the two tokens of `ends`. All rows come once in an order drawn by `seed`, then once more in
    another, until the stream is long enough: few rows are repeated, of many the last drawn are never seen.
    """
    count = max(1, tokens // window)
    draw, stream = np.random.default_rng(seed), list[int]()
    while len(stream) < count * window:
        for row in draw.permutation(len(rows)):
            stream.extend((ends[0], *rows[row], ends[1]))
            if len(stream) >= count * window:
                break
    return np.array(stream[: count * window], np.int64).reshape(count, window)


def learn(student: Any, tokens: IntArray, batch: int, rate: float, seed: int) -> None:
    """AdamW over the sequences in their order, `batch` at a time, in place; a short warm-up, then a cosine.

    `seed` is that of dropout, where the model has any.
    """
    import torch

    model = student.model
    steps = [tokens[start : start + batch] for start in range(0, len(tokens), batch)]
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.0)
    # One thread: sums in another order give other last digits, and a rerun must find the same losses.
    with threads(1), torch.random.fork_rng():
        torch.manual_seed(seed)
        model.train()
        for number, rows in enumerate(steps, 1):
            ids = torch.from_numpy(rows).to(student.device)
            for group in optimiser.param_groups:
                group["lr"] = rate * _share(number, len(steps))
            optimiser.zero_grad(set_to_none=True)
            model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
        model.eval()


def _share(step: int, total: int) -> float:
    """The rate of a step, counted from 1, as a share of the highest."""
    warm = max(1, round(_WARM_UP * total))
    if step <= warm:
        return step / warm
    return _LAST + (1 - _LAST) * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))
