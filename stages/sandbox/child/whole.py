"""Tests that cannot be kept apart from the program (they patch it, or look inside): both in one process.

The verdict says so, because here the program shares a process with the expected values. What keeps it honest: the
nonce of every report lives in a closure that nothing of the program's can reach, an audit hook ends the process on
every way to other frames, to the garbage collector or to raw memory, and checks made with patched tools do not count.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import json
import operator
import os
import re
import sys
import traceback
import types
import unittest
from collections.abc import Callable, Iterator
from typing import Any, Final

from . import cases, confine, fixtures, modes, pytest_shim, running, waiting
from .cases import Case
from .judge import called, functions_of

_FORBIDDEN: Final = frozenset(
    [
        "sys._getframe",
        "sys._current_frames",
        "sys._current_exceptions",
        "sys.settrace",
        "sys.setprofile",
        "gc.get_objects",
        "gc.get_referrers",
        "gc.get_referents",
        "sys.addaudithook",
        "cpython.PyInterpreterState_New",
        "code.__new__",
        "sys.monitoring.register_callback",
    ]
)
_FRAMES: Final = frozenset({"tb_frame", "gi_frame", "cr_frame", "ag_frame"})
_REWIRING: Final = frozenset({"__code__", "__defaults__", "__kwdefaults__"})
_PLAIN: Final = (int, str, float, bool, list, dict, set, tuple, frozenset, bytes, type(None))
_MRO: Final = type.__dict__["__mro__"].__get__
_HEAP_TYPE: Final = 1 << 9  # a class made by Python code, not by the interpreter
_TOOLS: Final = (
    unittest, unittest.TestCase, unittest.TestLoader, operator, json, os, pytest_shim, pytest_shim.approx,
    pytest_shim.Mark, pytest_shim.Marks, pytest_shim.Param, cases, running, running.Running, fixtures, waiting,
)  # fmt: skip
_PATCHED: Final = "the program patched the tools of the test"
_ASYNC: Final = re.compile(r"\b(?:async|await|asyncio|IsolatedAsyncioTestCase)\b")
_LIBRARY: Final = ("collections", "typing", "enum", "dataclasses", "functools", "unittest.mock", "unittest.case")


def run(payload: dict[str, Any]) -> None:
    """Load the program, run the tests beside it, report every outcome with the nonce."""
    shim = sys.modules["pytest"] = sys.modules["pytest_asyncio"] = pytest_shim.module()
    unittest.TestCase._baseAssertEqual = _honest_equal  # type: ignore[attr-defined]
    nonce, stop_early = payload.pop("nonce"), payload.pop("stop_early")
    awaits = waiting.use_asyncio() if _ASYNC.search(payload["test_code"]) else ()
    report, intact = _reporter(nonce), _tamper_check((shim, *awaits))
    del nonce
    sys.addaudithook(_guard(os._exit, _trusted_code(bool(awaits))))
    run_check, leave = _runner(report, intact), os._exit
    try:
        names = _load(payload)
        if not intact():
            raise RuntimeError(_PATCHED)
        checks = list(_checks(payload["test_code"], payload["entry"], names))
    except BaseException as error:
        report(name="setup", ok=False, error=f"{type(error).__name__}: {error}"[:400])
        leave(0)
    for case in checks:
        if case.how != "skip" and not run_check(case) and stop_early:
            leave(0)
    report(done=len(checks))
    leave(0)


def _load(payload: dict[str, Any]) -> dict[str, Any]:
    """The tests' own names: a copy of the program's, so that the program cannot reach what the tests define."""
    module = modes.new_module(payload["name"])
    for name in payload.get("aliases", ()):
        sys.modules[name] = module
    modes.add_modules(payload.get("modules", {}))
    exec(modes.compiled(payload["code"], f"{payload['name']}.py"), module.__dict__)
    return {**module.__dict__, "__name__": "test_solution", "__same__": _same, "__seen__": _Seen()}


def _checks(source: str, entry: str, names: dict[str, Any]) -> Iterator[Case]:
    """Test methods and functions one by one; source with neither is one check as a whole."""
    tree = ast.parse(source)
    if cases.has_tests(tree):
        _execute(_Asserts().visit(tree), names)
        yield from cases.collect(tree, names, waiting.debug)
    else:
        yield Case("the whole test source", lambda: _asserts(tree, entry, names))


def _execute(tree: ast.Module, names: dict[str, Any]) -> None:
    code = modes.compiled(tree, "test.py", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    waiting.settle(eval(code, names))


def _asserts(tree: ast.Module, entry: str, names: dict[str, Any]) -> None:
    """Run a source that only asserts. Where it has asserts, at least one must be come to."""
    functions, calls = functions_of(tree), called(tree)
    asserts = any(isinstance(node, ast.Assert) for node in ast.walk(tree))
    seen = names["__seen__"] = _Seen()
    plain, guard = cases.guarded(_Asserts().visit(tree))
    _execute(plain, names)
    if "check" in functions and "check" not in calls and entry:
        waiting.settle(names["check"](eval(entry, names)))
    elif "test" in functions and "test" not in calls:
        waiting.settle(names["test"]())
    if not seen.count:
        _execute(guard, names)
    if asserts and not seen.count:
        raise AssertionError("no assert of the tests was run")


class _Seen:
    """Counts the asserts that are come to."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, value: Any) -> Any:
        self.count += 1
        return value


