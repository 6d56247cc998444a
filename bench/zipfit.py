"""Speed and exactness of `zipfit` and `dsir`, and the needle tests of docs/zipfit.md, on real texts.

    PYTHONPATH=tests python bench/zipfit.py speed [--rows 20000] [--data-selection PYTHON] [--zip-fit PYTHON]
    PYTHONPATH=tests python bench/zipfit.py cascade [--rows 20000] [--sample 1000]
    PYTHONPATH=tests python bench/zipfit.py exact [--pairs 3000000]
    PYTHONPATH=tests python bench/zipfit.py needle
    PYTHONPATH=tests python bench/zipfit.py scale [--rows 20000 200000 2000000]

PYTHON is an interpreter that has data-selection 1.0.3, or zip-fit 1.0.9 with datasets, zstandard, lz4 and brotli, which
it imports. Everything runs with two threads or processes; zip-fit takes one for every core.
"""

from __future__ import annotations

import argparse
import gzip
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pools import batches, records
from processes import cost_of
from scipy.stats import t
from zipfit_data import NEEDLES, background, humaneval, long_texts, workload
from zipfit_targets import TargetPool, score

from stages.contract import Stage
from stages.dsir.ngrams import ngram_column
from stages.dsir.stage import Dsir
from stages.dsir.weights import counts, log_ratio, log_weights
from stages.zipfit.alignment import Rule, fit_texts
from stages.zipfit.debias import expected, fit_line, z_score
from stages.zipfit.kernel import gzip_lengths
from stages.zipfit.packed import pack_strings
from stages.zipfit.stage import ZipFit

WORKERS = 2
_DATA_SELECTION = """
import json, sys
import numpy as np
from data_selection import HashedNgramDSIR
raw, target, cache = sys.argv[1:]
dsir = HashedNgramDSIR([raw], [target], cache_dir=cache, num_proc=2, min_example_length=0)
dsir.fit_importance_estimator(num_tokens_to_fit="all")
dsir.compute_importance_weights()
parts = sorted(dsir.log_importance_weights_dir.glob("*.npy"), key=lambda path: int(path.stem))
shards = [np.load(path) for path in parts]
total = sum(map(len, shards))
weights = np.empty(total)
for k, shard in enumerate(shards):  # example i is in shard i % n
    weights[k :: len(shards)] = shard
print(json.dumps(weights.tolist()))
"""
_ZIP_FIT = """
import json, resource, sys
from zip_fit import ZIPFIT
def used():
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)
job = json.load(sys.stdin)
before = used()
package = ZIPFIT("", "", k=len(job["pool"]), compress_level=job["level"], cache_size=10_000)
ranked = package.rank_sequences_by_alignment(job["pool"], job["targets"])
print(json.dumps({"cpu": used() - before, "scores": dict(ranked)}))
"""


def size(text: str, level: int) -> int:
    """Gzip length of a string."""
    return len(gzip.compress(text.encode("utf-8", "surrogatepass"), level))


def reference_row(job: tuple[str, list[str], list[int], int]) -> float:
    """The published score of one candidate as `zip-fit` has it: gzip of every pair, candidate first."""
    text, targets, sizes, level = job
    x = size(text, level)
    pairs = plain_lengths((text, targets, level))
    return float(np.mean([(x + t - pair) / max(x, t) for t, pair in zip(sizes, pairs, strict=True)]))


def timed(name: str, rows: int, baseline: float | None, run: Callable[[], object]) -> tuple[float, object]:
    """Run once and print seconds, those of the processors, and how many times less of the latter than the baseline
    (processor seconds per row): other work on the machine does not change that. Returns the processor seconds.
    """
    start, used = time.perf_counter(), processor()
    result = run()
    seconds, used = time.perf_counter() - start, processor() - used
    faster = f"{baseline * rows / used:8.1f}x" if baseline else " " * 9
    print(f"{name:44s} {seconds:8.2f} s wall {used:8.2f} s cpu {faster}", flush=True)
    return used, result


def processor() -> float:
    """Processor seconds of this process and of its children that have ended."""
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)


