"""MBPP+ and its kin: many inputs, and the right values are whatever the reference returns for them."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from stages.sandbox import Limits, Sandbox

from .problem import Problem, Program
from .runners import call, reference
from .verdict import Attempt, Outcome

Call = tuple[list[Any], dict[str, Any]]
_TYPES: Final[dict[str, Callable[[Any], Any]]] = {"tuple": tuple, "set": set, "frozenset": frozenset}


def run(problem: Problem, program: Program, sandbox: Sandbox, limits: Limits) -> Attempt:
    """A program against the reference. The reference itself passes when it returns for every input."""
    if not problem.references:
        return _broken(Outcome("the reference", "runtime_error", detail="there is none"), 1)
    first = problem.references[0]
    calls: list[Call] = [(arguments, {}) for arguments in inputs(problem, first.code)]
    expected: list[Any] = []
    outcomes: list[Outcome] = []
    for value, _, outcome in call(sandbox, first.code, problem.entry, calls, limits):
        if not outcome.passed:
            return _broken(outcome, len(calls))
        expected.append(value)
        outcomes.append(Outcome(f"input {len(expected)}", "passed", cpu_ms=outcome.cpu_ms))
    if program.code == first.code:
        return Attempt(tuple(outcomes), len(calls))
    return reference(problem, program.code, expected, calls, sandbox, limits)


def _broken(outcome: Outcome, total: int) -> Attempt:
    detail = f"the reference does not answer: {outcome.detail}"
    return Attempt((Outcome("the reference", outcome.status, detail=detail, cpu_ms=outcome.cpu_ms),), total)


def inputs(problem: Problem, code: str) -> list[list[Any]]:
    """The inputs as the reference wants them: JSON has only lists, the contract says what is a tuple or a set."""
    wanted = contract(str(problem.judge.get("contract") or ""))
    names = _parameters(code, problem.entry)
    raws = [list(raw) if isinstance(raw, list) else [raw] for raw in problem.judge["inputs"]]
    return [[_converted(value, wanted.get(name, ("", ""))) for value, name in _named(raw, names)] for raw in raws]


def _named(values: list[Any], names: list[str]) -> Iterator[tuple[Any, str]]:
    for at, value in enumerate(values):
        yield value, names[at] if at < len(names) else ""


def _converted(value: Any, kinds: tuple[str, str]) -> Any:
    outer, inner = kinds
    if not isinstance(value, list):
        return value
    items = [_TYPES[inner](item) if inner in _TYPES and isinstance(item, list) else item for item in value]
    return _TYPES[outer](items) if outer in _TYPES else items


def contract(source: str) -> Mapping[str, tuple[str, str]]:
    """Parameter to (its type, its elements' type), read from `assert isinstance(…)` lines; "" where nothing is said."""
    try:
        tree = ast.parse("if True:\n" + source if source.startswith((" ", "\n")) else source)
    except SyntaxError:
        return {}
    nodes = list(ast.walk(tree))
    loops = [node for node in nodes if isinstance(node, ast.GeneratorExp | ast.ListComp)]
    targets = {name.id for loop in loops for name in ast.walk(loop.generators[0].target) if isinstance(name, ast.Name)}
    inner = {name: kind for loop in loops for name, kind in _elements(loop).items()}
    outer = {name: kind for name, kind in filter(None, map(_instance, nodes)) if name not in targets}
    return {name: (outer.get(name, ""), inner.get(name, "")) for name in {*outer, *inner}}


def _elements(node: ast.GeneratorExp | ast.ListComp) -> dict[str, str]:
    loop = node.generators[0]
    if not isinstance(loop.iter, ast.Name) or not isinstance(loop.target, ast.Name):
        return {}
    target = loop.target.id
    found = [_instance(inner) for inner in ast.walk(node.elt)]
    kinds = [kind for name, kind in filter(None, found) if name == target]
    return {loop.iter.id: kinds[0]} if kinds else {}


def _instance(node: ast.AST) -> tuple[str, str] | None:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
        value, kind = node.args
        if isinstance(value, ast.Name) and isinstance(kind, ast.Name):
            return value.id, kind.id
    return None


def _parameters(code: str, entry: str) -> list[str]:
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == entry:
            return [argument.arg for argument in node.args.args]
    return []
