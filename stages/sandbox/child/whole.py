"""Tests that cannot be kept apart from the program (they patch it, or look inside): both in one process.

The verdict says so, because here the program shares a process with the expected values. What keeps it honest: the
nonce of every report lives in a closure that nothing of the program's can reach, an audit hook ends the process on
every way to other frames, to the garbage collector or to raw memory, and checks made with patched tools do not count.
"""

from __future__ import annotations

import ast
import builtins
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
    """sys._getframe sys._current_frames sys._current_exceptions sys.settrace sys.setprofile gc.get_objects
    gc.get_referrers gc.get_referents sys.addaudithook cpython.PyInterpreterState_New code.__new__
    sys.monitoring.register_callback""".split()
)
_INSIDE: Final = frozenset({"tb_frame", "gi_frame", "cr_frame", "ag_frame", "gi_code", "cr_code", "__code__"})
_PLAIN: Final = (int, str, float, bool, list, dict, set, tuple, frozenset, bytes, type(None))
_TOOLS: Final = (unittest.TestCase, operator, json, os, sys.modules[pytest_shim.__name__], pytest_shim.approx)
Check = tuple[str, Callable[[], object]]


def run(payload: dict[str, Any]) -> None:
    """Load the program, run the tests beside it, report every outcome with the nonce."""
    modes.forget_ourselves()
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
        report(name="setup", ok=False, error=type(error).__name__)
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
    exec(compile(payload["code"], f"{payload['name']}.py", "exec"), module.__dict__)
    return {**module.__dict__, "__name__": "test_solution"}


def _checks(source: str, entry: str, names: dict[str, Any]) -> Iterator[Check]:
    """Test methods and functions one by one; source with neither is one check as a whole."""
    tree = ast.parse(source)
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
    watched = [(vars(tool), dict(vars(tool))) for tool in (builtins, *_TOOLS)]
    every, ignored = all, {"_", "__warningregistry__", "_type_equality_funcs", "environ"}

    def intact() -> bool:
        return every(
            name in ignored or now.get(name) is value for now, before in watched for name, value in before.items()
        )

    return intact


def _honest_equal(self: unittest.TestCase, first: Any, second: Any, msg: Any = None) -> None:
    """`assertEqual` that does not take the word of an object of the program's for equality with a plain value."""
    for value, other in ((first, second), (second, first)):
        if type(other) in _PLAIN and not isinstance(value, _PLAIN) and type(value).__module__ not in sys.stdlib_module_names:
            raise self.failureException(f"{type(value).__name__} is not a plain value")
    if not first == second:
        raise self.failureException(self._formatMessage(msg, f"{first!r} != {second!r}"))


def _guard(leave: Callable[[int], None]) -> Callable[[str, tuple[Any, ...]], None]:
    forbidden, inside, frame_of, busy = _FORBIDDEN, _INSIDE, sys._getframe, [False]
    allowed = (traceback.clear_frames.__code__,)  # assertRaises clears the frames of what it caught

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if busy[0] or not (event in forbidden or event[:7] in ("ctypes.", "object.")):
            return
        if event[:7] == "object.":
            if args[1] not in inside:
                return
            busy[0] = True
            caller = frame_of(1).f_code
            busy[0] = False
            if caller in allowed:
                return
        leave(99)

    return hook
