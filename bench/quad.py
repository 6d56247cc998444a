"""Speed, memory and accuracy of the influence engine (stages/influence), for bench/results/quad.md.

    python bench/quad.py speed [--rows 64] [--kronfluence FOLDER]
    python bench/quad.py memory
    python bench/quad.py agreement --pool FILES --targets FILES [--steps 400] [--learn 800] [--blocks]
    python bench/quad.py agreement --pool FILES --targets FILES --kronfluence FOLDER

FILES are JSON lines (.jsonl, .jsonl.gz), the string values of each row joined. `--kronfluence` names a folder for an
interpreter that has kronfluence, which is made there with pip if it is none yet. One thread; seconds are processor
seconds, so that what else the machine does matters little, and methods take turns.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from quad_agreement import Asked, agreement
from quad_models import LENGTH, VOCABULARY, joined, llama, peer, random_rows
from torch import nn
from transformers import LlamaForCausalLM

from stages.influence import (
    Batches,
    Directions,
    Layers,
    directions,
    encode,
    estimate_factors,
    find_layers,
    memory_needed,
    score,
)
from stages.influence.layers import weight_of
from stages.influence.passes import watching
from stages.influence.probe import logits_of


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    speed_ = commands.add_parser("speed")
    speed_.add_argument("--rows", type=int, default=64)
    speed_.add_argument("--repeats", type=int, default=3)
    speed_.add_argument("--kronfluence", type=Path)
    speed_.set_defaults(run=lambda given: speed(given.rows, given.repeats, given.kronfluence))
    memory_ = commands.add_parser("memory")
    memory_.add_argument("--rows", type=int)
    memory_.set_defaults(run=lambda given: memory() if given.rows is None else peak(given.rows))
    agreement_ = commands.add_parser("agreement")
    agreement_.add_argument("--pool", type=Path, nargs="+", required=True)
    agreement_.add_argument("--targets", type=Path, nargs="+", required=True)
    agreement_.add_argument("--steps", type=int, default=400, help="of training, 24 rows each")
    agreement_.add_argument("--learn", type=int, default=800, help="rows to learn from, again and again")
    agreement_.add_argument("--seed", type=int, default=0, help="which rows are learned from, ranked, ...")
    agreement_.add_argument("--blocks", action="store_true", help="also the exact inverse of each block by itself")
    agreement_.add_argument("--kronfluence", type=Path, help="compare with kronfluence, not with the exact inverse")
    agreement_.set_defaults(
        run=lambda given: agreement(
            Asked(given.pool, given.targets, given.steps, given.learn, given.seed, given.blocks, given.kronfluence)
        )
    )
    torch.set_num_threads(1)
    given = parser.parse_args()
    given.run(given)


STEP = "training step (forward, backward)"


# --- speed ---------------------------------------------------------------------------------------------------------


def speed(count: int, repeats: int, folder: Path | None) -> None:
    """Milliseconds per row of everything that scores rows, and of a training step."""
    model, equal = llama(256, 4), random_rows(count, 2 * LENGTH)
    measured("equal length", model, equal, repeats, folder)
    measured("mixed length", model, mixed_rows(count), repeats, folder)
    answers = encode(equal.ids, [np.arange(len(ids)) >= LENGTH for ids in equal.ids], context=4 * LENGTH)
    measured("equal length, of which the second half counts", llama(128, 4, 4 * VOCABULARY), answers, repeats, None)


def measured(name: str, model: LlamaForCausalLM, rows: Batches, repeats: int, folder: Path | None) -> None:
    """Print what each method takes for `rows`."""
    print(f"{len(rows)} rows of {name}, {rows.lengths.mean():.0f} tokens on average, {rows.lengths.max()} at most;")
    print(f"a model of {sum(one.numel() for one in model.parameters()):,} weights")
    layers = find_layers(model)
    targets = [random_rows(1, 2 * LENGTH, seed=7 + place) for place in range(8)]
    factors = estimate_factors(model, layers, joined(targets))
    towards = {number: directions(model, layers, factors, targets[:number]) for number in (1, 8)}
    table = timed(model, layers, towards, rows, repeats)
    if folder is not None:
        table |= timed_peer(folder, model, layers, joined(targets), rows, repeats)
    for method, value in table.items():
        each, ratio = 1000 * value / len(rows), value / table[STEP]
        print(f"  {method:36s} {each:8.2f} ms per row {ratio:6.2f} x a training step", flush=True)


def timed_peer(
    folder: Path, model: LlamaForCausalLM, layers: Layers, targets: Batches, rows: Batches, repeats: int
) -> dict[str, float]:
    """The same of kronfluence: as a whole, and without its work on the targets, which counts little in a large pool."""
    few, known = rows.take(range(0, len(rows), 4)), {"sample": targets, "target": targets}
    part, whole = (
        float(np.median(peer(folder, model, layers, {**known, "pool": pool}, repeats)["score_seconds"]))
        for pool in (few, rows)
    )
    further = (whole - part) * len(rows) / (len(rows) - len(few))
    return {"kronfluence, 8 targets": whole, "kronfluence, each further row": further}


def timed(
    model: nn.Module, layers: Layers, towards: Mapping[int, Directions], rows: Batches, repeats: int
) -> dict[str, float]:
    """Processor seconds of each method, the median of rounds in which they take turns."""
    methods: dict[str, Callable[[], object]] = {
        "forward": lambda: forward(model, rows),
        "forward, backward without weights": lambda: through(model, layers, rows),
        STEP: lambda: training(model, rows),
        "engine, 1 target": lambda: score(model, layers, towards[1], rows),
        "engine, 8 targets": lambda: score(model, layers, towards[8], rows),
        "loop over rows, 1 target": lambda: loop(model, layers, towards[1], rows),
        "loop over rows, 8 targets": lambda: loop(model, layers, towards[8], rows),
    }
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for name, method in [*methods.items()] * (repeats + 1):  # the first round warms up
        start = time.process_time()
        method()
        seconds[name].append(time.process_time() - start)
    return {name: float(np.median(several[1:])) for name, several in seconds.items()}


def mixed_rows(count: int) -> Batches:
    """Rows of random tokens, their lengths spread over a factor of 16 as those of instructions are."""
    random = np.random.default_rng(0)
    lengths = np.exp(random.uniform(np.log(LENGTH / 4), np.log(4 * LENGTH), count)).astype(int)
    return encode([random.integers(0, VOCABULARY, one) for one in lengths], context=4 * LENGTH, tokens=32 * LENGTH)


def forward(model: nn.Module, rows: Batches) -> None:
    """Logits alone."""
    with torch.no_grad():
        for batch in rows:
            logits_of(model, torch.from_numpy(batch.ids))


def through(model: nn.Module, layers: Layers, rows: Batches) -> None:
    """What every exact score needs: the gradients of the layers' outputs, none of any weight."""
    with watching(model, layers) as passes:
        for batch in rows:
            passes.run(batch, lambda seen: None)