def reference(texts: list[str], targets: list[str], level: int) -> tuple[float, list[float]]:
    """Processor seconds per row of the plain algorithm in two processes, and its scores."""

    def run() -> list[float]:
        sizes = [size(target, level) for target in targets]
        jobs = [(text, targets, sizes, level) for text in texts]
        with ProcessPoolExecutor(WORKERS) as pool:
            return list(pool.map(reference_row, jobs, chunksize=16))

    seconds, found = timed(f"reference, gzip-{level}, mean {mean_size(texts)} B", len(texts), None, run)
    return seconds / len(texts), list(found)  # type: ignore[call-overload]


def mean_size(texts: Sequence[str]) -> int:
    """Mean bytes per text."""
    return int(np.mean([len(text.encode("utf-8", "surrogatepass")) for text in texts]))


def speed(rows: int, sample: int, data_selection: str | None, zip_fit: str | None) -> None:
    """The exact kernel against the reference algorithm on a sample of the same pool, and against the packages."""
    pool, targets = workload(rows), humaneval()
    for level in (1, 6, 9):
        compare_exact(pool, targets, level, sample)
    compare_exact(long_texts(60), targets, 6, 30)
    if zip_fit:
        zip_fit_speed(pool[:sample], targets, zip_fit)
    dsir_speed(pool, targets, data_selection)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


def cascade(rows: int, sample: int) -> None:
    """The cascade against the reference algorithm on a sample of the same pool, and its recall of the exact best."""
    pool, targets = workload(rows), humaneval()
    baseline, _ = reference(pool[:sample], targets, 6)
    table = records([{"text": text} for text in pool])
    truth = exhaustive(pool, targets)
    for share in (0.01, 0.1):
        stage = ZipFit(target=("t",), keep=share, mode="zipfit", cascade=True)
        name = f"cascade, zipfit, k = {share:.0%}"
        _, decided = timed(name, rows, baseline, lambda stage=stage: run_threads(stage, table, targets))
        best = set(np.argsort(-truth, kind="stable")[: round(share * rows)].tolist())
        keep = np.flatnonzero(decided.keep)  # type: ignore[attr-defined]
        print(f"    recall {len(best & set(keep.tolist())) / len(best):.4f}; {decided.warnings[0]}")  # type: ignore[attr-defined]


def exhaustive(pool: list[str], targets: list[str]) -> np.ndarray:
    """Exact published scores."""
    return fit_texts(pack_strings(pool), pack_strings(targets), 6, mean_rule(targets), threads=WORKERS).alignment


def mean_rule(targets: list[str]) -> Rule:
    """The plain mean over targets."""
    return Rule("mean", 1, np.full(len(targets), 1 / len(targets)))


def compare_exact(pool: list[str], targets: list[str], level: int, sample: int) -> None:
    """The exact kernel on the pool, the reference on a sample of it; the scores must be equal."""
    baseline, theirs = reference(pool[:sample], targets, level)
    name = f"exact kernel, level {level}, mean {mean_size(pool)} B"
    texts, fixed = pack_strings(pool), pack_strings(targets)
    _, found = timed(
        name, len(pool), baseline, lambda: fit_texts(texts, fixed, level, mean_rule(targets), threads=WORKERS)
    )
    worst = float(np.abs(np.array(theirs) - found.alignment[: len(theirs)]).max())  # type: ignore[attr-defined]
    print(f"    largest difference from the reference {worst:.1e} in {len(theirs) * len(targets):,} pairs")


def zip_fit_speed(pool: list[str], targets: list[str], package: str) -> None:
    """The package's own ranking at gzip level 6, without its import and the reading of files, and our kernel."""
    texts = list(dict.fromkeys(pool))
    job = json.dumps({"pool": texts, "targets": targets, "level": 6})
    done = subprocess.run([package, "-c", _ZIP_FIT], input=job, capture_output=True, text=True, check=True)
    theirs = json.loads(done.stdout.splitlines()[-1])
    print(f"{'zip-fit 1.0.9, level 6':44s} {'':8s}        {theirs['cpu']:8.2f} s cpu")
    baseline = theirs["cpu"] / len(texts)
    _, found = timed("exact kernel, the same rows", len(texts), baseline, lambda: fit_texts(
        pack_strings(texts), pack_strings(targets), 6, mean_rule(targets), threads=WORKERS
    ))  # fmt: skip
    worst = float(np.abs(np.array([theirs["scores"][text] for text in texts]) - found.alignment).max())  # type: ignore[attr-defined]
    print(f"    largest difference of scores {worst:.1e}")


