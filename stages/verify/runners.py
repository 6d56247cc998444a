"""Python programs against each kind of test. Every function takes a problem and one program's source."""

from __future__ import annotations

import functools
import json
import re
import secrets
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from stages.sandbox import Limits, Process, Result, Sandbox, Status
from stages.sandbox.child.codec import Codec, Refused

from .compare import Rules, same_output, same_value
from .problem import Check, Problem
from .repeat import twice
from .verdict import Attempt, Outcome

_DIGITS: Final = 4000
_GROUP: Final = 5
"""Checks run in one process share its CPU time: this many times the limit of one, at most."""
Execute = Callable[[bytes], Result]


def stdio(problem: Problem, execute: Execute, sandbox: Sandbox, stop_early: bool) -> Attempt:
    """One run per check: standard input in, standard output compared here."""
    rules = problem.rules()
    outcomes: list[Outcome] = []
    for check in problem.checks:
        outcome = twice(sandbox, functools.partial(_one_output, check, execute, rules))
        outcomes.append(outcome)
        if stop_early and not outcome.passed:
            break
    return Attempt(tuple(outcomes), len(problem.checks))


def _one_output(check: Check, execute: Execute, rules: Rules) -> Outcome:
    result = execute(check.input.encode("utf-8", "surrogatepass"))
    got = result.stdout.decode("utf-8", "replace")
    status = result.status
    if status == "passed" and not same_output(check.output, got, rules):
        status = "wrong_answer"
    detail = "" if status in ("passed", "wrong_answer") else _why(result)
    return Outcome(check.name, status, check.input, check.output, got, detail, result.cpu_ms)


def _why(result: Result) -> str:
    last = result.err.strip().splitlines()
    return "; ".join(part for part in (result.detail, last[-1] if last else "") if part)


def grouped(limits: Limits, count: int) -> Limits:
    """Limits for `count` checks in one process."""
    return replace(limits, cpu_s=limits.cpu_s * max(1, min(count, _GROUP)))


def functional(problem: Problem, code: str, sandbox: Sandbox, limits: Limits, stop_early: bool) -> Attempt:
    """Calls with JSON arguments; values come back as data and are compared here."""
    rules, checks = problem.rules(), problem.checks
    wrapped = bool(problem.judge.get("output_may_be_wrapped"))

    def right(check: Check, value: Any, after: Any) -> bool:
        expected = _json(check.output)
        return _right(expected, value, after, rules, wrapped)

    calls = [_arguments(check.input) for check in checks]
    outcomes: list[Outcome] = []
    for check, (value, after, outcome) in zip(checks, call(sandbox, code, problem.entry, calls, limits), strict=False):
        if outcome.passed and not right(check, value, after):
            outcome = replace(outcome, status="wrong_answer")
        outcomes.append(replace(outcome, name=check.name, input=check.input, expected=check.output, got=_show(value)))
        if stop_early and not outcome.passed:
            break
    return Attempt(tuple(outcomes), len(checks))


def _right(expected: Any, value: Any, after: Any, rules: Rules, wrapped: bool) -> bool:
    try:
        return _accepted(expected, value, after, rules, wrapped)
    except (ArithmeticError, RecursionError, ValueError, TypeError):  # a value made to break comparisons
        return False


def _accepted(expected: Any, value: Any, after: Any, rules: Rules, wrapped: bool) -> bool:
    if same_value(expected, value, rules):
        return True
    if wrapped and isinstance(expected, list) and len(expected) == 1 and same_value(expected[0], value, rules):
        return True
    in_place = value is None and expected is not None and isinstance(after, list) and after  # it changes its argument
    return bool(in_place) and same_value(expected, after[0], rules)


def _arguments(text: str) -> tuple[list[Any], dict[str, Any]]:
    """Arguments of a call: a JSON list, a JSON object of named ones, or one JSON value per line."""
    try:
        value = json.loads(text, parse_int=_integer)
    except (ValueError, RecursionError):
        value = [_json(line) for line in text.split("\n") if line.strip()]
    if isinstance(value, dict):
        return [], value
    return (value if isinstance(value, list) else [value]), {}


