"""Does influence-based selection pay, and what does the bandit save? Tables and plot of docs/quad.md, on real texts.

    PYTHONPATH=tests:bench python bench/quad_selection.py prepare    # student, curvature, full scan: 3 targets at once
    PYTHONPATH=tests:bench python bench/quad_selection.py scan       # influence mass against the share scored
    PYTHONPATH=tests:bench python bench/quad_selection.py train      # continue training on what each policy selects
    PYTHONPATH=tests:bench python bench/quad_selection.py report     # bench/results/ and docs/quad-selection.svg

Intermediate results go to --work (default /tmp/quad_selection); `all` does everything. `train --rate` is the learning
rate of the continued training, which is another table (train-RATE.jsonl) per rate.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pools import MemoryPool, batches, records
from zipfit_data import functions, rows, texts
from zipfit_targets import score as zipfit_score

from stages.influence import Batches, examine, find_layers, tokenize
from stages.quad import engine
from stages.quad.bandit import Selection
from stages.quad.clustering import Grouping, group
from stages.quad.decision import Plan, Pool, read, task
from stages.quad.policies import select
from stages.quad.setup import READS, Setup
from stages.quad.stage import Quad
from stages.student.builtin import Size
from stages.zipfit.ranking import TokenBudget, quota, within
from stages.zipfit.stage import ZipFit

SIZE = Size(vocabulary=2048, width=128, layers=3, heads=4, context=192, tokens=600_000, epochs=3)
SETUP = Setup(None, SIZE, "all", "ekfac", 0.1, "text", "text", 0)
LONGEST = 600  # characters: about the model's context


def pool_rows(count: int = 2_000) -> list[dict[str, Any]]:
    """Maths, code, instructions and web text; the share of each source is the same for every count."""
    draw = random.Random(0)
    code = functions()
    draw.shuffle(code)
    parts = {
        "gsm8k": texts("gsm8k_train", "question", "answer", limit=500),
        "codegen": texts("gpteacher_codegen", "instruction", "input", "response", limit=600),
        "functions": [text for text in code if len(text) < LONGEST][:700],
        "alpaca": draw.sample(texts("alpaca_52k_rows_00000_42147", "instruction", "input", "output"), 1_100),
        "roleplay": texts("gpteacher_roleplay", "instruction", "input", "response", limit=300),
        "pile": texts("toy_pile", "contents", limit=200),
        "c4": texts("c4_demo", "text", limit=200),
    }
    pool = [{"text": text[:LONGEST], "source": name} for name, part in parts.items() for text in part if text.strip()]
    draw.shuffle(pool)
    return pool[:count]


def target_rows() -> dict[str, list[str]]:
    """Three targets of 128 rows: the even ones steer the selection, half of the odd ones are what is measured on."""
    mbpp = [f"{row['text']}\n{row['code']}" for row in rows("mbpp_001_600")]
    return {
        "GSM8K": texts("gsm8k_test_part1", "question", "answer")[:128],
        "MBPP": mbpp[:128],
        "MATH": [text[:LONGEST] for text in texts("math_test_part1", "problem", "solution")[:128]],
    }


def prepare(work: Path) -> None:
    """Train the student on the pool, make the directions, and score every row for every target."""
    work.mkdir(parents=True, exist_ok=True)
    table = records(pool_rows())
    inputs = {name: MemoryPool(records([{"text": text} for text in part[::2]])) for name, part in target_rows().items()}
    pool = MemoryPool(table)
    started = time.process_time()
    state = engine.fit(SETUP, pool, inputs, {name: name for name in inputs})  # type: ignore[arg-type]
    fitted = time.process_time()
    examine = engine.Examiner(SETUP, state)
    parts = [examine(part) for part in batches(table.select(list(READS)), 256)]
    scanned = time.process_time()
    found = pa.Table.from_batches(parts)
    influences = np.array(found["influences"].to_pylist(), np.float64)
    np.savez(work / "scan.npz", influences=influences, loss=found["loss"].to_numpy())
    np.savez(work / "state.npz", **state)
    times = {"fit": fitted - started, "scan": scanned - fitted, "rows": table.num_rows}
    (work / "times.json").write_text(json.dumps(times))
    print(times)


def cheap(table: pa.Table) -> MemoryPool:
    """The pool with the columns that `quad` stores of every row."""
    stage = Quad(target=("t",), keep=1)
    return MemoryPool(table, pa.Table.from_batches([stage.score(part, {}) for part in batches(table, 1_000)]))


def plan(**keys: Any) -> Plan:
    """The stage's defaults for a small pool: 20 clusters of about 100 rows."""
    made = Quad(target=("t",), keep=1)
    known = {
        "policy": "quad", "keep": 0.1, "weights": np.ones(1), "clusters": None, "distance": 0.2,
        "max_share": made.max_share, "max_scored": 1.0, "dimensions": made.dimensions, "seed": 0, "stored": False,
        "alpha": made.alpha, "threshold": made.threshold, "relative": made.relative, "sweep": made.sweep,
        "arms": made.arms, "draws": made.draws, "batch": None, "targets": ("t",),
    }  # fmt: skip
    return Plan(**{**known, **keys})  # type: ignore[arg-type]


