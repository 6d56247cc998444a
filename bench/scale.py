"""Whole runs at growing sizes: wall time, and the largest memory of any process and of all together.

    python bench/scale.py --text FILE.jsonl[.gz] --megabytes 100 1000 [--recipe RECIPE]

The input is made on the fly from the texts of FILE (Alpaca-like rows) with edits, so that rows are near and exact
duplicates of each other now and then. Memory is sampled from /proc ten times a second (proportional set size).
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

_STAGES = "stages:\n  - dedup: {threshold: 0.8}\n  - length: {max_words: 4000}\n  - tests\n"


def make_input(text: Path, path: Path, megabytes: float) -> int:
    """Write JSON Lines of about that size; returns the number of rows."""
    data = gzip.decompress(text.read_bytes()) if text.suffix == ".gz" else text.read_bytes()
    rows = [json.loads(line) for line in data.split(b"\n") if line]
    rng, written, count = random.Random(0), 0, 0
    with path.open("w", encoding="utf-8") as out:
        while written < megabytes * 1e6:
            line = json.dumps(_edited(rng.choice(rows), rng), ensure_ascii=False) + "\n"
            out.write(line)
            written += len(line.encode())
            count += 1
    return count


def _edited(row: dict[str, str], rng: random.Random) -> dict[str, str]:
    """One row in twenty as it is, the others with a fifth of the words of their answer replaced."""
    if rng.random() < 0.05:
        return row
    words = str(row.get("output", "")).split(" ")
    for _ in range(max(1, len(words) // 5)):
        words[rng.randrange(len(words))] = f"{rng.getrandbits(24):x}"
    return {**row, "output": " ".join(words)}


class Watch(threading.Thread):
    """Samples the memory of a process and its children."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.largest, self.total, self.done = pid, 0.0, 0.0, False

    def run(self) -> None:
        """Sample until told to stop."""
        while not self.done:
            sizes = [_megabytes(pid) for pid in _family(self.pid)]
            self.largest = max(self.largest, *sizes, 0.0)
            self.total = max(self.total, sum(sizes))
            time.sleep(0.1)


def _family(pid: int) -> list[int]:
    try:
        children = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return [pid]
    return [pid, *(one for child in children for one in _family(child))]


def _megabytes(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)


def measure(text: Path, megabytes: float, recipe: str, folder: Path) -> dict[str, float]:
    """One run over an input of that size."""
    rows = make_input(text, folder / "rows.jsonl", megabytes)
    (folder / "recipe.yaml").write_text(f"sources:\n  - {{name: rows, path: rows.jsonl}}\nstore: store\n{recipe}")
    command = [sys.executable, "-m", "cli", "run", str(folder / "recipe.yaml"), "--out", str(folder / "out"), "--json"]
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    watch = Watch(process.pid)
    watch.start()
    status = process.wait()
    seconds, watch.done = time.monotonic() - start, True
    if status:
        raise SystemExit(f"the run failed with status {status}")
    manifest = json.loads((folder / "out/manifest.json").read_text())
    steps = {stage["stage"]: stage["seconds"] for stage in manifest["stages"]}
    return {
        "megabytes": megabytes, "rows": rows, "seconds": round(seconds, 1), "rows_per_s": round(rows / seconds),
        "largest_mb": round(watch.largest), "total_mb": round(watch.total), **manifest["timings"], **steps,
    }  # fmt: skip


def main() -> None:
    """Measure every size in a folder of its own and print one JSON line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--megabytes", type=float, nargs="+", default=[100])
    parser.add_argument("--recipe", type=Path, help="YAML with `stages:`; default: dedup, length, tests")
    options = parser.parse_args()
    recipe = options.recipe.read_text() if options.recipe else _STAGES
    for megabytes in options.megabytes:
        folder = Path(tempfile.mkdtemp(prefix="scale-"))
        try:
            print(json.dumps(measure(options.text, megabytes, recipe, folder)), flush=True)
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
