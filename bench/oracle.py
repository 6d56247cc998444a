"""Compares our verdicts with 5,082 that were measured elsewhere: `python bench/oracle.py [--workers 2] [--only NAME]`.

The oracle (`../shared/data/oracle`) ran each program in an interpreter of its own, without any of our machinery.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from schemas.adapters import ADAPTERS
from stages.sandbox import Limits, Sandbox
from stages.verify.engine import run_program
from stages.verify.problem import Program, problem

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
LIMITS = Limits(cpu_s=10.0)


class Case(NamedTuple):
    """One verdict of the oracle, the record it is about, and the program that was run."""

    file: str
    id: str
    observed: str
    record: dict[str, Any]
    code: str


class Answer(NamedTuple):
    """Our verdict on a case."""

    case: Case
    passed: bool
    status: str
    detail: str
    cpu_ms: float
    whole: bool


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a gzipped JSONL file."""
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as lines:
        for line in lines:
            yield json.loads(line)


def draft(row: dict[str, Any]) -> dict[str, Any]:
    """The canonical columns of a row, by the first adapter that fits."""
    return dict(next(each for each in ADAPTERS if each.matches(row)).read(row)[0])


def key(row: dict[str, Any]) -> str:
    """How the oracle names a row."""
    return str(next(row[name] for name in ("task_id", "id", "slug", "package", "name") if name in row))


def cases(data: Path) -> Iterator[Case]:
    """Every verdict of the oracle with what it needs to be checked."""
    wanted: dict[str, list[dict[str, Any]]] = {}
    for verdict in rows(data / "oracle" / "verdicts_py311.jsonl.gz"):
        wanted.setdefault(verdict["file"], []).append(verdict)
    for file, verdicts in wanted.items():
        table = {key(row): row for row in rows(data / file)}
        for verdict in verdicts:
            row, code = _program(table, str(verdict["id"]), file)
            yield Case(file, str(verdict["id"]), verdict["observed"], row, code)


def _program(table: dict[str, dict[str, Any]], name: str, file: str) -> tuple[dict[str, Any], str]:
    if "icpc" in file:
        package, _, path = name.partition("/submissions/")
        row = table[package]
        return draft(row), next(s["code"] for s in row["submissions"] if s["path"] == f"submissions/{path}")
    base, _, role = name.partition(":")
    row = table[base]
    record = draft(row)
    if role == "stub":
        return record, row["files"][row["config"]["files"]["solution"][0]]
    if role == "buggy_program":
        return record, row["buggy_program"]
    attempt = row.get("solution") if "llmdebugger" in file else None
    return record, attempt or next(iter(record.get("solutions") or [{"code": ""}]))["code"]


def answer(case: Case, sandbox: Sandbox) -> Answer:
    """Run one case."""
    read = problem(case.record)
    attempt = run_program(read, Program(-1, case.code, "python", None), sandbox, LIMITS, True)
    if isinstance(attempt, str):
        return Answer(case, False, "skipped", attempt, 0.0, False)
    failed = attempt.failed
    detail = f"{failed.name}: {failed.detail} expected {failed.expected} got {failed.got}"[:300] if failed else ""
    status = failed.status if failed else "passed"
    return Answer(case, attempt.verified, status, detail, attempt.cpu_ms, attempt.whole)


def agrees(found: Answer) -> bool:
    """Both say pass, or both do not."""
    return found.passed == (found.case.observed == "pass")


def main() -> None:
    """Run the comparison and print every disagreement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", default="")
    parser.add_argument("--every", type=int, default=1, help="take only every n-th case")
    options = parser.parse_args()
    chosen = [case for at, case in enumerate(cases(DATA)) if options.only in case.file and at % options.every == 0]
    started = time.monotonic()
    with Sandbox(workers=options.workers) as sandbox:
        answers = list(sandbox.map(lambda case: answer(case, sandbox), chosen))
    seconds = time.monotonic() - started
    report(answers, seconds)


def report(answers: list[Answer], seconds: float) -> None:
    """Agreement per file, then the disagreements."""
    for file in dict.fromkeys(found.case.file for found in answers):
        of_file = [found for found in answers if found.case.file == file]
        agreed, whole = sum(map(agrees, of_file)), sum(found.whole for found in of_file)
        print(f"{agreed:5} of {len(of_file):5}  {file}  (whole: {whole})")
    total = sum(map(agrees, answers))
    print(f"{total} of {len(answers)} agree ({100 * total / len(answers):.2f}%), {seconds:.0f} s")
    print(Counter(found.status for found in answers))
    for found in answers:
        if not agrees(found):
            told = f"oracle {found.case.observed[:80]!r}, ours {found.status}: {found.detail}"
            print(f"- {found.case.file} {found.case.id}: {told}")


if __name__ == "__main__":
    main()