def training(model: nn.Module, rows: Batches) -> None:
    """Forward and backward passes of training, with the gradients of all weights; no optimiser."""
    model.train()
    for batch in rows:
        ids = torch.from_numpy(batch.ids)
        labels = torch.where(torch.from_numpy(batch.counted), ids, -100)
        logits = logits_of(model, ids)[:, :-1]
        nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten()).backward()
        model.zero_grad()


def loop(model: nn.Module, layers: Layers, towards: Directions, rows: Batches) -> list[list[float]]:
    """Each row's gradient by autograd, and its products with the directions: what most code does."""
    scores = []
    for ids, counted in zip(rows.ids, rows.counted, strict=True):
        batch = torch.from_numpy(ids)[None]
        labels = torch.where(torch.from_numpy(counted), batch[0], -100)
        nn.functional.cross_entropy(logits_of(model, batch)[0, :-1], labels[1:]).backward()
        grads = {id(one): one.grad for one in model.parameters() if one.grad is not None}
        stacked = {block.name: torch.cat(weight_of(model, block, grads)) for block in layers}
        products = [(towards.matrices[name] * grad).sum((1, 2)) for name, grad in stacked.items()]
        scores.append(torch.stack(products).sum(0).tolist())
        model.zero_grad()
    return scores


# --- memory --------------------------------------------------------------------------------------------------------


def memory() -> None:
    """Peak memory of processes that score pools of several sizes, next to what `memory_needed` says."""
    for rows in (100, 1000, 3000):
        found = subprocess.run(
            [sys.executable, __file__, "memory", "--rows", str(rows)], stdout=subprocess.PIPE, check=True
        )
        print(found.stdout.decode().strip())


def peak(count: int) -> None:
    """Score `count` rows and print the peak."""
    model = llama(128, 2)
    layers, target = find_layers(model), random_rows(4, LENGTH, seed=1)
    towards = directions(model, layers, estimate_factors(model, layers, target, kind="identity"), [target] * 8)
    stated = memory_needed(model, layers, targets=8, tokens=16 * LENGTH, length=LENGTH).score
    rows, before = random_rows(count, LENGTH), _peak()
    score(model, layers, towards, rows)
    print(
        f"{count:6,} rows: peak {_peak() / 2**20:7.1f} MiB, {(_peak() - before) / 2**20:6.1f} more than before; ",
        end="",
    )
    print(f"memory_needed says {stated / 2**20:.1f} with {8 * 4 * model.num_parameters() / 2**20:.1f} of directions")


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
