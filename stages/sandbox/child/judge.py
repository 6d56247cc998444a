"""The process that runs a problem's tests. The program under test is elsewhere, behind `remote.Line`."""

from __future__ import annotations

import ast
import builtins
import importlib.abc
import importlib.machinery
import json
import os
import sys
import types
import unittest
from collections.abc import Callable, Sequence
from typing import Any, Final

from . import confine, modes, pytest_shim
from .cases import Case, collect, guarded, has_tests
from .codec import Refused
from .instrument import instrument
from .peer import Gone
from .remote import Line, RemoteModule

_SHOWN: Final = 400
_SKIPPED: Final = (pytest_shim.Skipped, unittest.SkipTest)
# Names that tests use without importing them: always the real ones, where the program has them at all.
_COMMON: Final = {
    "math": ("isclose", "fabs", "fsum", "isnan", "isinf", "pi", "inf", "nan"),
    "collections": ("Counter", "deque", "defaultdict", "OrderedDict", "namedtuple"),
    "itertools": ("permutations", "combinations", "product", "chain", "zip_longest"),
    "functools": ("reduce", "partial", "cmp_to_key"),
    "copy": ("deepcopy",),
    "typing": ("List", "Dict", "Set", "Tuple", "Optional", "Any", "Union", "Callable", "Iterable"),
}


class Stop(BaseException):
    """Enough is known."""


class Record:
    """Writes the outcome of each check as one line of JSON, as it comes."""

    def __init__(self, stop_early: bool) -> None:
        self.stop_early = stop_early
        self.count = 0
        self.asked: Callable[[], int] = int  # how often the program was asked anything so far

    def write(self, **outcome: Any) -> None:
        """One line; after a failure, the end where only a verdict is wanted."""
        data = memoryview(json.dumps(outcome).encode() + b"\n")
        while data:
            data = data[os.write(confine.RESULT, data) :]
        if outcome.get("ok") is False and (self.stop_early or outcome.get("gone")):
            raise Stop

    def check(self, case: Case) -> None:
        """Run one case and write what came of it.

        A test may skip itself only before it asks the program anything: after that, the program would have a say.
        """
        if case.how == "skip":
            return
        before = self.asked()
        try:
            case.body()
        except Stop:
            raise
        except BaseException as error:
            if not isinstance(error, _SKIPPED) or self.asked() != before:
                self.failed(case.title, error)
        else:
            if case.how == "run":
                self.passed(case.title)

    def passed(self, name: str) -> None:
        """A check that held."""
        self.count += 1
        self.write(name=name, ok=True)

    def failed(self, name: str, error: BaseException, **values: str) -> None:
        """A check that did not hold, with what was expected and what came where that is known."""
        self.count += 1
        text = "" if isinstance(error, AssertionError) and not error.args else describe(error)
        self.write(name=name, ok=False, error=text, gone=isinstance(error, Gone), unfit=_unfit(error), **values)


def _unfit(error: BaseException) -> bool:
    """Whether the test, not the program, did something that cannot go over the line."""
    return isinstance(error, Refused)


def describe(error: BaseException) -> str:
    """`Class: message`, shortened."""
    try:
        return f"{type(error).__name__}: {error}"[:_SHOWN]
    except BaseException:
        return type(error).__name__


class Names(dict[str, Any]):
    """The test's global names: what it does not define itself it finds in the program under test.

    Standard modules and their well-known functions are always the real ones: a program that brings its own `math`
    or `isclose` does not get to judge itself.
    """

    def __init__(self, line: Line, own: frozenset[str]) -> None:
        super().__init__()
        self.line = line
        self.own = own  # what the problem asks for: these may hide a builtin

    def __missing__(self, name: str) -> Any:
        if name in self.own and name in self.line.names:
            return self.line.peer.ask("global", name)
        if hasattr(builtins, name) or name == "__annotations__":
            raise KeyError(name)
        if name in sys.stdlib_module_names:
            return __import__(name)
        for module, known in _COMMON.items():
            if name in known and name in self.line.names:
                return getattr(sys.modules[module], name)
        if name not in self.line.names:
            raise KeyError(name)
        return self.line.peer.ask("global", name)


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports of the module under test, whatever it is called, give its stand-in."""

    def __init__(self, line: Line) -> None:
        self.line = line

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """A stand-in for any module that nothing else provides."""
        if name.partition(".")[0] in sys.stdlib_module_names:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        """The stand-in."""
        return RemoteModule(spec.name, self.line)

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing to run here: the program runs elsewhere."""