def _reporter(nonce: str) -> Callable[..., None]:
    dumps, write, fd = json.JSONEncoder().encode, os.write, confine.RESULT

    def report(**outcome: Any) -> None:
        outcome["nonce"] = nonce
        write(fd, (dumps(outcome) + "\n").encode())

    return report


def _runner(report: Callable[..., None], intact: Callable[[], bool]) -> Callable[[Case], bool]:
    base, patched = BaseException, _PATCHED

    def run_check(case: Case) -> bool:
        error = "" if intact() else patched
        if not error:
            try:
                case.body()
            except base as raised:
                error = f"{type(raised).__name__}: {raised}"[:400] if isinstance(raised, Exception) else "stopped"
            else:
                error = "" if intact() else patched
        if error or case.how == "run":
            report(name=case.title, ok=not error, error=error)
        return not error

    return run_check


def _tamper_check(more: tuple[object, ...]) -> Callable[[], bool]:
    """A function that says whether builtins and the tools of the tests are still what they are now."""
    watched = [(vars(tool), dict(vars(tool))) for tool in (builtins, *_TOOLS, *more)]
    watched.append((globals(), dict(globals())))
    every, ignored = all, {"_", "__warningregistry__", "_type_equality_funcs", "environ"}

    def intact() -> bool:
        return every(
            name in ignored or now.get(name) is value for now, before in watched for name, value in before.items()
        )

    return intact


def _honest_equal(self: unittest.TestCase, first: Any, second: Any, msg: Any = None) -> None:
    """`assertEqual` that does not take the word of an object of the program's for equality with a plain value."""
    if not _same(first, second):
        raise self.failureException(self._formatMessage(msg, f"{first!r} != {second!r}"))


def _same(first: Any, second: Any) -> bool:
    """`==`, except that a class with an `__eq__` of its own never equals a plain value."""
    if type(second) is pytest_shim.approx or type(first) is pytest_shim.approx:
        return _made_by_python(first if type(second) is pytest_shim.approx else second) and bool(first == second)
    for value, other in ((first, second), (second, first)):
        if type(other) in _PLAIN and _judges_itself(type(value)):
            return False
    return bool(first == second)


def _made_by_python(value: Any) -> bool:
    """Whether no class of the program's is in a value: `approx` calculates with what it is given."""
    if type(value) in (list, tuple):
        return all(map(_made_by_python, value))
    if type(value) is dict:
        return all(map(_made_by_python, value.values()))
    return not type(value).__flags__ & _HEAP_TYPE


def _judges_itself(kind: type) -> bool:
    definer = next(base for base in _MRO(kind) if "__eq__" in vars(base))
    return definer not in _PLAIN and definer is not object and definer.__flags__ & _HEAP_TYPE != 0


class _Asserts(ast.NodeTransformer):
    """`assert a == b` becomes `assert __seen__(__same__(a, b))`."""

    def visit_Assert(self, node: ast.Assert) -> ast.Assert:
        """Every assert is counted; only single comparisons for equality are made by us."""
        test = node.test
        if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq):
            sides = [test.left, test.comparators[0]]
            test = ast.Call(ast.Name("__same__", ast.Load()), sides, [])
        node.test = ast.copy_location(ast.Call(ast.Name("__seen__", ast.Load()), [test], []), node.test)
        return ast.fix_missing_locations(node)


def _guard(leave: Callable[[int], None], allowed: frozenset[types.CodeType]) -> Callable[[str, tuple[Any, ...]], None]:
    forbidden, frame_of, busy = _FORBIDDEN, sys._getframe, [False]
    attributes = {"object.__getattr__": _FRAMES, "object.__setattr__": _REWIRING, "object.__delattr__": _REWIRING}
    say = os.write

    def hook(event: str, args: tuple[Any, ...]) -> None:
        named = attributes.get(event, ())
        if busy[0] or not (event in forbidden or event[:7] == "ctypes." or (named and args[1] in named)):
            return
        busy[0] = True
        caller = frame_of(1).f_code
        busy[0] = False
        if caller not in allowed:
            say(2, f"forbidden here: {event} {args[1:2]}\n".encode())
            leave(99)

    return hook


def _trusted_code(awaits: bool) -> frozenset[types.CodeType]:
    """Code of the library that looks at frames for a good reason and does not hand them out."""
    found = {traceback.clear_frames.__code__}  # assertRaises clears the frames of what it caught
    if awaits:  # an event loop that sets a signal handler asks for the text of a task: a line number
        found.add(importlib.import_module("asyncio.coroutines")._format_coroutine.__code__)
    todo: list[Any] = []
    for name in _LIBRARY:
        module = importlib.import_module(name)
        todo += [value for value in vars(module).values() if getattr(value, "__module__", "") == name]
    while todo:
        value = todo.pop()
        value = getattr(value, "__func__", value)
        if isinstance(value, type):
            todo += [inner for inner in vars(value).values() if not isinstance(inner, type)]
        elif isinstance(value, types.FunctionType):
            todo.append(value.__code__)
        elif isinstance(value, types.CodeType) and value not in found:
            found.add(value)
            todo += list(value.co_consts)
    return frozenset(found)
