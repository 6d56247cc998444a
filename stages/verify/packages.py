"""Problem packages whose judge is a program: output validators and interactive judges, where they are in Python."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable
from typing import Any, Final

from stages.sandbox import Limits, Process, Result, Sandbox, Status

from .native import execute
from .problem import Check, Problem, Program
from .repeat import twice
from .verdict import Attempt, Outcome

_ACCEPTED, _WRONG = 42, 43
_FOLDER: Final = "/feedback/"


def custom(problem: Problem, program: Program, sandbox: Sandbox, limits: Limits, stop_early: bool) -> Attempt | str:
    """A program against the package's own validator; or why that is not possible here."""
    validator = _validator(problem)
    if validator.startswith("no "):
        return validator
    if problem.judge.get("interactive"):
        if program.language != "python":
            return f"no interaction with programs in {program.language}"
        return _attempt(
            problem, sandbox, stop_early, lambda check: _interact(problem, validator, check, program, sandbox, limits)
        )
    ready = execute(program, sandbox, limits)
    if isinstance(ready, str):
        if ready.startswith("no toolchain"):
            return ready
        return Attempt((Outcome("compilation", "runtime_error", detail=ready),), max(1, len(problem.checks)))
    return _attempt(
        problem, sandbox, stop_early, lambda check: _judged(problem, validator, check, ready, sandbox, limits)
    )


def _validator(problem: Problem) -> str:
    sources = problem.judge.get("validators")
    files = sources if isinstance(sources, dict) else {}
    outputs = {name: text for name, text in files.items() if "output_validator" in name and isinstance(text, str)}
    python = [text for name, text in outputs.items() if name.endswith((".py", ".py3"))]
    if len(python) == 1 and len(outputs) == 1:
        return python[0]
    kinds = sorted({name.rpartition(".")[2] for name in outputs}) or ["none"]
    return f"no Python output validator in the package (found: {', '.join(kinds)})"


def _attempt(problem: Problem, sandbox: Sandbox, stop_early: bool, one: Callable[[Check], Outcome]) -> Attempt:
    outcomes: list[Outcome] = []
    for check in problem.checks:
        outcome = twice(sandbox, functools.partial(one, check))
        outcomes.append(outcome)
        if stop_early and not outcome.passed:
            break
    return Attempt(tuple(outcomes), len(problem.checks))


def _payload(problem: Problem, validator: str, check: Check) -> dict[str, Any]:
    flags = shlex.split(str(problem.judge.get("validator_flags") or ""))
    return {
        "code": validator,
        "files": {"input": check.input, "answer": check.output},
        "folder": _FOLDER,
        "argv": ["input", "answer", _FOLDER, *flags],
    }


def _judged(
    problem: Problem, validator: str, check: Check, run: Callable[[bytes], Result], sandbox: Sandbox, limits: Limits
) -> Outcome:
    result = run(check.input.encode("utf-8", "surrogatepass"))
    if result.status != "passed":
        return Outcome(check.name, result.status, check.input, check.output, result.out, result.detail, result.cpu_ms)
    judge = sandbox.run(Process("program", _payload(problem, validator, check), result.stdout, limits))
    return _decided(check, judge, result)


def _interact(
    problem: Problem, validator: str, check: Check, program: Program, sandbox: Sandbox, limits: Limits
) -> Outcome:
    judge = Process("program", _payload(problem, validator, check), limits=limits)
    player = Process("program", {"code": program.code}, limits=limits)
    decided, played = sandbox.run_pair(judge, player, wire="stdio")
    if decided.exit_code == _ACCEPTED and played.status != "passed" and not played.detail.startswith("stopped"):
        return Outcome(check.name, played.status, check.input, "", played.err, played.detail, played.cpu_ms)
    return _decided(check, decided, played)


def _decided(check: Check, judge: Result, run: Result) -> Outcome:
    statuses: dict[int, Status] = {_ACCEPTED: "passed", _WRONG: "wrong_answer"}
    status = statuses.get(judge.exit_code, "skipped")
    detail = (
        "" if status == "passed" else judge.err if status == "wrong_answer" else f"the validator failed: {judge.err}"
    )
    return Outcome(check.name, status, check.input, check.output, run.out, detail, run.cpu_ms)
