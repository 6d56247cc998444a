"""LESS's warm-up: a short training on a part of the pool, for Adam's moments. Importing this imports torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from schemas.errors import RecipeError
from stages.contract import Pool
from stages.influence.batches import Batch, Batches

FULL_UP_TO: Final = 50_000_000
"""Parameters up to which all weights are trained; a larger model gets a LoRA adapter."""
_WARM_UP: Final = 0.03


def adapter_rank(model: nn.Module, rank: int | None) -> int:
    """LoRA's rank, 0 for training all weights; `rank` None: 128 (as published) for a model too large for that.

    Raises RecipeError where LoRA is wanted and peft is not installed.
    """
    size = sum(one.numel() for one in model.parameters())
    wanted = (128 if size > FULL_UP_TO else 0) if rank is None else rank
    if wanted and find_spec("peft") is None:
        raise RecipeError("LoRA needs peft: pip install 'curatrix[train]', or set `lora: 0` to train all weights")
    return wanted


def prepared(model: nn.Module, rank: int, seed: int) -> nn.Module:
    """A copy of the model that can be trained: all of it, or an adapter beside its frozen weights (dropout off)."""
    import copy

    trained = copy.deepcopy(model)
    if rank == 0:
        return trained.requires_grad_(True)
    import peft

    config = peft.LoraConfig(
        r=rank, lora_alpha=4 * rank, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return peft.get_peft_model(trained, config)


def warm_up(model: nn.Module, rows: Batches, epochs: int, rate: float, seed: int, pool: Pool) -> torch.optim.Adam:
    """Train in place with Adam and a linearly falling rate; returns the optimiser with its moments.

    Finished epochs stay in `pool.scratch`: the same call after a kill continues from them. `pool.progress` hears of
    them.
    """
    weights = [one for one in model.parameters() if one.requires_grad]
    optimiser = torch.optim.Adam(weights, lr=rate)
    plan = [batch for epoch in range(epochs) for batch in _shuffled(list(rows), seed + epoch)]
    each = len(plan) // max(1, epochs)
    done = _restore(weights, optimiser, pool.scratch)
    for step, batch in enumerate(plan[done:], done + 1):
        for group in optimiser.param_groups:
            group["lr"] = rate * _share(step, len(plan))
        _step(model, optimiser, batch)
        pool.progress("warming up", step, len(plan))
        if step % each == 0:
            _checkpoint(weights, optimiser, step, pool.scratch)
    return optimiser


def _shuffled(batches: Sequence[Batch], seed: int) -> list[Batch]:
    return [batches[at] for at in np.random.default_rng(seed).permutation(len(batches))]


def _share(step: int, total: int) -> float:
    warm = max(1, round(_WARM_UP * total))
    return min(step / warm, (total - step + 1) / max(1, total - warm + 1))


def _step(model: nn.Module, optimiser: torch.optim.Adam, batch: Batch) -> None:
    """One step on the mean over rows of their mean losses, which is what the gradients of `project` are of."""
    device = next(model.parameters()).device
    ids, counted = torch.from_numpy(batch.ids).to(device), torch.from_numpy(batch.counted).to(device)[:, 1:]
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
    losses = nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    each = (losses.view_as(counted) * counted).sum(1) / counted.sum(1)
    usable = each[torch.isfinite(each)]
    if len(usable):
        optimiser.zero_grad(set_to_none=True)
        usable.mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()


def _checkpoint(weights: Sequence[Tensor], optimiser: torch.optim.Adam, step: int, scratch: Path) -> None:
    from safetensors.torch import save_file

    tensors: dict[str, Any] = {}
    for at, weight in enumerate(weights):
        if weight not in optimiser.state:
            continue
        moments = optimiser.state[weight]
        tensors |= {f"{at}.w": weight.detach(), f"{at}.m": moments["exp_avg"], f"{at}.v": moments["exp_avg_sq"]}
    unfinished = scratch / "warm-up.unfinished"
    save_file({name: one.contiguous().clone() for name, one in tensors.items()}, unfinished, {"step": str(step)})
    with unfinished.open("rb") as handle:
        os.fsync(handle.fileno())
    unfinished.replace(scratch / "warm-up.safetensors")


def _restore(weights: Sequence[Tensor], optimiser: torch.optim.Adam, scratch: Path) -> int:
    from safetensors import safe_open

    path = scratch / "warm-up.safetensors"
    if not path.is_file():
        return 0
    with safe_open(path, "pt") as file, torch.no_grad():
        step = int(file.metadata()["step"])
        names = set(file.keys())
        for at, weight in enumerate(weights):
            if f"{at}.w" in names:
                weight.copy_(file.get_tensor(f"{at}.w"))
                moments = {"exp_avg": file.get_tensor(f"{at}.m"), "exp_avg_sq": file.get_tensor(f"{at}.v")}
                moved = {name: one.to(weight.device) for name, one in moments.items()}
                optimiser.state[weight] = {"step": torch.tensor(float(step)), **moved}
    return step