def _json(text: str) -> Any:
    try:
        return json.loads(text, parse_int=_integer)
    except (ValueError, RecursionError):
        return text


def _integer(digits: str) -> int:
    """An integer of any length: `int` refuses long ones, and a long one may be the right answer."""
    return int(digits) if len(digits) < _DIGITS else int(Decimal(digits))


def _show(value: Any) -> str:
    try:
        return repr(value)[:2000]
    except (ValueError, RecursionError):
        return f"<{type(value).__name__}, too long to show>"


def call(
    sandbox: Sandbox, code: str, entry: str, calls: list[tuple[list[Any], dict[str, Any]]], limits: Limits
) -> Iterator[tuple[Any, Any, Outcome]]:
    """(value, arguments afterwards, outcome) of each call, as far as the program got.

    Values are decoded from plain data; the outcome says `passed` when the call returned at all.
    """
    encoded = [Codec("h", _no, _no).encode([args, kwargs]) for args, kwargs in calls]
    payload = {"code": code, "entry": entry, "calls": encoded}
    result = sandbox.run(Process("calls", payload, limits=grouped(limits, len(calls))))
    lines = list(_lines(result.returned))
    share = result.cpu_ms / max(1, len(calls))
    for at in range(len(calls)):
        if at >= len(lines):
            status: Status = result.status if result.status != "passed" else "runtime_error"
            yield None, None, Outcome("", status, detail=_why(result), cpu_ms=share)
            return
        yield _value(lines[at], share, limits)


def _value(line: Any, share: float, limits: Limits) -> tuple[Any, Any, Outcome]:
    if "error" in line:
        status: Status = "memory_limit" if line.get("memory") else "runtime_error"
        return None, None, Outcome("", status, detail=str(line["error"]), cpu_ms=share)
    try:
        value, after = Codec("h", _no, _no).decode(line["value"], line["heap"])
    except (Refused, KeyError, ValueError, TypeError):
        return None, None, Outcome("", "wrong_answer", detail="a result that is not plain data", cpu_ms=share)
    spent = line.get("cpu")
    slow = isinstance(spent, int | float) and spent > limits.cpu_s
    return value, after, Outcome("", "time_limit" if slow else "passed", cpu_ms=share)


def _no(value: object) -> Any:
    raise Refused(f"{type(value).__name__} is not plain data")


class _Unfit(Exception):
    """The tests do something that only works in the program's own process."""


def source(problem: Problem, code: str, sandbox: Sandbox, limits: Limits, stop_early: bool) -> Attempt:
    """Test source: in a process apart from the program's where that is possible, else beside it."""
    if not problem.inside:
        try:
            return _apart(problem, code, sandbox, limits, stop_early)
        except _Unfit:
            pass
    return _whole(problem, code, sandbox, limits, stop_early)


def _apart(problem: Problem, code: str, sandbox: Sandbox, limits: Limits, stop_early: bool) -> Attempt:
    together = grouped(limits, problem.n_tests)
    judge = {
        "test_code": problem.test_code,
        "preamble": problem.preamble,
        "entry": problem.entry,
        "own": sorted(problem.own),
        "modules": problem.modules,
        "stop_early": stop_early,
    }
    judging = Process("judge", judge, limits=together)
    program = Process("candidate", {"code": code, "name": "solution"}, limits=together)
    verdict, ran = sandbox.run_pair(judging, program)
    lines = list(_lines(verdict.returned))
    if any(line.get("unfit") for line in lines):
        raise _Unfit
    outcomes = [_line_outcome(line, ran) for line in lines if "name" in line]
    done = any("done" in line for line in lines)
    if not done and all(outcome.passed for outcome in outcomes):
        outcomes.append(_unfinished(verdict, ran))
    total = len(outcomes) if done else max(problem.n_tests, len(outcomes))
    return Attempt(_with_cpu(outcomes, ran.cpu_ms), total)


def _lines(data: bytes) -> Iterator[dict[str, Any]]:
    for line in data.splitlines():
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            yield value