def play(data: Pool, values: np.ndarray, chosen: Plan, known: Grouping | None = None) -> Selection:
    """One selection, with the full scan's influence handed out on demand."""
    groups = known or group(data.vectors, data.usable, data.ties, chosen.clusters, chosen.seed)
    limit = quota(chosen.keep, len(values))
    return select(chosen.policy, task(data, groups, chosen, limit), lambda asked: values[asked])


def best_known(values: np.ndarray, asked: np.ndarray, count: int, label: np.ndarray | None) -> np.ndarray:
    """The `count` rows of the highest influence, an unscored row's being its cluster's mean (or unknown)."""
    guess = np.full(len(values), -np.inf)
    if label is not None:
        for arm in range(label.max() + 1):
            known = values[(label == arm) & asked]
            guess[label == arm] = known.mean() if len(known) else -np.inf
    return np.argsort(-np.where(asked, values, guess), kind="stable")[:count]


def spread(label: np.ndarray, share: float, draw: np.random.Generator) -> np.ndarray:
    """A mask of rows: the same share of every cluster, at random."""
    asked = np.zeros(len(label), np.bool_)
    for arm in range(label.max() + 1):
        rows_ = draw.permutation(np.flatnonzero(label == arm))
        asked[rows_[: round(share * len(rows_))]] = True
    return asked


QUAD_BATCHES = (2, 4, 8, 16, 33, 66)
SHARES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def mass_curves(data: Pool, values: np.ndarray, seeds: int, keep: float = 0.1) -> dict[str, list[tuple[float, float]]]:
    """Influence mass of what is selected, as a share of the full scan's, against the share of the pool scored.

    `random` and `clusters` score rows at random (over the pool, or evenly over clusters) and then take the best known;
    `bandit` scores what the bandit asks for (its quota is met late: batches of one row) and takes the best known;
    `quad` is the stage's own selection without a cap, at batches of several sizes, taking rows with their clusters.
    """
    n, top = len(values), round(keep * len(values))
    whole = float(np.sort(values)[-top:].sum())
    curves: dict[str, list[tuple[float, float]]] = {"random": [], "clusters": [], "bandit": [], "quad": []}
    for seed in range(seeds):
        draw = np.random.default_rng(seed)
        groups = group(data.vectors, data.usable, data.ties, None, seed)
        label = groups.label
        for share in SHARES:
            some = np.zeros(n, np.bool_)
            some[draw.permutation(n)[: round(share * n)]] = True
            even = spread(label, share, draw)
            found = play(data, values, plan(seed=seed, max_share=None, batch=1, max_scored=share, keep=0.99), groups)
            for name, asked, arms in (
                ("random", some, None), ("clusters", even, label), ("bandit", found.asked, label),
            ):  # fmt: skip
                picked = best_known(values, asked, top, arms)
                curves[name].append((share, float(values[picked].sum()) / whole))
        for batch in QUAD_BATCHES:
            found = play(data, values, plan(seed=seed, batch=batch, keep=keep, max_share=None), groups)
            curves["quad"].append((float(found.asked.mean()), float(values[found.how > 0].sum()) / whole))
    return curves


