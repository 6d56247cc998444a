"""Speed, memory and accuracy of the influence engine (stages/influence), for bench/results/quad.md.

    python bench/quad.py speed [--rows 64] [--kronfluence FOLDER]
    python bench/quad.py memory
    python bench/quad.py agreement --pool FILES --targets FILES [--kronfluence FOLDER]

FILES are JSON lines (.jsonl, .jsonl.gz), the string values of each row joined. `--kronfluence` names a folder for an
interpreter that has kronfluence, which is made there with pip if it is none yet. One thread; seconds are processor
seconds, so that what else the machine does matters little, and methods take turns.
"""

from __future__ import annotations

import argparse
import gzip
import json
import resource
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from stages.influence import (
    Batches,
    Directions,
    Layers,
    directions,
    encode,
    estimate_factors,
    examine,
    find_layers,
    memory_needed,
    score,
)
from stages.influence.layers import weight_of
from stages.influence.probe import logits_of

LENGTH, VOCABULARY = 64, 1024


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
    agreement_.add_argument("--kronfluence", type=Path)
    agreement_.add_argument("--no-exact", action="store_true", help="only kronfluence")
    agreement_.set_defaults(
        run=lambda given: agreement(given.pool, given.targets, given.kronfluence, not given.no_exact)
    )
    torch.set_num_threads(1)
    given = parser.parse_args()
    given.run(given)


def llama(hidden: int, layers: int, vocabulary: int = VOCABULARY) -> LlamaForCausalLM:
    """A small model with random weights and grouped-query attention."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=hidden * 8 // 3 // 4 * 4, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=4 * LENGTH, attn_implementation="sdpa",
    )  # fmt: skip
    return LlamaForCausalLM(config)


def random_rows(count: int, length: int, seed: int = 0) -> Batches:
    """Rows of `length` random tokens."""
    ids = np.random.default_rng(seed).integers(0, VOCABULARY, (count, length))
    return encode(list(ids), context=length, tokens=16 * length)


# --- speed ---------------------------------------------------------------------------------------------------------


def speed(count: int, repeats: int, folder: Path | None) -> None:
    """Milliseconds per row of everything that scores rows, and of a training step."""
    model = llama(256, 4)
    layers = find_layers(model)
    targets = [random_rows(1, 2 * LENGTH, seed=7 + place) for place in range(8)]
    factors = estimate_factors(model, layers, joined(targets))
    towards = {number: directions(model, layers, factors, targets[:number]) for number in (1, 8)}
    print(f"{sum(one.numel() for one in model.parameters()):,} weights")
    for name, rows in {"equal": random_rows(count, 2 * LENGTH), "mixed": mixed_rows(count)}.items():
        print(
            f"{count} rows of {name} length, {rows.lengths.mean():.0f} tokens on average, {rows.lengths.max()} at most"
        )
        table = timed(model, layers, towards, rows, repeats)
        if folder is not None:
            table |= timed_peer(folder, model, layers, joined(targets), rows, repeats)
        floor = table["training step (forward, backward)"]
        for method, value in table.items():
            print(
                f"  {method:36s} {1000 * value / count:8.2f} ms per row {value / floor:6.2f} x a training step",
                flush=True,
            )


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
        "training step (forward, backward)": lambda: training(model, rows),
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
    for ids in rows.ids:
        batch = torch.from_numpy(ids)[None]
        nn.functional.cross_entropy(logits_of(model, batch)[0, :-1], batch[0, 1:]).backward()
        grads = {id(one): one.grad for one in model.parameters() if one.grad is not None}
        stacked = {block.name: torch.cat(weight_of(model, block, grads)) for block in layers}
        products = [(towards.matrices[name] * grad).sum((1, 2)) for name, grad in stacked.items()]
        scores.append(torch.stack(products).sum(0).tolist())
        model.zero_grad()
    return scores


def joined(several: Sequence[Batches]) -> Batches:
    """The rows of all of them."""
    return encode([ids for one in several for ids in one.ids], context=4 * LENGTH)


# --- kronfluence ---------------------------------------------------------------------------------------------------


def peer(
    folder: Path, model: LlamaForCausalLM, layers: Layers, sets: Mapping[str, Batches], repeats: int = 1
) -> Mapping[str, Any]:
    """What bench/quad_kronfluence.py finds for the same model, matrices and rows."""
    with tempfile.TemporaryDirectory() as work:
        model.save_pretrained(Path(work, "model"))
        arrays: dict[str, Any] = {}
        for name, one in sets.items():
            (batch,) = encode(one.ids, context=one.lengths.max(), tokens=one.lengths.max() * len(one))
            arrays |= {name: batch.ids[np.argsort(batch.rows)], f"{name}_real": batch.real[np.argsort(batch.rows)]}
        modules = [path for block in layers for path in block.members]
        np.savez(Path(work, "rows.npz"), **arrays, modules=modules, batch=16, repeats=repeats)
        script = Path(__file__).with_name("quad_kronfluence.py")
        subprocess.run([interpreter(folder), script, work], check=True, stdout=subprocess.DEVNULL)
        return dict(np.load(Path(work, "found.npz")))


def interpreter(folder: Path) -> Path:
    """A Python with kronfluence, and with torch and transformers of this one."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        paths = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})
        Path(paths["purelib"], "outer.pth").write_text(sysconfig.get_paths()["purelib"])
        subprocess.run([python, "-m", "pip", "install", "-q", "kronfluence==1.0.1"], check=True)
    return python


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


