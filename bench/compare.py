"""Which selection is best for three targets? The tables and the plot of docs/compare.md, on real rows.

    nice python bench/compare.py --data DATA       # about 10 minutes of one core; a killed run continues

DATA holds `targets/gsm8k_train.jsonl.gz`, `code/mbpp_001_600.jsonl.gz` and so on, as `POOL` and `TARGETS` name them.
Writes bench/results/compare.md and docs/compare.svg.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import resource
import time
from pathlib import Path

from pipelines.comparing import comparison
from pipelines.files import write_bytes
from reports.compare_command import run
from reports.compare_view import markdown, plot

ROOT = Path(__file__).resolve().parents[1]
POOL = {
    "gsm8k": ("targets/gsm8k_train", 600),
    "mbpp": ("code/mbpp_001_600", 300),
    "leetcode": ("code/leetcode_dataset_v0.2.0_train", 300),
    "code_alpaca": ("instruct/code_alpaca_2k", 700),
    "alpaca": ("instruct/alpaca_52k_rows_00000_42147", 1_100),
}
"""Sources with the number of rows drawn of each: maths, code and instructions."""
TARGETS = {
    "GSM8K": "targets/gsm8k_test_part1",
    "HumanEval": "targets/humaneval_prompts",
    "miniF2F": "targets/minif2f_informal_valid",
}
OTHERS = {"Dolly": "instruct/dolly_3k_part1"}


def sampled(data: Path, work: Path) -> dict[str, str]:
    """Write a sample of every source of the pool below `work`; the same rows every time."""
    found = {}
    for name, (file, count) in POOL.items():
        with gzip.open(data / f"{file}.jsonl.gz", "rb") as handle:
            lines = handle.read().split(b"\n")
        rows = random.Random(0).sample([line for line in lines if line.strip()], count)
        path = work / "pool" / f"{name}.jsonl"
        write_bytes(path, b"".join(row + b"\n" for row in rows))
        found[name] = str(path)
    return found


def main() -> None:
    """Compare, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("/tmp/compare"))
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    document = {
        "pool": sampled(options.data, options.work),
        "targets": {name: str(options.data / f"{file}.jsonl.gz") for name, file in TARGETS.items()},
        "others": {name: str(options.data / f"{file}.jsonl.gz") for name, file in OTHERS.items()},
        "keep": {"tokens": 30_000}, "seeds": options.seeds,
        "student": {
            "vocabulary": 1024, "width": 96, "layers": 2, "heads": 4, "context": 192, "tokens": 600_000, "epochs": 3,
        },
        "train": {"tokens": 65_536, "batch": 1_024, "window": 128, "held_out": 64},
    }  # fmt: skip
    started = time.time()
    found = run(comparison(document), options.work / "out", 1, options.work / "store")
    used = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(json.dumps({"cpu_seconds": round(used), "wall_seconds": round(time.time() - started)}))
    made = "Made by `python bench/compare.py --data DATA`."
    write_bytes(ROOT / "bench/results/compare.md", f"# Selections compared\n\n{made}\n\n{markdown(found)}".encode())
    write_bytes(ROOT / "docs/compare.svg", plot(found).encode())


if __name__ == "__main__":
    main()
