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
import sys
import traceback
import types
import unittest
from collections.abc import Callable, Iterator
from typing import Any, Final

from . import confine, modes, pytest_shim
from .judge import called, has_tests

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
_TOOLS: Final = (unittest.TestCase, operator, json, os, sys.modules[pytest_shim.__name__], pytest_shim.approx)
_LIBRARY: Final = ("collections", "typing", "enum", "dataclasses", "functools", "unittest.mock", "unittest.case")
Check = tuple[str, Callable[[], object]]


def run(payload: dict[str, Any]) -> None:
    """Load the program, run the tests beside it, report every outcome with the nonce."""
    sys.modules["pytest"] = pytest_shim.module()
    unittest.TestCase._baseAssertEqual = _honest_equal  # type: ignore[attr-defined]
    nonce, stop_early = payload.pop("nonce"), payload.pop("stop_early")
    report, intact = _reporter(nonce), _tamper_check()
    del nonce
    sys.addaudithook(_guard(os._exit))
    run_check, leave = _runner(report, intact), os._exit
    try:
        checks = list(_checks(payload["test_code"], payload["entry"], _load(payload)))
    except BaseException as error:
        report(name="setup", ok=False, error=f"{type(error).__name__}: {error}"[:400])
        leave(0)
    for name, body in checks:
        if not run_check(name, body) and stop_early:
            leave(0)
    report(done=len(checks))
    leave(0)


def _load(payload: dict[str, Any]) -> dict[str, Any]:
    """The tests' own names: a copy of the program's, so that the program cannot reach what the tests define."""
    module = modes.new_module(payload["name"])
    for name in payload.get("aliases", ()):
        sys.modules[name] = module
    modes.add_modules(payload.get("modules", {}))
    exec(compile(payload["code"], f"{payload['name']}.py", "exec"), module.__dict__)
    return {**module.__dict__, "__name__": "test_solution", "__same__": _same}


def _checks(source: str, entry: str, names: dict[str, Any]) -> Iterator[Check]:
    """Test methods and functions one by one; source with neither is one check as a whole."""
    tree = _Asserts().visit(ast.parse(source))
    code = compile(tree, "test.py", "exec")
    titles = [n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    if not any(title.startswith("test") for title in titles) and not any(map(has_tests, tree.body)):
        yield "the whole test source", lambda: _asserts(source, code, entry, names)
        return
    exec(code, names)
    for title in titles:
        value = names[title]
        if isinstance(value, type) and issubclass(value, unittest.TestCase):
            for case in unittest.defaultTestLoader.loadTestsFromTestCase(value):
                yield ".".join(str(case.id()).split(".")[-2:]), case.debug  # type: ignore[union-attr]
        elif isinstance(value, types.FunctionType) and title.startswith("test"):
            yield from pytest_shim.cases(names, title)


def _asserts(source: str, code: types.CodeType, entry: str, names: dict[str, Any]) -> None:
    exec(code, names)
    if entry and "check" in names and "check" not in called(ast.parse(source)):
        names["check"](eval(entry, names))


def _reporter(nonce: str) -> Callable[..., None]:
    dumps, write, fd = json.JSONEncoder().encode, os.write, confine.RESULT

    def report(**outcome: Any) -> None:
        outcome["nonce"] = nonce
        write(fd, (dumps(outcome) + "\n").encode())

    return report


def _runner(report: Callable[..., None], intact: Callable[[], bool]) -> Callable[[str, Callable[[], object]], bool]:
    base = BaseException

    def run_check(name: str, body: Callable[[], object]) -> bool:
        error = "" if intact() else "the program patched the tools of the test"
        if not error:
            try:
                body()
            except base as raised:
                error = f"{type(raised).__name__}: {raised}"[:400] if isinstance(raised, Exception) else "stopped"
            else:
                error = "" if intact() else "the program patched the tools of the test"
        report(name=name, ok=not error, error=error)
        return not error

    return run_check


def _tamper_check() -> Callable[[], bool]:
    """A function that says whether builtins and the tools of the tests are still what they are now."""
    watched = [(vars(tool), dict(vars(tool))) for tool in (builtins, sys.modules["unittest"], *_TOOLS)]
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
    for value, other in ((first, second), (second, first)):
        if type(other) in _PLAIN and _judges_itself(type(value)):
            return False
    return bool(first == second)


def _judges_itself(kind: type) -> bool:
    definer = next(base for base in _MRO(kind) if "__eq__" in vars(base))
    return definer not in _PLAIN and definer is not object and definer.__flags__ & _HEAP_TYPE != 0


class _Asserts(ast.NodeTransformer):
    """`assert a == b` becomes `assert __same__(a, b)`."""

    def visit_Assert(self, node: ast.Assert) -> ast.Assert:
        """Only single comparisons for equality."""
        test = node.test
        if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq):
            sides = [test.left, test.comparators[0]]
            node.test = ast.copy_location(ast.Call(ast.Name("__same__", ast.Load()), sides, []), test)
        return ast.fix_missing_locations(node)


def _guard(leave: Callable[[int], None]) -> Callable[[str, tuple[Any, ...]], None]:
    forbidden, frame_of, busy = _FORBIDDEN, sys._getframe, [False]
    attributes = {"object.__getattr__": _FRAMES, "object.__setattr__": _REWIRING, "object.__delattr__": _REWIRING}
    allowed, say = _trusted_code(), os.write

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


def _trusted_code() -> frozenset[types.CodeType]:
    """Code of the library that looks at frames for a good reason and does not hand them out."""
    found = {traceback.clear_frames.__code__}  # assertRaises clears the frames of what it caught
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
