"""Near-duplicate removal, side by side: `python bench/dedup.py WHAT [--rows N ...] [--work DIR]`.

Every tool runs in a process of its own, from Parquet to Parquet, each peer in an environment that this script makes.
Time and peak memory are those of the whole process, imports included; of several runs the one that took the least
processor time counts.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from dedup_corpus import edited, extremes, known, real, write

from stages.dedup.shingles import Sets, ascending, shingle
from stages.dedup.texts import normalise

HERE = Path(__file__).resolve().parent
THRESHOLD = 0.8
PEERS = {
    "nothing but reading and writing": ("rensa", ["rensa"], "read_and_write.py", []),
    "rensa RMinHash, words (README)": ("rensa", ["rensa"], "rensa.py", ["words", "RMinHash"]),
    "rensa CMinHash, words": ("rensa", ["rensa"], "rensa.py", ["words", "CMinHash"]),
    "rensa RMinHash, runs of 5 words": ("rensa", ["rensa"], "rensa.py", ["shingles", "RMinHash"]),
    "datasketch MinHashLSH": ("datasketch", ["datasketch"], "datasketch.py", []),
    "datatrove, 2 workers": ("datatrove", ["datatrove[io,processing]", "spacy"], "datatrove.py", []),
    "text-dedup": ("text-dedup", ["text-dedup", "datasets<4", "dill<0.4"], "text_dedup.py", []),
}


class Cost(NamedTuple):
    """Wall seconds, processor seconds and peak resident memory (MB) of a process."""

    wall: float
    cpu: float
    peak_mb: float


# A process starts with the peak of the one it was forked from, so a small one stands between this and what is measured.
LAUNCHER = """
import json, resource, subprocess, sys, time
started = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
sys.exit(done.returncode)
"""


def measure(command: list[str], env: dict[str, str] | None = None) -> Cost:
    """Run a command to its end. Raises RuntimeError with the end of what it said if it fails."""
    whole = [sys.executable, "-I", "-S", "-c", LAUNCHER, *command]
    done = subprocess.run(whole, capture_output=True, env={**os.environ, **(env or {})})
    if done.returncode:
        raise RuntimeError((done.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1][:200])
    return Cost(*json.loads(done.stdout))


def environment(work: Path, name: str, packages: list[str]) -> Path:
    """The interpreter of a peer's environment, made on first use."""
    folder = work / f"venv-{name}"
    if not (folder / "done").exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        # pyarrow imports pandas where it finds it, which is wherever `datasets` is: with us, and with their users.
        subprocess.run([folder / "bin/pip", "install", "-q", "pyarrow", "pandas", *packages], check=True)
        (folder / "done").touch()
    return folder / "bin/python"


def true_copies(texts: list[str]) -> tuple[set[int], set[int]]:
    """By brute force: rows like an earlier row that `first come, first kept` keeps, and rows like any other row."""
    values, offsets = ascending(shingle(normalise(pa.array(texts), True, True), "word", 5))
    holders: dict[int, list[int]] = {}
    kept, dropped, alike = set[int](), set[int](), set[int]()
    rare = _rarity(Sets(values, offsets))
    for row in range(len(texts)):
        one = values[offsets[row] : offsets[row + 1]]
        # Two sets of similarity t share one of each one's (1 - t) * size + 1 rarest elements.
        prefix = sorted(one.tolist(), key=rare.__getitem__)[: int((1 - THRESHOLD) * len(one)) + 1]
        for other in {j for value in prefix for j in holders.get(value, ())}:
            two = values[offsets[other] : offsets[other + 1]]
            common = len(np.intersect1d(one, two, assume_unique=True))
            if common >= THRESHOLD * (len(one) + len(two) - common):
                alike |= {row, other}
                dropped |= {row} if other in kept else set()
        kept |= set() if row in dropped else {row}
        for value in prefix:
            holders.setdefault(value, []).append(row)
    return dropped, alike


