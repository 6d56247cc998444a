"""Throughput of the sandbox beside a fresh interpreter per test and bubblewrap, and of whole verification jobs.

    python bench/verify.py [--seconds 5] [--workers 2] [--jobs humaneval.jsonl.gz …] [--out bench/results]

The share of overhead counts everything that is not the programs' own code: a program's CPU time is that of its process
less what an empty program takes.

All three run the same trivial stdin test in the same minute, in turns, so that the ratios hold on a busy machine too.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import os
import resource
import shutil
import statistics
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
from stages.sandbox import Process, Result, Sandbox, default_workers
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
    runs: int
    seconds: float
    total_cpu_s: float
    program_cpu_s: float
    statuses: dict[str, int]

    @property
    def overhead(self) -> float:
        """Share of all CPU time (host, fork servers, judges, confinement) that was not spent in the programs' code."""
        return 1 - self.program_cpu_s / self.total_cpu_s


class Counting(Sandbox):
    """A sandbox that adds up the runs of programs under test, and the CPU time of their processes."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self.spent_ms: list[float] = []

    def run(self, process: Process) -> Result:
        """A run; an output validator's counts as a program's."""
        result = super().run(process)
        self.spent_ms.append(result.cpu_ms)
        return result

    def run_pair(self, first: Process, second: Process, wire: str = "rpc") -> tuple[Result, Result]:
        """Of a pair, the second is the program under test."""
        results = super().run_pair(first, second, wire)
        self.spent_ms.append(results[1].cpu_ms)
        return results


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


def cpu_s() -> float:
    """CPU seconds of this process and of all that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def job(file: str, workers: int, most: int) -> Job:
    """Verify the problems of a file, at most `most`."""
    problems = list(itertools.islice(records(file), most))
    with Counting(1) as sandbox:
        empty = statistics.mean(sandbox.run_python("pass").cpu_ms for _ in range(100))
    started, before = time.monotonic(), cpu_s()
    with Counting(workers) as sandbox:
        verdicts = list(sandbox.map(lambda record: verify_problem(record, sandbox, stop_early=True), problems))
    seconds, total = time.monotonic() - started, cpu_s() - before
    own = sum(max(0.0, spent - empty) for spent in sandbox.spent_ms) / 1000
    statuses = dict(Counter(str(verdict.status) for verdict in verdicts))
    return Job(file, len(problems), len(sandbox.spent_ms), seconds, total, own, statuses)


def whole(jobs: list[Job]) -> Job:
    """All files as one job."""
    statuses: Counter[str] = Counter()
    for each in jobs:
        statuses.update(each.statuses)
    sums = {key: sum(getattr(each, key) for each in jobs) for key in ("problems", "runs")}
    times = {key: sum(getattr(each, key) for each in jobs) for key in ("seconds", "total_cpu_s", "program_cpu_s")}
    return Job("all together", **sums, **times, statuses=dict(statuses))


def summary(rates: list[Rate], jobs: list[Job], workers: int, load: float) -> str:
    """The results as a Markdown page."""
    base = rates[0].per_second
    lines = [
        f"# Verification throughput ({workers} workers)",
        "",
        f"`python {' '.join(sys.argv)}`; load average before it: {load:.1f}.",
        "",
        "| way | tests/s | against a fresh interpreter |",
        "|---|---|---|",
    ]
    lines += [f"| {rate.name} | {rate.per_second:.0f} | {rate.per_second / base:.2f}x |" for rate in rates]
    if jobs:
        lines += [
            "",
            "| file | problems | runs | seconds | problems/s | CPU s | CPU s in programs | overhead | verdicts |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
    for each in [*jobs, whole(jobs)] if jobs else ():
        rate = each.problems / each.seconds
        told = ", ".join(f"{name} {count}" for name, count in sorted(each.statuses.items()))
        lines.append(
            f"| {each.file} | {each.problems} | {each.runs} | {each.seconds:.1f} | {rate:.1f} | {each.total_cpu_s:.1f} "
            f"| {each.program_cpu_s:.1f} | {each.overhead:.0%} | {told} |"
        )
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure and write `verify.json` and `verify.md`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="per way")
    parser.add_argument("--workers", type=int, default=default_workers())
    parser.add_argument("--jobs", nargs="*", default=list(JOBS))
    parser.add_argument("--most", type=int, default=1 << 30, help="problems of each file")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    rates = throughput(options.workers, options.seconds)
    jobs = [job(file, options.workers, options.most) for file in options.jobs if (DATA / file).exists()]
    options.out.mkdir(parents=True, exist_ok=True)
    table = {
        "workers": options.workers,
        "load": load,
        "rates": [{**asdict(rate), "per_second": rate.per_second} for rate in rates],
        "jobs": [{**asdict(each), "overhead": each.overhead} for each in jobs],
    }
    (options.out / "verify.json").write_text(json.dumps(table, indent=1) + "\n")
    page = summary(rates, jobs, options.workers, load)
    (options.out / "verify.md").write_text(page)
    print(page)


if __name__ == "__main__":
    main()
