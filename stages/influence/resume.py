"""Sums over batches that can be killed at any moment and go on where they stood."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stages.influence.arrays import load, pack, save, unpack
from stages.influence.batches import Batch, Batches

Progress = Callable[[str, int, int], None]
"""Called with what is being done, batches done and batches in all."""
SAVE_SECONDS = 30.0
"""How much work a kill may cost."""


def summed(
    step: str,
    batches: Batches,
    totals: Mapping[str, Tensor],
    add: Callable[[Batch], None],
    *,
    key: str,
    scratch: Path | None = None,
    progress: Progress | None = None,
) -> None:
    """Call `add`, which adds to `totals` in place, for every batch in turn.

    With `scratch`, totals are written there from time to time, exactly as they are, under `key` (which tells what they
    depend on): the same call after a kill ends with the same bits as one that was never interrupted.
    """
    path = None if scratch is None else scratch / f"{step}-{key}.npz"
    done, saved = _restore(path, totals), time.monotonic()
    plan = batches.plan()
    for place, batch in enumerate(batches):
        if place < done:
            continue
        add(batch)
        last = place + 1 == len(plan)
        if path is not None and (last or time.monotonic() - saved >= SAVE_SECONDS):
            save(path, {"done": np.array(place + 1), **pack("totals", totals)})
            saved = time.monotonic()
        if progress is not None:
            progress(step, place + 1, len(plan))


def _restore(path: Path | None, totals: Mapping[str, Tensor]) -> int:
    """Put what was saved into `totals`; batches that it has."""
    stored = None if path is None else load(path)
    if stored is None:
        return 0
    for name, values in unpack("totals", stored).items():
        totals[name].copy_(values)
    return int(stored["done"])


def key_of(batches: Batches, *what: object) -> str:
    """A name for results that depend on these rows, in these batches, and on `what`."""
    digest = hashlib.blake2b(repr((batches.tokens, what)).encode(), digest_size=12)
    for key in batches.keys("resume"):
        digest.update(key)
    return digest.hexdigest()


def fingerprint(model: torch.nn.Module) -> str:
    """A name for a model's weights: shapes, types, and the sum and the first entries of each."""
    digest = hashlib.blake2b(digest_size=12)
    for name, parameter in model.named_parameters():
        flat = parameter.detach().reshape(-1)
        few = [float(flat.sum(dtype=torch.float32)), *flat[:4].float().tolist()]
        digest.update(repr((name, tuple(parameter.shape), str(parameter.dtype), few)).encode())
    return digest.hexdigest()
