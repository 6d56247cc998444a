"""Training a small model on the CPU to the same bits every time, in steps that a kill does not lose."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from stages.student.loss import batched

_TOKENS_PER_STEP: Final = 1024
_PARTS: Final = 4
_STEPS_PER_CHECKPOINT: Final = 25
_RATE: Final = 3e-3
_BETAS: Final = (0.9, 0.95)
_DECAY: Final = 0.1
_WARM_UP: Final = 0.1
_CLIP: Final = 1.0
_THREADS: Final = 1
"""Always as many, for sums in another order give other last digits; two that wait for each other on a busy machine are
far slower than one."""
_IGNORED: Final = -100


class Step(NamedTuple):
    """How far training is; `loss` is the mean over the step's tokens in nats."""

    done: int
    total: int
    loss: float


def steps(ids: Sequence[Sequence[int]]) -> list[slice]:
    """Runs of texts, in the order given, of `_TOKENS_PER_STEP` tokens or just over."""
    ends = np.cumsum([len(each) for each in ids])
    number = np.concatenate([[0], ends[:-1]]) // _TOKENS_PER_STEP
    starts = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(ids)]
    return [slice(start, end) for start, end in pairwise(starts)]


def train(model: Any, ids: Sequence[Sequence[int]], scratch: Path, told: Callable[[Step], None]) -> None:
    """Teach `model` the texts `ids` once, in place: AdamW, a short warm-up, then a cosine to a tenth of the rate.

    Every 25 steps weights and moments go to `scratch`; the same call after a kill continues there, to the same bits.
    """
    import torch

    plan = steps(ids)
    optimiser = torch.optim.AdamW(model.parameters(), lr=_RATE, betas=_BETAS, weight_decay=_DECAY)
    first = _restore(model, optimiser, scratch)
    with threads(_THREADS):
        model.train()
        for done in range(first + 1, len(plan) + 1):
            loss = _step(model, optimiser, ids[plan[done - 1]], _rate(done, len(plan)))
            told(Step(done, len(plan), loss))
            if done % _STEPS_PER_CHECKPOINT == 0 or done == len(plan):
                _checkpoint(model, optimiser, done, scratch)
        model.eval()


@contextmanager
def threads(number: int) -> Iterator[None]:
    """So many threads within, as many as before after."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _step(model: Any, optimiser: Any, ids: Sequence[Sequence[int]], rate: float) -> float:
    """One update from all of `ids`, which run in parts of alike lengths to spare padding."""
    import torch

    wanted, total = sum(len(each) - 1 for each in ids), 0.0
    optimiser.zero_grad(set_to_none=True)
    for rows in batched([len(each) for each in ids], _TOKENS_PER_STEP // _PARTS):
        loss = _summed(model, [ids[row] for row in rows]) / max(1, wanted)
        loss.backward()
        total += float(loss.detach())
    torch.nn.utils.clip_grad_norm_(model.parameters(), _CLIP)
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.step()
    return total


def _summed(model: Any, ids: Sequence[Sequence[int]]) -> Any:
    import torch

    longest = max(len(each) for each in ids)
    labels = torch.tensor([[*each, *[_IGNORED] * (longest - len(each))] for each in ids])
    logits = model(input_ids=labels.clamp(min=0), use_cache=False).logits[:, :-1].flatten(0, 1)
    return torch.nn.functional.cross_entropy(logits, labels[:, 1:].flatten(), ignore_index=_IGNORED, reduction="sum")


def _rate(step: int, total: int) -> float:
    """The learning rate of a step, counted from 1."""
    warm = max(1, round(_WARM_UP * total))
    if step <= warm:
        return _RATE * step / warm
    return _RATE * (0.1 + 0.45 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm))))


def _checkpoint(model: Any, optimiser: Any, done: int, scratch: Path) -> None:
    """Weights and moments in one file, written whole or not at all."""
    from safetensors.torch import save_file

    tensors: dict[str, Any] = {}
    for name, weight in model.named_parameters():
        moments = optimiser.state[weight]
        tensors |= {f"w.{name}": weight.detach(), f"m.{name}": moments["exp_avg"], f"v.{name}": moments["exp_avg_sq"]}
    unfinished = scratch / "unfinished.safetensors"
    save_file(tensors, unfinished, metadata={"done": str(done)})
    with unfinished.open("rb") as handle:
        os.fsync(handle.fileno())
    unfinished.replace(scratch / "student.safetensors")


def _restore(model: Any, optimiser: Any, scratch: Path) -> int:
    """Continue from the checkpoint, if there is one; returns the steps that are done."""
    import torch
    from safetensors import safe_open

    path = scratch / "student.safetensors"
    if not path.is_file():
        return 0
    with safe_open(path, "pt") as file, torch.no_grad():
        done = int(file.metadata()["done"])
        for name, weight in model.named_parameters():
            weight.copy_(file.get_tensor(f"w.{name}"))
            moments = {"exp_avg": file.get_tensor(f"m.{name}"), "exp_avg_sq": file.get_tensor(f"v.{name}")}
            optimiser.state[weight] = {"step": torch.tensor(float(done)), **moments}
    return done