def share_for(curve: list[tuple[float, float]], mass: float) -> float:
    """The smallest share scored whose mean mass reaches `mass`, on a straight line between points; NaN for none."""
    shares = sorted({share for share, _ in curve})
    means = [float(np.mean([value for share, value in curve if share == one])) for one in shares]
    for at, value in enumerate(means):
        if value >= mass:
            if at == 0:
                return shares[0]
            slope = (value - means[at - 1]) / (shares[at] - shares[at - 1])
            return shares[at - 1] + (mass - means[at - 1]) / slope
    return float("nan")


def scan(work: Path, seeds: int) -> None:
    """Write the mass curves of every target."""
    found = np.load(work / "scan.npz")
    data = read(cheap(records(pool_rows())), plan())
    influences = found["influences"]
    influences = np.where(np.isnan(influences), np.nanmin(influences, axis=0), influences)
    (work / "variants.json").write_text(json.dumps(variants(data, influences, seeds)))
    results = {}
    for name, values in zip(target_rows(), influences.T, strict=True):
        results[name] = mass_curves(data, values, seeds)
        line = {key: round(share_for(curve, 0.9), 3) for key, curve in results[name].items()}
        print(
            name, "positive", round(float((values > 0).mean()), 3), "share scored for 90% of the mass", line, flush=True
        )
    (work / "scan.json").write_text(json.dumps(results))


VARIANTS: dict[str, dict[str, Any]] = {
    "defaults, no cap": {},
    "`max_share: 3` (default)": {"max_share": 3.0},
    "`arms: 50`": {"arms": 50},
    "`sweep: false`": {"sweep": False},
    "`sweep: false, relative: false`": {"sweep": False, "relative": False},
    "`sweep: false, relative: false, arms: 50`": {"sweep": False, "relative": False, "arms": 50},
    "`alpha: 0`": {"alpha": 0.0},
    "`alpha: 0.5`": {"alpha": 0.5},
    "`threshold: 0.25`": {"threshold": 0.25},
    "`draws: 5, batch: 16`": {"draws": 5, "batch": 16},
}


def variants(data: Pool, influences: np.ndarray, seeds: int, keep: float = 0.1) -> dict[str, list[list[float]]]:
    """For settings of the bandit and each target: share of the pool scored, and mass taken; means over seeds."""
    known = [group(data.vectors, data.usable, data.ties, None, seed) for seed in range(seeds)]
    out: dict[str, list[list[float]]] = {}
    for name, keys in VARIANTS.items():
        out[name] = []
        for values in influences.T:
            whole = float(np.sort(values)[-round(keep * len(values)) :].sum())
            chosen = [plan(seed=seed, keep=keep, **{"max_share": None, **keys}) for seed in range(seeds)]
            found = [play(data, values, one, groups) for one, groups in zip(chosen, known, strict=True)]
            shares, masses = [one.asked.mean() for one in found], [values[one.how > 0].sum() / whole for one in found]
            out[name].append([float(np.mean(shares)), float(np.mean(masses))])
    return out


METHODS = ("random", "full", "quad", "quad, no cap", "positive_random", "zipfit")
BUDGET = 4_000  # words; about 6,000 tokens


def selections(work: Path, name: str, at: int, data: Pool, seed: int) -> dict[str, tuple[np.ndarray, float]]:
    """Rows that each method takes within the budget, and the share of the pool it scored with the model."""
    values = np.load(work / "scan.npz")["influences"][:, at]
    keep = TokenBudget(tokens=BUDGET)
    limit = quota(keep, len(values))
    order = np.random.default_rng(seed).permutation(len(values))
    out = {"random": (within(order, data.tokens, limit), 0.0)}
    for policy in ("full", "quad", "positive_random"):
        found = play(data, values, plan(policy=policy, keep=keep, seed=seed, arms=4, draws=5, batch=8))
        out[policy] = (found.order, float(found.asked.mean()))
    free = plan(max_share=None, keep=keep, seed=seed, arms=4, draws=5, batch=8)
    found = play(data, values, free)
    out["quad, no cap"] = (found.order, float(found.asked.mean()))
    out["zipfit"] = (zipfit_rows(work, name, keep), 0.0)
    return out