# --- agreement -----------------------------------------------------------------------------------------------------


def agreement(pool_files: Sequence[Path], target_files: Sequence[Path], folder: Path | None, with_exact: bool) -> None:
    """Rank correlation of every method's scores with those of the exact damped inverse Gauss-Newton matrix."""
    texts = [texts_of(path, 700) for path in pool_files]
    tokenizer = train_tokenizer([text for several in texts for text in several])
    tokens = np.concatenate([rows_of(tokenizer, several, 400) for several in texts])
    np.random.default_rng(0).shuffle(tokens)
    sample, pool, rest = tokens[:96], tokens[96:352], tokens[96:]
    targets = [batches(rows_of(tokenizer, texts_of(path, 300), 32)) for path in target_files]
    model = llama(48, 2)
    print(f"{len(rest)} rows to learn from, loss {train(model, rest):.2f} nats per token")
    layers = find_layers(model)
    if with_exact:
        against_exact(model, layers, sample, targets, batches(pool))
    if folder is not None:
        against_kronfluence(folder, model, layers, {"sample": batches(sample), "pool": batches(pool)}, targets)


def against_exact(model: nn.Module, layers: Layers, sample: Any, targets: Sequence[Batches], pool: Batches) -> None:
    """Rank correlation of every method with the exact inverse, damped by once the mean eigenvalue of all layers."""
    eigenvalues = estimate_factors(model, layers, batches(sample)).eigenvalues.values()
    damping = sum(float(one.sum()) for one in eigenvalues) / sum(one.numel() for one in eigenvalues)
    exact = score(model, layers, solved(model, layers, sample, targets, damping), pool)
    for name, values in approximations(model, layers, batches(sample), targets, pool).items():
        print(f"{name:40s} {agree(values, exact):6.3f}")


def approximations(
    model: nn.Module, layers: Layers, sample: Batches, targets: Sequence[Batches], pool: Batches
) -> dict[str, Any]:
    """Scores [pool, targets] by method."""
    found = {}
    for kind, which in [
        ("ekfac", "all"),
        ("kfac", "all"),
        ("ekfac", "mlp"),
        ("ekfac", "attention"),
        ("identity", "all"),
    ]:
        part = find_layers(model, which)  # type: ignore[arg-type]
        factors = estimate_factors(model, part, sample, kind=kind)  # type: ignore[arg-type]
        found[f"{kind}, {which}"] = score(model, part, directions(model, part, factors, targets), pool)
        if (kind, which) == ("ekfac", "all"):
            for damping in (0.01, 1.0):
                towards = directions(model, part, factors, targets, damping=damping)
                found[f"{kind}, {which}, damping {damping}"] = score(model, part, towards, pool)
    seen = examine(model, layers, pool, norms=True)
    assert seen.norms is not None
    found |= {"loss": seen.loss[:, None].repeat(len(targets), 1), "norm": seen.norms[:, None].repeat(len(targets), 1)}
    return found


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


