"""How well each method agrees with the exact inverse: `bench/quad.py agreement`."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from quad_models import LENGTH, VOCABULARY, joined, llama, peer
from scipy.stats import spearmanr
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from stages.influence import (
    Batches,
    Directions,
    Factors,
    Layers,
    directions,
    encode,
    estimate_factors,
    examine,
    find_layers,
    score,
)
from stages.influence.probe import logits_of

Vector = dict[str, Tensor]
SAMPLE, POOL, ROWS = 96, 256, 24
"""Rows of the curvature, rows that are ranked, rows of a training step."""
METHODS = (("ekfac", "all"), ("kfac", "all"), ("ekfac", "mlp"), ("ekfac", "attention"), ("identity", "all"))


@dataclass(frozen=True)
class Asked:
    """What to compare: a model after `steps` steps on `learn` rows (none of which is ranked or in the curvature)."""

    pool: Sequence[Path]
    targets: Sequence[Path]
    steps: int
    learn: int
    seed: int
    blocks: bool
    kronfluence: Path | None


def agreement(asked: Asked) -> None:
    """Rank correlation of every method's scores with those of the exact damped inverse Gauss-Newton matrix."""
    texts = [texts_of(path, 4_000) for path in asked.pool]
    tokenizer = train_tokenizer([text for several in texts for text in several[:700]])
    tokens = np.concatenate([rows_of(tokenizer, several, 2_500) for several in texts])
    np.random.default_rng(asked.seed).shuffle(tokens)
    sample, pool, rest = tokens[:SAMPLE], tokens[SAMPLE:][:POOL], tokens[SAMPLE + POOL :][: asked.learn]
    targets = [batches(rows_of(tokenizer, texts_of(path, 300), 32)) for path in asked.targets]
    model = llama(48, 2)
    loss = train(model, rest, asked.steps)
    seen = asked.steps * ROWS / len(rest)
    print(f"seed {asked.seed}, {asked.steps} steps, each row seen {seen:.1f} times; last losses {loss:.2f}")
    if asked.kronfluence is None:
        against_exact(model, Task(find_layers(model), sample, targets, batches(pool)), asked.blocks)
    else:
        sets = {"sample": batches(sample), "pool": batches(pool)}
        against_kronfluence(asked.kronfluence, model, find_layers(model), sets, targets)


@dataclass(frozen=True)
class Task:
    """Rows of the curvature [rows, tokens], target sets, and rows to rank."""

    layers: Layers
    sample: Any
    targets: Sequence[Batches]
    pool: Batches


def against_exact(model: LlamaForCausalLM, task: Task, blocks: bool) -> None:
    """Rank correlation with the exact inverse, damped by once the mean eigenvalue of all layers."""
    factors = estimate_factors(model, task.layers, batches(task.sample))
    values = factors.eigenvalues.values()
    damping = sum(float(one.sum()) for one in values) / sum(one.numel() for one in values)
    found = dict(approximations(model, task))
    exact = score(model, task.layers, solved(model, task, damping), task.pool)
    if blocks:
        alone = score(model, task.layers, solved_by_block(model, task, damping, factors), task.pool)
        print(f"{'ekfac, all, against exact blocks':40s} {agree(found['ekfac, all'], alone):6.3f}")
        found["exact, each block by itself"] = alone
    for name, scores in found.items():
        print(f"{name:40s} {agree(scores, exact):6.3f}", flush=True)


def approximations(model: nn.Module, task: Task) -> Iterator[tuple[str, Any]]:
    """Scores [pool, targets] by method."""
    sample = batches(task.sample)
    for kind, which in METHODS:
        part = find_layers(model, which)  # type: ignore[arg-type]
        factors = estimate_factors(model, part, sample, kind=kind)  # type: ignore[arg-type]
        for damping in (0.1, 0.01, 1.0) if (kind, which) == METHODS[0] else (0.1,):
            towards = directions(model, part, factors, task.targets, damping=damping)
            told = "" if damping == 0.1 else f", damping {damping}"
            yield f"{kind}, {which}{told}", score(model, part, towards, task.pool)
    seen = examine(model, task.layers, task.pool, norms=True)
    assert seen.norms is not None
    for name, one in (("loss", seen.loss), ("norm", seen.norms)):
        yield name, one[:, None].repeat(len(task.targets), 1)