def zipfit_rows(work: Path, name: str, keep: TokenBudget) -> np.ndarray:
    """What the `zipfit` stage keeps for the same target; the same for every seed, so found once."""
    path = work / f"zipfit-{name}.npy"
    if not path.is_file():
        stage = ZipFit(target=("t",), keep=keep, cascade=False)
        pool = zipfit_score(stage, records(pool_rows()), {"t": target_rows()[name][::2]})
        np.save(path, np.flatnonzero(stage.decide(pool).keep))
    return np.asarray(np.load(path))


def losses(student: Any, groups: dict[str, Batches]) -> dict[str, float]:
    """Mean loss of each set of texts: nats per row's token, mean over rows."""
    layers = find_layers(student.model, "mlp")
    return {name: float(np.nanmean(examine(student.model, layers, part).loss)) for name, part in groups.items()}


def trained(work: Path, rate: float) -> Path:
    """The file of results at a learning rate."""
    return work / f"train-{rate:g}.jsonl"


def train(work: Path, seeds: int, rate: float) -> None:
    """Continue training on each selection; one line per training goes to `trained`, and a second call goes on."""
    data = read(cheap(records(pool_rows())), plan())
    state = dict(np.load(work / "state.npz"))
    student = engine.open_student(None, state)
    first = {name: one.clone() for name, one in student.model.state_dict().items()}
    held = {name: as_batches(student, part[1::4]) for name, part in target_rows().items()}
    others = texts("dolly_3k_part1", "instruction", "input", "output", limit=32), texts("wiki_demo", "text", limit=32)
    held |= {
        name: as_batches(student, [t[:LONGEST] for t in part])
        for name, part in zip(("Dolly", "wiki"), others, strict=True)
    }
    path = trained(work, rate)
    done = (
        {(r["target"], r["method"], r["seed"]) for r in map(json.loads, path.read_text().splitlines())}
        if path.is_file()
        else set()
    )
    strings = [row["text"] for row in pool_rows()]
    for seed in range(seeds):
        for at, name in enumerate(target_rows()):
            chosen = selections(work, name, at, data, seed)
            for method in METHODS:
                if (name, method, seed) in done:
                    continue
                student.model.load_state_dict(first)
                picked, scored = chosen[method]
                learn(student, as_batches(student, [strings[row] for row in picked]), seed, rate)
                after = losses(student, held)
                line = {
                    "target": name,
                    "method": method,
                    "seed": seed,
                    "rows": len(picked),
                    "scored": scored,
                    "loss": after,
                }
                with path.open("a") as handle:
                    handle.write(json.dumps(line) + "\n")
                print(json.dumps(line), flush=True)
    student.model.load_state_dict(first)
    (work / "before.json").write_text(json.dumps(losses(student, held)))


def as_batches(student: Any, strings: list[str]) -> Batches:
    """Texts as tokens, all of which count, in batches of about 512 tokens."""
    return tokenize(student.tokenizer, [[(text, True)] for text in strings], context=student.context, tokens=512)


def learn(student: Any, rows_: Batches, seed: int, rate: float) -> None:
    """Two passes of AdamW at a constant rate; a high one costs every text 0.05 to 0.09 nats (5e-4 does)."""
    import torch

    optimiser = torch.optim.AdamW(student.model.parameters(), lr=rate, weight_decay=0.0)
    student.model.train()
    plan_ = list(rows_)
    for epoch in range(2):
        for at in np.random.default_rng([seed, epoch]).permutation(len(plan_)):
            batch = plan_[at]
            ids = torch.from_numpy(batch.ids)
            labels = ids.masked_fill(~torch.from_numpy(batch.real), -100)
            loss = student.model(input_ids=ids, labels=labels, use_cache=False).loss
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
    student.model.eval()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["prepare", "scan", "train", "report", "all"])
    parser.add_argument("--work", type=Path, default=Path("/tmp/quad_selection"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rate", type=float, default=1e-4, help="of the continued training")
    options = parser.parse_args()
    if options.what in ("prepare", "all"):
        prepare(options.work)
    if options.what in ("scan", "all"):
        scan(options.work, options.seeds)
    if options.what in ("train", "all"):
        train(options.work, options.seeds, options.rate)
    if options.what in ("report", "all"):
        from quad_selection_report import report

        report(options.work, options.rate)