def _line_outcome(line: dict[str, Any], ran: Result) -> Outcome:
    name, detail = str(line["name"]), str(line.get("error") or "")
    if line.get("ok") is True:
        return Outcome(name, "passed")
    status: Status = "wrong_answer" if not detail or detail.startswith(("AssertionError", "the ")) else "runtime_error"
    if detail.startswith("MemoryError"):
        status = "memory_limit"
    if line.get("gone"):
        status = ran.status if ran.status != "passed" else "runtime_error"
        detail = _why(ran) or "the program ended by itself"
    return Outcome(name, status, name, str(line.get("expected") or ""), str(line.get("got") or ""), detail)


def _unfinished(judge: Result, ran: Result) -> Outcome:
    """The judge stopped without a last word: its own limits, or the program's."""
    guilty = ran if ran.status in ("time_limit", "memory_limit", "output_limit") else judge
    status: Status = guilty.status if guilty.status != "passed" else "runtime_error"
    return Outcome("the tests", status, detail=_why(guilty) or "the tests did not finish")


def _with_cpu(outcomes: Iterable[Outcome], cpu_ms: float) -> tuple[Outcome, ...]:
    listed = list(outcomes)
    return tuple(replace(outcome, cpu_ms=cpu_ms / len(listed)) for outcome in listed)


def _whole(problem: Problem, code: str, sandbox: Sandbox, limits: Limits, stop_early: bool) -> Attempt:
    """Tests and program in one process; only reports that carry this run's nonce count."""
    nonce = secrets.token_hex(16)
    payload = {
        "code": f"{problem.preamble}\n{code}" if problem.preamble else code,
        "test_code": problem.test_code,
        "entry": problem.entry,
        "name": "solution",
        "aliases": _imported(problem),
        "modules": problem.modules,
        "nonce": nonce,
        "stop_early": stop_early,
    }
    together = grouped(limits, problem.n_tests)
    return whole_source(sandbox.run(Process("whole", payload, limits=together)), nonce)


def whole_source(result: Result, nonce: str) -> Attempt:
    """What tests and program in one process reported."""
    lines = [line for line in _lines(result.returned) if line.get("nonce") == nonce]
    outcomes = [_line_outcome(line, result) for line in lines if "name" in line]
    done = any("done" in line for line in lines)
    if not done and all(outcome.passed for outcome in outcomes):
        outcomes.append(_unfinished(result, result))
    return Attempt(_with_cpu(outcomes, result.cpu_ms), max(1, len(outcomes)), whole=True)


def _imported(problem: Problem) -> list[str]:
    """Names under which the tests import the program."""
    files = problem.judge.get("solution_files") or ()
    named = [str(name).rpartition("/")[2].removesuffix(".py") for name in files]
    written = re.findall(r"^\s*(?:from|import)\s+(solution|main|answer|candidate)\b", problem.test_code, re.M)
    head = re.escape(re.split(r"[.(]", problem.entry)[0])
    holding = re.findall(rf"^\s*from\s+([\w.]+)\s+import\s[^\n]*\b{head}\b", problem.test_code, re.M) if head else []
    return sorted({*named, *written, *holding} - {"solution", *sys.stdlib_module_names})


def reference(
    problem: Problem, code: str, expected: list[Any], calls: list[tuple[list[Any], dict[str, Any]]],
    sandbox: Sandbox, limits: Limits,
) -> Attempt:  # fmt: skip
    """Calls whose right values are what the reference returned for them."""
    rules = problem.rules()
    outcomes = []
    for at, (value, _, outcome) in enumerate(call(sandbox, code, problem.entry, calls, limits)):
        if outcome.passed and not _right(expected[at], value, None, rules, False):
            outcome = replace(outcome, status="wrong_answer")
        shown = (_show(calls[at][0]), _show(expected[at]), _show(value))
        outcomes.append(replace(outcome, name=f"input {at + 1}", input=shown[0], expected=shown[1], got=shown[2]))
    return Attempt(tuple(outcomes), len(calls))