def against_kronfluence(
    folder: Path, model: LlamaForCausalLM, layers: Layers, sets: Mapping[str, Batches], targets: Sequence[Batches]
) -> None:
    """Rank correlation with kronfluence's EK-FAC scores, for target sets and for single target rows."""
    other = np.asarray(peer(folder, model, layers, {**sets, "target": joined(targets)})["scores"]).T
    factors = estimate_factors(model, layers, sets["sample"])
    singles = [one.take([row]) for one in targets for row in range(len(one))]
    for name, of, theirs in [
        ("sets", targets, np.stack([part.mean(1) for part in np.split(other, len(targets), 1)], 1)),
        ("rows", singles[::16], other[:, ::16]),
    ]:
        own = score(model, layers, directions(model, layers, factors, of, reduction="sum"), sets["pool"])
        print(f"kronfluence, target {name:20s} {agree(own, theirs):6.3f}")


def agree(values: Any, others: Any) -> float:
    """Spearman correlation over rows, mean over targets."""
    return float(np.mean([spearmanr(one, other).statistic for one, other in zip(values.T, others.T, strict=True)]))


# --- the exact inverse ----------------------------------------------------------------------------------------------


def solved(model: LlamaForCausalLM, task: Task, damping: float) -> Directions:
    """(H + damping)^-1 g_V by conjugate gradients, H the exact Gauss-Newton matrix of `sample` over all layers."""
    rights = gradients(model, task)
    model.set_attn_implementation("eager")
    found = []
    for right in rights:
        solution, steps, left = conjugate_gradients(
            lambda one: plus(curved(model, task, one), damping, one), right, lambda one: one
        )
        print(f"  {steps} steps of conjugate gradients, relative residual {left:.1e}", flush=True)
        found.append(solution)
    model.set_attn_implementation("sdpa")
    return stacked(found)


def solved_by_block(model: LlamaForCausalLM, task: Task, damping: float, factors: Factors) -> Directions:
    """The same where H has nothing outside of the blocks of one layer each: the most that EK-FAC can approach."""
    rights = gradients(model, task)
    model.set_attn_implementation("eager")
    found = []
    for right in rights:
        parts = (one_block(model, task, damping, factors, name, right[name]) for name in right)
        found.append({name: one for part in parts for name, one in part.items()})
    model.set_attn_implementation("sdpa")
    return stacked(found)


def one_block(
    model: LlamaForCausalLM, task: Task, damping: float, factors: Factors, name: str, right: Tensor
) -> Vector:
    """The solution of one block; EK-FAC's is close enough to be the preconditioner."""
    values, basis, other = factors.eigenvalues[name], factors.outputs[name], factors.inputs[name]

    def times(one: Vector) -> Vector:
        return {name: curved(model, task, one)[name] + damping * one[name]}

    def nearly(one: Vector) -> Vector:
        return {name: basis @ ((basis.T @ one[name] @ other) / (values + damping)) @ other.T}

    return conjugate_gradients(times, {name: right}, nearly)[0]


def gradients(model: nn.Module, task: Task) -> list[Vector]:
    """Each target's mean gradient."""
    identity = estimate_factors(model, task.layers, batches(task.sample), kind="identity")
    found = directions(model, task.layers, identity, task.targets).matrices
    return [{name: one[place] for name, one in found.items()} for place in range(len(task.targets))]


def stacked(found: Sequence[Vector]) -> Directions:
    """One solution per target."""
    return Directions({name: torch.stack([one[name] for one in found]) for name in found[0]}, len(found), "mean")


def plus(one: Vector, factor: float, other: Vector) -> Vector:
    """`one` + factor x `other`."""
    return {name: one[name] + factor * other[name] for name in one}


def dot(one: Vector, other: Vector) -> float:
    """Inner product over all blocks."""
    return sum(float((one[name] * other[name]).sum()) for name in one)


