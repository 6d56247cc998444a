"""Throughput of the sandbox beside a fresh interpreter per test and bubblewrap, and of whole verification jobs.

    python bench/verify.py [--seconds 5] [--workers 2] [--jobs humaneval.jsonl.gz …] [--out bench/results]

All three run the same trivial stdin test in the same minute, in turns, so that the ratios hold on a busy machine too.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from schemas.adapters import ADAPTERS
from stages.sandbox import Sandbox, default_workers
from stages.verify import verify_problem

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "code"
PROGRAM = "print(int(input()) * 2)"
JOBS = (
    "humaneval.jsonl.gz",
    "mbpp_001_600.jsonl.gz",
    "leetcode_dataset_v0.2.0_train.jsonl.gz",
    "icpc_packages_gcpc2021_2022.jsonl.gz",
)
Test = Callable[[], bool]


@dataclass(frozen=True)
class Rate:
    """Trivial tests per second of one way to run them."""

    name: str
    tests: int
    seconds: float

    @property
    def per_second(self) -> float:
        """The rate."""
        return self.tests / self.seconds


@dataclass(frozen=True)
class Job:
    """One file verified whole."""

    file: str
    problems: int
    seconds: float
    program_cpu_s: float
    statuses: dict[str, int]


def fresh() -> bool:
    """One test in a new interpreter, with no confinement at all."""
    command = [sys.executable, "-I", "-S", "-c", PROGRAM]
    return subprocess.run(command, input=b"21\n", capture_output=True).stdout == b"42\n"


def bubblewrap() -> bool:
    """One test in a new interpreter under bubblewrap."""
    binds = itertools.chain.from_iterable(
        ("--ro-bind", path, path) for path in ("/usr", "/lib", "/lib64", sys.base_prefix) if os.path.exists(path)
    )
    python = os.path.realpath(sys.executable)
    command = [
        "bwrap",
        *binds,
        "--unshare-all",
        "--die-with-parent",
        "--dev",
        "/dev",
        python,
        "-I",
        "-S",
        "-c",
        PROGRAM,
    ]
    return subprocess.run(command, input=b"21\n", capture_output=True).stdout == b"42\n"


def ways(sandboxes: dict[str, Sandbox]) -> dict[str, Test]:
    """Every way to run the test that this machine has."""

    def ours(sandbox: Sandbox) -> Test:
        return lambda: sandbox.run_python(PROGRAM, b"21\n").stdout == b"42\n"

    found: dict[str, Test] = {"fresh interpreter": fresh}
    if shutil.which("bwrap"):
        found["bubblewrap"] = bubblewrap
    return found | {f"ours ({name})": ours(sandbox) for name, sandbox in sandboxes.items()}


def hammer(test: Test, workers: int, seconds: float) -> int:
    """How many tests `workers` threads get through in that time. Raises if one goes wrong."""
    end = time.monotonic() + seconds

    def loop(_: int) -> int:
        count = 0
        while time.monotonic() < end:
            if not test():
                raise RuntimeError("a trivial test failed")
            count += 1
        return count

    with ThreadPoolExecutor(workers) as pool:
        return sum(pool.map(loop, range(workers)))


def throughput(workers: int, seconds: float, rounds: int = 4) -> list[Rate]:
    """Rates of all ways, taken in turns."""
    tiers: tuple[Any, ...] = ("zygote", "no-namespace")
    sandboxes = {tier: Sandbox(workers, tier) for tier in tiers}
    found = ways(sandboxes)
    counts: Counter[str] = Counter()
    for test in found.values():
        test()
    spent: Counter[str] = Counter()
    for _ in range(rounds):
        for name, test in found.items():
            started = time.monotonic()
            counts[name] += hammer(test, workers, seconds / rounds)
            spent[name] += time.monotonic() - started  # type: ignore[assignment]
    for sandbox in sandboxes.values():
        sandbox.close()
    return [Rate(name, counts[name], spent[name]) for name in found]


def records(file: str) -> Iterator[dict[str, Any]]:
    """Canonical records of a file of real problems."""
    with gzip.open(DATA / file, "rt", encoding="utf-8", newline="\n") as lines:
        for line in lines:
            row = json.loads(line)
            yield dict(next(each for each in ADAPTERS if each.matches(row)).read(row)[0])


def job(file: str, workers: int) -> Job:
    """Verify every problem of a file."""
    problems = list(records(file))
    started = time.monotonic()
    with Sandbox(workers) as sandbox:
        verdicts = list(sandbox.map(lambda record: verify_problem(record, sandbox, stop_early=True), problems))
    seconds = time.monotonic() - started
    cpu = sum(verdict.cpu_ms for verdict in verdicts) / 1000
    return Job(file, len(problems), seconds, cpu, dict(Counter(verdict.status for verdict in verdicts)))


def summary(rates: list[Rate], jobs: list[Job], workers: int) -> str:
    """The results as a Markdown page."""
    base = rates[0].per_second
    lines = [
        f"# Verification throughput ({workers} workers)",
        "",
        "| way | tests/s | against a fresh interpreter |",
        "|---|---|---|",
    ]
    lines += [f"| {rate.name} | {rate.per_second:.0f} | {rate.per_second / base:.2f}x |" for rate in rates]
    if jobs:
        lines += [
            "",
            "| file | problems | seconds | problems/s | CPU s in programs | verdicts |",
            "|---|---|---|---|---|---|",
        ]
    for each in jobs:
        rate = each.problems / each.seconds
        told = ", ".join(f"{name} {count}" for name, count in sorted(each.statuses.items()))
        lines.append(
            f"| {each.file} | {each.problems} | {each.seconds:.1f} | {rate:.0f} | {each.program_cpu_s:.1f} | {told} |"
        )
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure and write `verify.json` and `verify.md`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="per way")
    parser.add_argument("--workers", type=int, default=default_workers())
    parser.add_argument("--jobs", nargs="*", default=list(JOBS))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    rates = throughput(options.workers, options.seconds)
    jobs = [job(file, options.workers) for file in options.jobs if (DATA / file).exists()]
    options.out.mkdir(parents=True, exist_ok=True)
    table = {
        "workers": options.workers,
        "rates": [{**asdict(rate), "per_second": rate.per_second} for rate in rates],
        "jobs": [asdict(each) for each in jobs],
    }
    (options.out / "verify.json").write_text(json.dumps(table, indent=1) + "\n")
    page = summary(rates, jobs, options.workers)
    (options.out / "verify.md").write_text(page)
    print(page)


if __name__ == "__main__":
    main()