def _rarity(sets: Sets) -> dict[int, tuple[int, int]]:
    values, counts = np.unique(sets.values, return_counts=True)
    return {value: (count, value) for value, count in zip(values.tolist(), counts.tolist(), strict=True)}


def peers(work: Path, runs: int, only: list[str], sizes: list[int]) -> list[dict[str, Any]]:
    """Everybody (or `only` some) on the real corpus, on texts of known similarity, and on edited texts of some sizes
    (there without a check against brute force): the best of some runs.
    """
    results, corpora = [], {"real": real(), "known": known()}
    for name in [*corpora, *(f"edited-{rows}" for rows in sizes)]:
        texts = corpora.get(name, [])
        truth = true_copies(texts) if texts else None
        path = write(work / f"{name}.parquet", iter([texts]) if texts else edited(int(name.split("-")[1])))
        commands = {"curatrix": ([sys.executable, str(HERE / "dedup_peers/ours.py")], list[str]())}
        for tool, (folder, packages, script, extra) in PEERS.items():
            if only and not any(word in tool for word in only):
                continue
            commands[tool] = ([str(environment(work, folder, packages)), str(HERE / "dedup_peers" / script)], extra)
        for tool, (command, extra) in commands.items():
            out = work / "out.parquet"
            try:
                whole = [*command, str(path), str(out), str(THRESHOLD), *extra]
                costs = [measure(whole, {"PYTHONPATH": str(HERE.parent)} if tool == "curatrix" else None)]
                costs += [measure(whole, {"PYTHONPATH": str(HERE.parent)} if tool == "curatrix" else None)
                          for _ in range(runs - 1 if costs[0].wall < 20 else 0)]  # fmt: skip
            except RuntimeError as error:
                results.append({"corpus": name, "tool": tool, "error": str(error)})
                continue
            results.append(
                {
                    "corpus": name,
                    "tool": tool,
                    **min(costs, key=lambda cost: cost.cpu)._asdict(),
                    **(quality(texts, out, *truth) if truth else {"kept": pq.read_metadata(out).num_rows}),
                }
            )
            print(results[-1], file=sys.stderr)
    return results


def exact(work: Path, sizes: list[int], runs: int) -> list[dict[str, Any]]:
    """Exact copies alone, with two threads each, against DuckDB: the best of some runs, taken in turn.

    As whole processes from Parquet to Parquet, and on an Arrow table in memory.
    """
    results, scripts = list[dict[str, Any]](), {
        "curatrix": ("ours", "exact"), "duckdb, md5": ("duckdb_exact", "md5"),
        "duckdb, 64-bit hash": ("duckdb_exact", "hash"),
    }  # fmt: skip
    for rows in sizes:
        path, costs = write(work / f"edited-{rows}.parquet", edited(rows)), dict[str, list[Cost]]()
        for _ in range(runs):
            for tool, (script, how) in scripts.items():
                command = [sys.executable, str(HERE / f"dedup_peers/{script}.py"), str(path), str(work / f"{how}.out")]
                costs.setdefault(tool, []).append(measure([*command, how], {"PYTHONPATH": str(HERE.parent)}))
        for tool, (_, how) in scripts.items():
            best = min(costs[tool], key=lambda cost: cost.cpu)
            kept = pq.read_metadata(work / f"{how}.out").num_rows
            results.append({"rows": rows, "tool": tool, "kept": kept, **best._asdict()})
        results += [{"rows": rows, "in_memory": True, **found} for found in _exact_in_memory(path, runs)]
        print(*results[-2 * len(scripts) :], sep="\n", file=sys.stderr)
    return results


def _exact_in_memory(path: Path, runs: int) -> list[dict[str, Any]]:
    command = [sys.executable, str(HERE / "dedup_peers/exact_in_memory.py"), str(path), str(runs)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, check=True, env={**os.environ, "PYTHONPATH": str(HERE.parent)}
    )
    return list(json.loads(done.stdout))


