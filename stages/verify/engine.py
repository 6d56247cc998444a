"""`verify_problem`: a record's solutions against its tests, in a sandbox."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from stages.sandbox import Limits, Sandbox, Status

from . import native, packages, references, runners
from .problem import Problem, Program, problem
from .repeat import twice
from .verdict import Attempt, Outcome, Verdict

VERSION: Final = 3
"""Raise it whenever a verdict would come out differently; it belongs in every cache key."""
_TYPING: Final = "from typing import *"  # what LeetCode's starter code takes for granted
LIMITS: Final = Limits(cpu_s=10.0)
"""Per check. A check stopped by CPU time is a verdict, one stopped by wall time alone is bad luck and tried again."""


def verify_problem(
    record: Mapping[str, Any],
    sandbox: Sandbox,
    limits: Limits = LIMITS,
    *,
    stop_early: bool = False,
    max_solutions: int = 3,
) -> Verdict:
    """Run a problem's reference solutions until one passes every test.

    `record` is a plain dict of canonical record columns. At most `max_solutions` are tried, those that their source
    does not call wrong, in order. With `stop_early` a solution is given up at its first failure, and `pass_rate`
    counts only what was run.
    """
    read = _read(record)
    if isinstance(read, Verdict):
        return read
    refusal = _refusal(read)
    if refusal:
        return _skipped(read, refusal)
    best: tuple[Program, Attempt] | None = None
    reasons = []
    for program in read.references[:max_solutions]:
        attempt = run_program(read, _completed(read, program), sandbox, limits, stop_early)
        if isinstance(attempt, str):
            reasons.append(attempt)
            continue
        if best is None or _rate(attempt) > _rate(best[1]):
            best = (program, attempt)
        if attempt.verified:
            break
    return _verdict(read, *best) if best else _skipped(read, reasons[0])


def verify_code(
    record: Mapping[str, Any],
    code: str,
    sandbox: Sandbox,
    limits: Limits = LIMITS,
    *,
    language: str | None = None,
    stop_early: bool = True,
) -> Verdict:
    """Run one program, such as a model's answer, against a problem's tests.

    What the problem gives its solver (the preamble's imports and helpers) stands above the program.
    """
    read = _read(record)
    if isinstance(read, Verdict):
        return read
    if read.kind == "none":
        return _skipped(read, "no tests that can be run")
    program = Program(-1, code, language or read.language, None)
    if read.kind != "stdio":
        program = _below(read.preamble or _TYPING, program)
    attempt = run_program(read, program, sandbox, limits, stop_early)
    return _skipped(read, attempt) if isinstance(attempt, str) else _verdict(read, program, attempt)


def _completed(read: Problem, program: Program) -> Program:
    """A reference as its source's own harness runs it: starter code with types is filled in below their imports."""
    return _below(_TYPING, program) if read.kind == "functional" else program


def _below(lines: str, program: Program) -> Program:
    if program.language != "python" or "__future__" in program.code:  # such an import must come first
        return program
    return replace(program, code=f"{lines}\n{program.code}")


def _read(record: Mapping[str, Any]) -> Problem | Verdict:
    """The problem; or, for a record whose columns cannot be understood, a verdict that says so."""
    try:
        return problem(record)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        return Verdict("skipped", False, 0, 0, 0.0, 0.0, detail=f"unreadable problem: {error}")


def _refusal(read: Problem) -> str:
    if read.kind == "none":
        return "no tests that can be run"
    if not read.programs:
        return "no solution"
    return "" if read.references else "no solution that is meant to be right"


def run_program(read: Problem, program: Program, sandbox: Sandbox, limits: Limits, stop_early: bool) -> Attempt | str:
    """One program against all checks, or why that cannot be done here."""
    own = read.limits(limits)
    if read.judge.get("validation", "default") != "default":
        return packages.custom(read, program, sandbox, own, stop_early)
    if program.language != "python":
        return native.run(read, program, sandbox, own, stop_early)
    if read.kind == "stdio":
        return runners.stdio(read, lambda data: sandbox.run_python(program.code, data, own), sandbox, stop_early)
    if read.kind == "functional":
        return twice(sandbox, lambda: runners.functional(read, program.code, sandbox, own, stop_early))
    if read.kind == "reference":
        return twice(sandbox, lambda: references.run(read, program, sandbox, own))
    return twice(sandbox, lambda: runners.source(read, program.code, sandbox, own, stop_early))


def _rate(attempt: Attempt) -> float:
    return attempt.passed / max(1, attempt.total)


def _verdict(read: Problem, program: Program, attempt: Attempt) -> Verdict:
    failed: Outcome | None = attempt.failed.short() if attempt.failed else None
    verified = attempt.verified
    status: Status = "passed" if verified else failed.status if failed else "skipped"
    return Verdict(
        status=status,
        verified=verified,
        n_tests=read.n_tests,
        n_distinct=read.n_distinct,
        pass_rate=_rate(attempt),
        cpu_ms=attempt.cpu_ms,
        solution=program.index if program.index >= 0 else None,
        failed_test=failed,
        whole=attempt.whole,
        detail=failed.detail if failed else "no test was run" if status == "skipped" else "",
        outcomes=tuple(outcome.short() for outcome in attempt.outcomes),
    )


def _skipped(read: Problem, reason: str) -> Verdict:
    return Verdict("skipped", False, read.n_tests, read.n_distinct, 0.0, 0.0, detail=reason)
