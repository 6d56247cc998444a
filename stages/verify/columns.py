"""Verification as score columns: run the problems of a batch, and decide by what came out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa

from schemas.errors import RecipeError
from stages.contract import BoolArray, Decisions, Scores
from stages.sandbox import Limits, Sandbox, probe

from .engine import verify_problem
from .verdict import Verdict

VERIFY_COLUMNS: Final = ("test_type", "entry_point", "solutions", "judge", "language", "prompt")
_SCORES: Final = {
    "verified": pa.bool_(),
    "pass_rate": pa.float64(),
    "status": pa.string(),
    "failed_test": pa.string(),
    "solution": pa.int32(),
    "whole": pa.bool_(),  # the tests ran in the solution's own process: no proof against a hostile one
    "cpu_ms": pa.float64(),
}
_SHOWN: Final = 60


def require_sandbox() -> None:
    """Raise RecipeError, with how to mend it, unless this machine can contain untrusted programs."""
    found = probe()
    if found.tier is None:
        advice = "; ".join(found.advice)
        raise RecipeError(f"tests: verify needs a sandbox, and this machine gives none: {advice}; or set verify: false")


def verified_columns(batch: pa.RecordBatch, limits: Limits, max_solutions: int) -> dict[str, pa.Array]:
    """Score columns of every row; null for records that are no code problems. Runs solutions in one sandbox."""
    rows = batch.to_pylist()
    problems = [number for number, row in enumerate(rows) if row["kind"] == "code"]
    values: list[dict[str, Any]] = [{} for _ in rows]
    if problems:
        with Sandbox(workers=1) as sandbox:
            for number in problems:
                verdict = _verify(rows[number], sandbox, limits, max_solutions)
                values[number] = _values(verdict)
    return {name: pa.array([value.get(name) for value in values], kind) for name, kind in _SCORES.items()}


def _verify(row: dict[str, Any], sandbox: Sandbox, limits: Limits, max_solutions: int) -> Verdict:
    return verify_problem(row, sandbox, limits, max_solutions=max_solutions)


def _values(verdict: Verdict) -> dict[str, Any]:
    return {
        "verified": verdict.verified, "pass_rate": verdict.pass_rate, "status": verdict.status,
        "failed_test": _failed(verdict), "solution": verdict.solution, "whole": verdict.whole,
        "cpu_ms": round(verdict.cpu_ms, 3),
    }  # fmt: skip


def _failed(verdict: Verdict) -> str | None:
    """JSON of the failed test, or of the reason why nothing was run."""
    test = verdict.failed_test
    if test is None:
        return orjson.dumps({"detail": verdict.detail}).decode() if verdict.detail else None
    told = {name: getattr(test, name) for name in ("name", "status", "input", "expected", "got", "detail")}
    return orjson.dumps({key: value for key, value in told.items() if value}).decode()


def judged(scores: Scores, counted: Decisions, problem: BoolArray, min_pass_rate: float) -> Decisions:
    """The decision by number of tests, and after it by what the solutions passed."""
    table = scores.table(["pass_rate", "status", "failed_test"]).to_pylist()
    keep = counted.keep.copy()
    reasons = list(map(str, counted.reason))
    details: list[str | None] = [None] * len(keep)
    for number in np.flatnonzero(problem & counted.keep):
        row = table[number]
        keep[number] = row["status"] != "skipped" and row["pass_rate"] >= min_pass_rate
        details[number] = row["failed_test"]
        reasons[number] = _reason(reasons[number], row, bool(keep[number]))
    score = np.array([np.nan if row["pass_rate"] is None else row["pass_rate"] for row in table])
    return replace(counted, keep=keep, reason=reasons, score=score, detail=details)


def _reason(counted: str, row: dict[str, Any], kept: bool) -> str:
    if kept:
        return f"{counted}, verified" if row["pass_rate"] == 1 else f"{counted}, {row['pass_rate']:.0%} passed"
    failed = orjson.loads(row["failed_test"] or "{}")
    if row["status"] == "skipped":
        return f"not verified: skipped; {failed.get('detail', 'not run')}"
    return f"not verified: {row['status']}; {_test(failed)}"


def _test(failed: dict[str, Any]) -> str:
    """`NAME: input I, expected E, got G`, shortened, as far as each is known."""
    name = failed.get("name", "")
    parts = [f"{key} {_short(failed[key])}" for key in ("input", "expected", "got") if failed.get(key, name) != name]
    return ": ".join(filter(None, (_short(name), ", ".join(parts))))


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _SHOWN else f"{flat[:_SHOWN]}…"