def spans(least: int = 3, length: int = 50) -> list[dict[str, Any]]:
    """What removing spans of 50 words that `least` documents share would find after near copies are gone."""
    texts = real()
    dropped, _ = true_copies(texts)
    kept = [text for row, text in enumerate(texts) if row not in dropped]
    values, offsets = shingle(normalise(pa.array(kept), True, True), "word", length)
    distinct, counts = np.unique(values, return_counts=True)
    shared = counts[np.searchsorted(distinct, values)] >= least
    of_text = np.repeat(np.arange(len(kept)), np.diff(offsets))
    hit = np.unique(of_text[shared])
    words = len(values) + (length - 1) * int((np.diff(offsets) > 1).sum())
    return [{
        "documents": len(kept), "words": words, "windows": len(values), "index_mb": round(16 * len(values) / 1e6, 1),
        "documents_with_a_shared_span": len(hit), "shared_windows": int(shared.sum()),
        "examples": [kept[row][:80] for row in hit[:: max(1, len(hit) // 12)]],
    }]  # fmt: skip


def quality(texts: list[str], out: Path, dropped: set[int], alike: set[int]) -> dict[str, Any]:
    """What was dropped, how much of it resembles another row, and how much of what should go has gone."""
    table = pq.read_table(out)
    left: dict[str, int] = {}
    for text in table["text"].to_pylist():
        left[text] = left.get(text, 0) + 1
    gone = set[int]()
    for row, text in enumerate(texts):  # equal texts: the first are taken for those that stayed
        left[text] = left.get(text, 0) - 1
        gone |= {row} if left[text] < 0 else set()
    return {
        "dropped": len(gone),
        "precision": round(len(gone & alike) / max(len(gone), 1), 4),
        "recall": round(len(gone & dropped) / max(len(dropped), 1), 4),
    }


def whole_run(work: Path, name: str, path: Path) -> dict[str, Any]:
    """`curate run` with `dedup` alone, from an empty store."""
    for old in (work / "store", work / "run"):
        shutil.rmtree(old, ignore_errors=True)
    recipe = work / "recipe.yaml"
    source = {"name": "rows", "path": str(path), "max_row_mb": 200}
    recipe.write_text(yaml.safe_dump({"name": "b", "store": "store", "sources": [source], "stages": ["dedup"]}))
    curate = Path(sys.executable).with_name("curate")
    cost = measure([str(curate), "run", str(recipe), "--out", str(work / "run")])
    manifest = json.loads((work / "run/manifest.json").read_bytes())
    stage = manifest["stages"][0]
    result = {
        "corpus": name, "rows": stage["rows_in"], "kept": stage["kept"], **cost._asdict(),
        "ingest_s": manifest["timings"]["ingest"], "dedup_s": stage["seconds"],
        "export_s": manifest["timings"]["export"], "text_mb": path.stat().st_size / 1e6,
    }  # fmt: skip
    print(result, file=sys.stderr)
    return result


def main() -> None:
    """Measure what was asked for and write it to bench/results/dedup-*.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["peers", "exact", "spans", "scale", "extremes"])
    parser.add_argument("--rows", type=int, nargs="*", default=[100_000, 1_000_000])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[], help="peers whose name has one of these words")
    parser.add_argument("--work", type=Path, default=Path("/tmp/curatrix-bench-dedup"))
    chosen = parser.parse_args()
    chosen.work.mkdir(parents=True, exist_ok=True)
    if chosen.what == "peers":
        results = peers(chosen.work, chosen.runs, chosen.only, chosen.rows)
    elif chosen.what == "exact":
        results = exact(chosen.work, chosen.rows, chosen.runs)
    elif chosen.what == "spans":
        results = spans()
    elif chosen.what == "scale":
        paths = {rows: write(chosen.work / f"edited-{rows}.parquet", edited(rows)) for rows in chosen.rows}
        results = [whole_run(chosen.work, f"{rows:,} edited", path) for rows, path in paths.items()]
    else:
        made = extremes(chosen.rows[-1]).items()
        results = [whole_run(chosen.work, name, write(chosen.work / "extreme.parquet", rows)) for name, rows in made]
    (HERE / f"results/dedup-{chosen.what}.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