def run(payload: dict[str, Any]) -> None:
    """Run the tests in `payload`: preamble, test source, entry point; outcomes go to the result descriptor."""
    record = Record(payload["stop_early"])
    try:
        _run(payload, record)
        record.write(done=record.count)
    except Stop:
        return
    except BaseException as error:
        _last_words(record, error)


def _last_words(record: Record, error: BaseException) -> None:
    try:
        record.failed("setup", error)
    except Stop:
        return
    record.write(done=record.count)


def _run(payload: dict[str, Any], record: Record) -> None:
    line = Line()
    line.connect()
    record.asked = lambda: line.peer.asked
    names = Names(line, frozenset(payload["own"]))
    names.update(__name__="test_solution", __builtins__=builtins)
    module = types.ModuleType("test_solution")
    sys.modules["test_solution"] = module
    sys.modules["pytest"] = pytest_shim.module()
    modes.add_modules(payload["modules"])
    sys.meta_path.append(Finder(line))
    if payload["preamble"]:
        _preamble(payload["preamble"], names, line)
    run_source(payload["test_code"], names, payload["entry"], record)


def _preamble(source: str, names: Names, line: Line) -> None:
    """Run the problem's own definitions here as well; their classes travel by value."""
    exec(modes.compiled(source, "preamble.py"), names)
    own = [name for name, kind in names.items() if isinstance(kind, type) and kind.__module__ == "test_solution"]
    if own:
        agreed = line.peer.ask("share", own)
        line.codec.shared = {name: names[name] for name in own if name in agreed}


def run_source(source: str, names: dict[str, Any], entry: str, record: Record) -> None:
    """Run test source: test methods and functions one by one where there are any, asserts otherwise."""
    tree = ast.parse(source)
    if not has_tests(tree):
        _run_asserts(tree, names, entry, record)
        return
    exec(modes.compiled(tree, "test.py"), names)
    for case in collect(tree, names, _run_case):
        record.check(case)


def _run_case(case: Any) -> None:
    result = unittest.TestResult()
    case.run(result)
    problems = [text for _, text in (*result.errors, *result.failures)]
    if problems:
        raise AssertionError(_reason(problems[0].strip().splitlines()))
    for test, reason in result.skipped:
        if test is case:
            raise unittest.SkipTest(reason)


def _reason(lines: list[str]) -> str:
    starts = [at for at, line in enumerate(lines) if line[:1].strip() and not line.startswith("Traceback")]
    return "\n".join(lines[starts[0] :] if starts else lines)[:_SHOWN]


def _run_asserts(tree: ast.Module, names: dict[str, Any], entry: str, record: Record) -> None:
    """Run every assert as a check of its own; call `check(candidate)` where the source leaves that to its reader."""
    names["__passed__"] = record.passed
    names["__failed__"] = _failure(record)
    functions, calls = functions_of(tree), called(tree)
    plain, guard = guarded(instrument(tree))
    exec(modes.compiled(plain, "test.py"), names)
    if "check" in functions and "check" not in calls:
        names["check"](eval(entry, names))
    elif "test" in functions and "test" not in calls:
        names["test"]()
    if not record.count:
        _run_guarded(guard, names)


def _run_guarded(guard: ast.Module, names: dict[str, Any]) -> None:
    """Run what stands under `if __name__ == "__main__"`, as a source that checks nothing else wants it."""
    try:
        exec(modes.compiled(guard, "test.py"), names)
    except SystemExit as stop:
        if stop.code:
            raise


def functions_of(tree: ast.Module) -> set[str]:
    """Names of the functions that a module defines."""
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def called(tree: ast.Module) -> set[str]:
    """Functions that the module calls by itself."""
    nodes = [inner for node in tree.body if isinstance(node, ast.Expr | ast.If) for inner in ast.walk(node)]
    return {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}


def _failure(record: Record) -> Callable[..., None]:
    def failed(name: str, error: BaseException, *sides: Any) -> None:
        if isinstance(error, Stop):
            raise error
        values = dict(zip(("got", "expected"), map(_show, sides), strict=False))
        record.failed(name, error, **values)

    return failed


def _show(value: object) -> str:
    try:
        return repr(value)[:_SHOWN]
    except BaseException:
        return f"<{type(value).__name__}>"
