"""MBPP+ and its kin: many inputs, and the right values are whatever the reference returns for them."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from stages.sandbox import Limits, Sandbox

from .problem import Problem, Program
from .runners import call, reference
from .verdict import Attempt, Outcome

Call = tuple[list[Any], dict[str, Any]]
_NESTED: Final = "tuples all the way down"
_NUMBERS: Final[dict[str, Callable[[str], Any]]] = {"complex": complex, "float": float}


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


_TYPES: Final[dict[str, Callable[[Any], Any]]] = {
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    _NESTED: _tuples,
}


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
    """The inputs as the reference wants them: JSON has lists and reals alone, the contract says what is what."""
    wanted = contract(str(problem.judge.get("contract") or ""))
    names = _parameters(code, problem.entry)
    raws = [list(raw) if isinstance(raw, list) else [raw] for raw in problem.judge["inputs"]]
    return [[_converted(value, wanted.get(name, ("", ""))) for value, name in _named(raw, names)] for raw in raws]


def _named(values: list[Any], names: list[str]) -> Iterator[tuple[Any, str]]:
    for at, value in enumerate(values):
        yield value, names[at] if at < len(names) else ""


def _converted(value: Any, kinds: tuple[str, str]) -> Any:
    outer, inner = kinds
    if isinstance(value, str) and outer in _NUMBERS:
        return _number(value, _NUMBERS[outer])
    if not isinstance(value, list):
        return value
    items = [_TYPES[inner](item) if inner in _TYPES and isinstance(item, list) else item for item in value]
    return _TYPES[outer](items) if outer in _TYPES else items


def _number(text: str, kind: Callable[[str], Any]) -> Any:
    try:
        return kind(text)
    except ValueError:
        return text


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
    outer = _outer(nodes, targets)
    outer |= {name: _NESTED for name in _recursive(nodes) if outer.get(name) == "tuple"}
    return {name: (outer.get(name, ""), inner.get(name, "")) for name in {*outer, *inner}}


def _outer(nodes: list[ast.AST], targets: set[str]) -> dict[str, str]:
    kinds: dict[str, set[str]] = {}
    for name, kind in filter(None, map(_instance, nodes)):
        if name not in targets:
            kinds.setdefault(name, set()).update(kind.split())
    return {name: chosen for name, found in kinds.items() if (chosen := _chosen(found))}


def _chosen(kinds: set[str]) -> str:
    """Of several kinds the widest number, which may have been written as text; else what is clear."""
    if len(kinds) == 1:
        return next(iter(kinds))
    return "" if "str" in kinds else next((kind for kind in _NUMBERS if kind in kinds), "")


def _recursive(nodes: list[ast.AST]) -> set[str]:
    """What the contract hands to a check of its own that calls itself."""
    checks = {
        node.name
        for node in nodes
        if isinstance(node, ast.FunctionDef) and node.name in {call.func.id for call in _calls(ast.walk(node))}
    }
    return {
        arg.id for call in _calls(nodes) if call.func.id in checks for arg in call.args if isinstance(arg, ast.Name)
    }


def _calls(nodes: Iterable[ast.AST]) -> Iterator[Any]:
    return (node for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name))


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
        names = kind.elts if isinstance(kind, ast.Tuple) else [kind]
        if isinstance(value, ast.Name) and all(isinstance(name, ast.Name) for name in names):
            return value.id, " ".join(name.id for name in names if isinstance(name, ast.Name))
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