def run_threads(stage: Stage, table: pa.Table, targets: list[str]) -> object:
    """Score in two threads, as the runner does, and decide."""
    empty = score(stage, table.slice(0, 0), {"t": targets})
    state = stage.fit(TargetPool(table, None, 1000, {}), empty.inputs)
    read = table.select(list(stage.reads))
    with ThreadPoolExecutor(WORKERS) as threads:
        parts = list(threads.map(lambda part: stage.score(part, state), batches(read, 1_024)))
    scored = TargetPool(table, pa.Table.from_batches(parts), 8_192, empty.inputs)
    if stage.examines:
        scored.asking(stage, state)
    return stage.decide(scored)


def dsir_speed(pool: list[str], targets: list[str], package: str | None) -> None:
    """The `dsir` stage against `data-selection`, and the largest difference of weights."""
    baseline, theirs = None, None
    if package:
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder, name) for name in ("raw.jsonl", "target.jsonl")]
            for path, texts in zip(paths, (pool, targets), strict=True):
                path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
            command = [package, "-c", _DATA_SELECTION, *map(str, paths), str(Path(folder, "cache"))]
            seconds, done = timed("data-selection 1.0.3, 2 processes", len(pool), None, lambda: subprocess.run(
                command, capture_output=True, text=True, check=True
            ))  # fmt: skip
            theirs, baseline = json.loads(done.stdout.splitlines()[-1]), seconds / len(pool)  # type: ignore[attr-defined]
    table = records([{"text": text} for text in pool])
    stage = Dsir(target=("t",), keep=0.1, choose="top")
    _, decided = timed("dsir", len(pool), baseline, lambda: run_threads(stage, table, targets))
    if theirs is not None:
        print(f"    largest difference of log weights {np.abs(decided.score - np.array(theirs)).max():.1e}")  # type: ignore[attr-defined]