def conjugate_gradients(
    times: Callable[[Vector], Vector], right: Vector, nearly: Callable[[Vector], Vector], tolerance: float = 2e-2
) -> tuple[Vector, int, float]:
    """x with A x = `right` to a relative residual of `tolerance`, in at most 100 steps; how many, and the residual.

    From 4e-2 to 3e-3 the ranking no longer changes (Spearman 0.9997). `nearly` is about A's inverse.
    """
    found, residual = {name: torch.zeros_like(one) for name, one in right.items()}, right
    direction = solved_nearly = nearly(right)
    size, start, step = dot(right, solved_nearly), dot(right, right), 0
    while step < 100 and dot(residual, residual) > tolerance**2 * start:
        moved = times(direction)
        rate = size / dot(direction, moved)
        found, residual = plus(found, rate, direction), plus(residual, -rate, moved)
        solved_nearly = nearly(residual)
        size, before = dot(residual, solved_nearly), size
        direction, step = plus(solved_nearly, size / before, direction), step + 1
    return found, step, (dot(residual, residual) / start) ** 0.5


def curved(model: nn.Module, task: Task, vector: Vector) -> Vector:
    """H times `vector` (blocks that it lacks are zero), H of the mean loss per token: J^T (diag p - p p^T) J."""
    members = {block.name: [f"{path}.weight" for path in block.members] for block in task.layers}
    weights = {path: model.get_parameter(path) for paths in members.values() for path in paths}
    tangents = {path: torch.zeros_like(one) for path, one in weights.items()}
    for name, one in vector.items():
        parts = torch.split(one, [len(weights[path]) for path in members[name]])
        tangents |= dict(zip(members[name], parts, strict=True))
    totals = {path: torch.zeros_like(one) for path, one in weights.items()}
    for ids in torch.split(torch.from_numpy(task.sample), 32):
        _add_curved(model, ids, weights, tangents, totals)
    count = task.sample.shape[0] * (task.sample.shape[1] - 1)
    return {name: torch.cat([totals[path] for path in paths]) / count for name, paths in members.items()}


def _add_curved(model: nn.Module, ids: Tensor, weights: Mapping[str, Tensor], tangents: Vector, totals: Vector) -> None:
    def logits(given: Vector) -> Tensor:
        made: Tensor = torch.func.functional_call(model, given, kwargs={"input_ids": ids, "use_cache": False}).logits
        return made[:, :-1]

    made, moved = torch.func.jvp(logits, (weights,), (tangents,))
    chances = torch.softmax(made, -1)
    curved_logits = chances * (moved - (chances * moved).sum(-1, keepdim=True))
    (back,) = torch.func.vjp(logits, weights)[1](curved_logits)
    for path, one in back.items():
        totals[path] += one.detach()


# --- rows and the model ---------------------------------------------------------------------------------------------


def texts_of(path: Path, most: int) -> list[str]:
    """Texts of the first rows of a JSON lines file."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for _, line in zip(range(most), file, strict=False)]
    return ["\n".join(value for value in row.values() if isinstance(value, str)) for row in rows]


def train_tokenizer(texts: Sequence[str]) -> Tokenizer:
    """Byte-level BPE."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=VOCABULARY, initial_alphabet=alphabet))
    return tokenizer


def rows_of(tokenizer: Tokenizer, texts: Sequence[str], most: int) -> Any:
    """The first `LENGTH` tokens of texts that have as many."""
    ids = [one.ids[:LENGTH] for one in tokenizer.encode_batch(list(texts)) if len(one.ids) >= LENGTH]
    return np.array(ids[:most], np.int64)


def batches(rows: Any) -> Batches:
    """Rows of tokens as the engine takes them."""
    return encode(list(rows), context=LENGTH, tokens=16 * LENGTH)


def train(model: nn.Module, rows: Any, steps: int) -> float:
    """Train on random `rows`; the mean loss of the last steps."""
    if not steps:
        return float("nan")
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps)
    random, losses = np.random.default_rng(0), []
    for _ in range(steps):
        ids = torch.from_numpy(rows[random.integers(0, len(rows), ROWS)])
        loss = nn.functional.cross_entropy(logits_of(model, ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        losses.append(float(loss.detach()))
    return float(np.mean(losses[-50:]))