def solved(model: nn.Module, layers: Layers, sample: Any, targets: Sequence[Batches], damping: float) -> Directions:
    """(H + damping)^-1 g_V by conjugate gradients, H the exact Gauss-Newton matrix of `sample` over all of `layers`."""
    model.set_attn_implementation("eager")  # type: ignore[operator]
    identity = estimate_factors(model, layers, batches(sample), kind="identity")
    gradients = directions(model, layers, identity, targets).matrices
    found = []
    for place in range(len(targets)):
        right = {block.name: gradients[block.name][place] for block in layers}
        found.append(conjugate_gradients(lambda one: curved(model, layers, sample, one, damping), right))
    model.set_attn_implementation("sdpa")  # type: ignore[operator]
    return Directions({name: torch.stack([one[name] for one in found]) for name in found[0]}, len(targets), "mean")


Vector = dict[str, Tensor]


def conjugate_gradients(
    times: Callable[[Vector], Vector], right: Vector, steps: int = 60, tolerance: float = 1e-2
) -> Vector:
    """x with A x = `right` to a relative residual of `tolerance`."""

    def dot(one: Vector, other: Vector) -> float:
        return sum(float((one[name] * other[name]).sum()) for name in one)

    def plus(one: Vector, factor: float, other: Vector) -> Vector:
        return {name: one[name] + factor * other[name] for name in one}

    found, residual = {name: torch.zeros_like(one) for name, one in right.items()}, right
    direction, size = right, dot(right, right)
    start = size
    step = 0
    while step < steps and size > tolerance**2 * start:
        moved = times(direction)
        rate = size / dot(direction, moved)
        found, residual = plus(found, rate, direction), plus(residual, -rate, moved)
        size, before = dot(residual, residual), size
        direction, step = plus(residual, size / before, direction), step + 1
    print(f"  {step} steps of conjugate gradients, relative residual {(size / start) ** 0.5:.1e}", flush=True)
    return found


def curved(model: nn.Module, layers: Layers, sample: Any, vector: Vector, damping: float) -> Vector:
    """(H + damping) times `vector`, H of the mean loss per token: J^T (diag p - p p^T) J."""
    weights = {f"{path}.weight": model.get_parameter(f"{path}.weight") for block in layers for path in block.members}
    sizes = [[len(model.get_parameter(f"{path}.weight")) for path in block.members] for block in layers]
    tangents = {
        f"{path}.weight": part
        for block, size in zip(layers, sizes, strict=True)
        for path, part in zip(block.members, torch.split(vector[block.name], size), strict=True)
    }
    totals = {name: torch.zeros_like(one) for name, one in weights.items()}
    for ids in torch.split(torch.from_numpy(sample), 32):

        def logits(given: dict[str, Tensor], ids: Tensor = ids) -> Tensor:
            made: Tensor = torch.func.functional_call(
                model, given, kwargs={"input_ids": ids, "use_cache": False}
            ).logits
            return made[:, :-1]

        made, moved = torch.func.jvp(logits, (weights,), (tangents,))
        chances = torch.softmax(made, -1)
        curved_logits = chances * (moved - (chances * moved).sum(-1, keepdim=True))
        (back,) = torch.func.vjp(logits, weights)[1](curved_logits)
        for name, one in back.items():
            totals[name] += one.detach() / (len(sample) * (sample.shape[1] - 1))
    stacked = {block.name: torch.cat([totals[f"{path}.weight"] for path in block.members]) for block in layers}
    return {name: one.detach() + damping * vector[name] for name, one in stacked.items()}


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


def train(model: nn.Module, rows: Any, steps: int = 300) -> float:
    """Train on `rows`; the mean loss of the last steps."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps)
    random, losses = np.random.default_rng(0), []
    for _ in range(steps):
        ids = torch.from_numpy(rows[random.integers(0, len(rows), 24)])
        loss = nn.functional.cross_entropy(logits_of(model, ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        losses.append(float(loss.detach()))
    return float(np.mean(losses[-50:]))


if __name__ == "__main__":
    main()