def exact(pairs: int) -> None:
    """Every gzip length of the kernel against zlib's, at levels 1, 6 and 9."""
    targets = humaneval()
    pool = workload(max(1, pairs // (3 * len(targets))))
    for level in (1, 6, 9):
        ours = gzip_lengths(pack_strings(pool), pack_strings(targets), level, WORKERS).pairs
        with ProcessPoolExecutor(WORKERS) as workers:
            jobs = [(text, targets, level) for text in pool]
            theirs = np.array(list(workers.map(plain_lengths, jobs, chunksize=16)))
        print(f"level {level}: {(ours != theirs).sum()} mismatches in {theirs.size:,} pairs", flush=True)


def plain_lengths(job: tuple[str, list[str], int]) -> list[int]:
    """Gzip lengths of one candidate followed by each target."""
    text, targets, level = job
    return [size(text + target, level) for target in targets]


def needle(seeds: int) -> None:
    """Held-out target rows hidden in a mixed pool: share found within the top 1% (or as many rows as are hidden)."""
    names = ["zipfit", "dsir (sum)", "dsir per token", "gain", "detrended gain", "debiased (default)"]
    found: dict[str, list[list[float]]] = {}
    for source, load in NEEDLES.items():
        found[source] = [one_needle(load(), background(source), seed) for seed in range(seeds)]
        cells = " | ".join(map(_interval, zip(*found[source], strict=True)))
        print(f"| {source} | {cells} |", flush=True)
    overall = np.array([np.mean(rows, axis=0) for rows in found.values()])
    draws = np.random.default_rng(0).integers(0, len(overall), (10_000, len(overall)))
    low, high = np.percentile(overall[draws].mean(axis=1), [2.5, 97.5], axis=0)
    print("| **mean** | " + " | ".join(f"**{value:.3f}**" for value in overall.mean(axis=0)) + " |")
    print("| 95% interval | " + " | ".join(f"{a:.2f}-{b:.2f}" for a, b in zip(low, high, strict=True)) + " |")
    print(names)


def _interval(recalls: Sequence[float]) -> str:
    """Mean and 95% interval (Student's t) over draws of the target and the needles."""
    half = t.ppf(0.975, len(recalls) - 1) * np.std(recalls, ddof=1) / np.sqrt(len(recalls))
    return f"{np.mean(recalls):.2f} ± {half:.2f}"


def one_needle(items: list[str], pool: list[str], seed: int) -> list[float]:
    """Recall of each score for one source: 96 rows are the target, up to 64 others are hidden."""
    distinct = sorted({item for item in items if item})
    draw = np.random.default_rng(seed)
    chosen = [distinct[k] for k in draw.permutation(len(distinct))[:160]]
    targets, hidden = chosen[: len(chosen) * 3 // 5], chosen[len(chosen) * 3 // 5 :]
    hay = [text for text in pool if text not in set(chosen)]
    scores = all_scores([*hay, *hidden], targets)
    top = max(len(hidden), (len(hay) + len(hidden)) // 100)
    return [float((np.argsort(-s, kind="stable")[:top] >= len(hay)).sum()) / len(hidden) for s in scores]


def all_scores(pool: list[str], targets: list[str]) -> list[np.ndarray]:
    """Every score of the table, per row."""
    fit = fit_texts(pack_strings(pool), pack_strings(targets), 6, mean_rule(targets), threads=WORKERS)
    grams, target = ngram_column(pool)[0], ngram_column(targets)[0]
    raw, wanted = counts([grams], 10_000), counts([target], 10_000)
    per_token = log_weights(grams, log_ratio(wanted, raw, 0.1), "per_token")
    size = fit.c_x.astype(float)
    pilots = np.random.default_rng(0).permutation(len(size))[:500]
    line = fit_line(size[pilots], fit.gain[pilots])
    detrended = (fit.gain - expected(line, size)) / line.spread
    summed = log_weights(grams, log_ratio(wanted, raw, 0.0), "sum")
    return [fit.alignment, summed, per_token, fit.gain, detrended, detrended + z_score(per_token)]


def scale(sizes: Sequence[int]) -> None:
    """Whole runs as the pool grows (rows are those of the workload with a number added): time per row, peak memory."""
    base, targets = workload(), humaneval()
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            _write(Path(folder, "pool.parquet"), (f"{base[k % len(base)]} {k}" for k in range(size)))
            _write(Path(folder, "target.parquet"), iter(targets))
            recipe = {"store": "store", "sources": [{"name": "pool", "path": "pool.parquet"}],
                      "stages": [{"zipfit": {"target": ["target.parquet"], "keep": 0.01, "cascade": True}}],
            }  # fmt: skip
            Path(folder, "recipe.json").write_text(json.dumps(recipe))
            command = [sys.executable, "-m", "cli", "run", f"{folder}/recipe.json", "--out", f"{folder}/out", "--json"]
            cost = cost_of(command)
            manifest = json.loads(Path(folder, "out/manifest.json").read_bytes())
        print(f"whole run, k = 1%, {size:,} rows: {cost}", flush=True)
        print(f"    {1e3 * cost.cpu / size:.3f} ms cpu per row; zipfit {manifest['stages'][0]['seconds']:.1f} s wall; "
              f"{manifest['stages'][0]['warnings'][0]}", flush=True)  # fmt: skip


def _write(path: Path, texts: Iterator[str]) -> None:
    with pq.ParquetWriter(path, pa.schema([("text", pa.string())])) as writer:
        while block := list(islice(texts, 20_000)):
            writer.write_table(pa.table({"text": block}))


def main() -> None:
    """Run one of the benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("speed")
    one.add_argument("--rows", type=int, default=20_000)
    one.add_argument("--sample", type=int, default=1_000)
    one.add_argument("--data-selection", metavar="PYTHON")
    one.add_argument("--zip-fit", metavar="PYTHON")
    two = commands.add_parser("cascade")
    two.add_argument("--rows", type=int, default=20_000)
    two.add_argument("--sample", type=int, default=1_000)
    commands.add_parser("exact").add_argument("--pairs", type=int, default=3_000_000)
    commands.add_parser("needle").add_argument("--seeds", type=int, default=5)
    commands.add_parser("scale").add_argument("--rows", type=int, nargs="+", default=[20_000, 200_000])
    args = parser.parse_args()
    if args.command == "speed":
        speed(args.rows, args.sample, args.data_selection, args.zip_fit)
    elif args.command == "cascade":
        cascade(args.rows, args.sample)
    elif args.command == "exact":
        exact(args.pairs)
    elif args.command == "needle":
        needle(args.seeds)
    else:
        scale(args.rows)


if __name__ == "__main__":
    main()
