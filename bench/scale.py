"""Whole runs at growing sizes: `python bench/scale.py ROWS ... [--work DIR] [--keep]`, as in 100000 1000000 10000000.

Rows are made on the fly: windows of real text with a quarter of their words replaced, 30% of them copies with 0 to 6%
new words; one in fifty is a code problem with up to nine tests. The recipe reads them, removes near copies, wants five
tests of a problem, keeps a tenth by `dsir` (the pre-filter) and a tenth of that by `zipfit` towards the 164 HumanEval
problems, and exports. Printed per size: seconds of wall and processor, peak memory, seconds of every step.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from itertools import starmap
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from dedup_scale import _document
from processes import cost_of
from zipfit_data import humaneval, workload

BLOCK = 100_000
PROBLEMS = 50
"""One row in so many is a code problem."""
_WORDS: list[str] = []


def make_block(folder: Path, start: int, count: int) -> None:
    """Write rows `start` to `start + count` as two Parquet files, instructions and problems."""
    if not _WORDS:
        _WORDS.extend(word for text in workload() for word in text.split() if len(word) < 30)
    rng = np.random.default_rng(start)
    family = np.arange(start, start + count)
    copies = (rng.random(count) < 0.3) & (family > 0)
    family[copies] = rng.integers(0, family[copies])
    shares = np.where(copies, rng.choice([0, 0.004, 0.01, 0.03, 0.06], count), 0.0)
    ids = range(start, start + count)
    texts = list(starmap(_text, zip(family.tolist(), shares.tolist(), ids, strict=True)))
    rows = [_instruction(text) for row, text in zip(ids, texts, strict=True) if row % PROBLEMS]
    problems = [_problem(text, row) for row, text in zip(ids, texts, strict=True) if not row % PROBLEMS]
    for name, made in (("instruct", rows), ("problems", problems)):
        pq.write_table(pa.Table.from_pylist(made), folder / name / f"{start:09d}.parquet", compression="zstd")


def _text(family: int, share: float, row: int) -> str:
    return _document(_WORDS, family, share, 40, 100, row)


def _instruction(text: str) -> dict[str, str]:
    words = text.split(" ")
    cut = len(words) // 3
    return {"instruction": " ".join(words[:cut]), "input": "", "output": " ".join(words[cut:])}


def _problem(text: str, row: int) -> dict[str, Any]:
    tests = [f"assert solve({k}) == {k * k + row % 97}" for k in range(row // PROBLEMS % 10)]
    return {"task_id": row, "text": text, "code": f"def solve(k):\n    return k * k + {row % 97}", "test_list": tests}


def prepare(folder: Path, rows: int) -> None:
    """Write the sources, the target and the recipe."""
    for name in ("instruct", "problems"):
        (folder / name).mkdir(parents=True)
    starts = range(0, rows, BLOCK)
    with ProcessPoolExecutor(2) as workers:
        jobs = [workers.submit(make_block, folder, start, min(BLOCK, rows - start)) for start in starts]
        for job in jobs:
            job.result()
    (folder / "target.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in humaneval()))
    target = {"target": ["target.jsonl"], "keep": 0.1}
    recipe = {
        "store": "store",
        "sources": [{"name": name, "path": f"{name}/*.parquet"} for name in ("instruct", "problems")],
        "stages": ["dedup", {"tests": {"min_tests": 5}},
                   {"dsir": {**target, "normalise": "per_token", "laplace": 0.1}},
                   {"zipfit": {**target, "cascade": True}}],
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))


def measure(folder: Path, rows: int) -> dict[str, Any]:
    """One run over so many rows, from an empty store."""
    prepare(folder, rows)
    out = folder / "out"
    cost = cost_of([sys.executable, "-m", "cli", "run", str(folder / "recipe.yaml"), "--out", str(out), "--json"])
    manifest = json.loads((out / "manifest.json").read_bytes())
    stages = manifest["stages"]
    return {
        "rows": rows, **{name: round(value, 1) for name, value in cost._asdict().items()},
        "cpu_ms_per_row": round(1e3 * cost.cpu / rows, 3),
        "seconds": {"ingest": manifest["timings"]["ingest"], **{one["stage"]: one["seconds"] for one in stages},
                    "export": manifest["timings"]["export"]},
        "kept": {one["stage"]: one["kept"] for one in stages},
        "text_mb": _megabytes(folder / "instruct"), "store_mb": _megabytes(folder / "store"),
    }  # fmt: skip


def _megabytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) >> 20


def main() -> None:
    """Measure every size in a folder of its own and print one JSON line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=int, nargs="+")
    parser.add_argument("--work", type=Path, default=Path("/tmp/curatrix-bench-scale"))
    parser.add_argument("--keep", action="store_true", help="leave what was made and written")
    options = parser.parse_args()
    for rows in options.rows:
        folder = options.work / str(rows)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            print(json.dumps(measure(folder, rows)), flush=True)
        finally:
            if not options.keep:
                shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
