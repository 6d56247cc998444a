"""What pytest and unittest would collect from a test source, as single cases that can be run one by one.

In whole mode the program may have patched the library before any of this runs. So names are bound at import, the
parameters of a test are read from its code, and nothing but the test itself is ever called with the test's own values.
"""

from __future__ import annotations

import ast
import unittest
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import product
from typing import Any, Final, Literal, NamedTuple

from .fixtures import Finalizers
from .pytest_shim import Mark, Param, marks_of, own_marks
from .running import FUNCTION, METHOD, Axis, Plan, call, is_fixture, members, parameters, run, undo, wanted_by
from .waiting import settle

_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)
_MAIN: Final = ("__name__ == '__main__'", "'__main__' == __name__")
_Named = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Case(NamedTuple):
    """One case. `skip`: not to be run; `after`: no check, what follows the checks and must not fail."""

    title: str
    body: Callable[[], object]
    how: Literal["run", "skip", "after"] = "run"


def has_tests(tree: ast.Module) -> bool:
    """Whether a source has test functions or classes with test methods; it is run assert by assert otherwise."""
    return any(_is_test(node) for node in tree.body)


def _is_test(node: ast.stmt) -> bool:
    if isinstance(node, _FUNCTIONS):
        return node.name.startswith("test") and len(node.name) > 4
    if not isinstance(node, ast.ClassDef):
        return False
    methods = [inner.name for inner in node.body if isinstance(inner, _FUNCTIONS)]
    plain = not node.bases and "__init__" in methods  # made with arguments: no class that a framework would collect
    return not plain and any(name.startswith("test") for name in methods)


def guarded(tree: ast.Module) -> tuple[ast.Module, ast.Module]:
    """A source without what it only does as the main program, and that."""
    plain: list[ast.stmt] = []
    guard: list[ast.stmt] = []
    for node in tree.body:
        main = isinstance(node, ast.If) and ast.unparse(node.test).strip("()") in _MAIN
        plain += node.orelse if main and isinstance(node, ast.If) else [node]
        guard += node.body if main and isinstance(node, ast.If) else []
    return ast.Module(plain, []), ast.Module(guard, [])


def collect(tree: ast.Module, names: Mapping[str, Any], run_case: Callable[[Any], None]) -> Iterator[Case]:
    """Every case of a source that has been run into `names`. `run_case` runs one unittest case and raises if it fails.

    Only what the source itself defines counts: the program may have names like `pytestmark` too.
    """
    own = {name: names[name] for name in _defined(tree) if name in names}
    suite = _Suite(own, run_case)
    for name in dict.fromkeys(node.name for node in tree.body if isinstance(node, _Named)):
        value = own.get(name)
        if isinstance(value, type):
            yield from suite.of_class(value)
        elif name.startswith("test") and type(value) is FUNCTION and not is_fixture(value):
            yield from suite.cases(name, None, suite.begin)
        elif name.startswith("test") and type(value) is not FUNCTION and callable(value):
            yield Case(name, value)
    yield Case("teardown_module", suite.end, "after")


def _defined(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, _Named):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


class _Once:
    """Steps that are taken once; whoever comes later meets the same error."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        self.steps = steps
        self.begun = False
        self.error: BaseException | None = None

    def __call__(self) -> None:
        if not self.begun:
            self.begun = True
            try:
                for step in self.steps:
                    settle(step())
            except BaseException as error:
                self.error = error
        if self.error is not None:
            raise self.error


class _Suite:
    """One source: what it defines, and what its cases share."""

    def __init__(self, own: Mapping[str, Any], run_case: Callable[[Any], None]) -> None:
        self.own = own
        self.run_case = run_case
        self.shared: dict[Any, Any] = {}
        self.closing: Finalizers = []
        self.fixtures = _fixtures(own)
        steps = [own.get("setUpModule"), own.get("setup_module")]
        self.begin = _Once(*(partial(call, step, None) for step in steps if callable(step)))

    def end(self) -> None:
        """What follows the last case."""
        if self.begin.begun and self.begin.error is None:
            undo(self.closing)
            for name in ("tearDownModule", "teardown_module"):
                if callable(self.own.get(name)):
                    settle(call(self.own[name], None))

    def of_class(self, kind: type) -> Iterator[Case]:
        """The cases of a class, where it is one of tests."""
        if issubclass(kind, unittest.TestCase):
            yield from self._of_testcase(kind)
        elif kind.__init__ is object.__init__ and not self._is_base(kind):
            yield from self._of_plain(kind)

    def _is_base(self, kind: type) -> bool:
        """Whether other classes of tests inherit from a class that pytest would not collect itself."""
        classes = [each for each in self.own.values() if isinstance(each, type) and each is not kind]
        return not kind.__name__.startswith("Test") and any(issubclass(each, kind) for each in classes)

    def _of_testcase(self, kind: type[unittest.TestCase]) -> Iterator[Case]:
        begin = _Once(self.begin, kind.setUpClass)
        cases: Any = unittest.defaultTestLoader.loadTestsFromTestCase(kind)
        for case in cases:
            title = ".".join(str(case.id()).split(".")[-2:])
            skipped = _skips(kind) or _skips(getattr(kind, case._testMethodName))
            yield Case(title, partial(self._run_testcase, begin, case), "skip" if skipped else "run")
        yield Case(f"{kind.__name__}.tearDownClass", partial(_end_testcase, begin, kind), "after")

    def _run_testcase(self, begin: _Once, case: Any) -> None:
        begin()
        self.run_case(case)

    def _of_plain(self, kind: type) -> Iterator[Case]:
        begin = _Once(self.begin, *_class_step(kind, "setup_class"))
        inherited = [name for base in reversed(kind.__mro__) for name in vars(base)]
        for name in dict.fromkeys(name for name in inherited if name.startswith("test")):
            if type(getattr(kind, name)) in (FUNCTION, METHOD) and not is_fixture(getattr(kind, name)):
                yield from self.cases(name, kind, begin)
        yield Case(f"{kind.__name__}.teardown_class", partial(_end_class, begin, kind), "after")

    def cases(self, name: str, kind: type | None, begin: _Once) -> Iterator[Case]:
        """Every case of a test function or method: one per combination of its parameters."""
        function = self.own[name] if kind is None else getattr(kind, name)
        inherited = {} if kind is None else members(kind)
        marks = [*own_marks(function), *own_marks(kind)]
        marks += [mark for names in (inherited, self.own) for mark in marks_of(names.get("pytestmark"))]
        fixtures = {**self.fixtures, **_fixtures(inherited)}
        used = [name for mark in marks if mark.name == "usefixtures" for name in mark.args]
        used += [name for name, each in fixtures.items() if each._fixture.get("autouse")]
        plan = Plan(name, kind, self.own, fixtures, tuple(used), self.shared, self.closing)
        title = name if kind is None else f"{kind.__name__}.{name}"
        skipped = any(mark.skips for mark in marks)
        bound = kind is not None and not isinstance(inherited[name], staticmethod)
        for label, axes in _combinations(marks, fixtures, [*used, *wanted_by(function, bound)]):
            skip = skipped or any(axis.skipped for axis in axes)
            yield Case(title + label, partial(run, begin, plan, axes), "skip" if skip else "run")


def _fixtures(names: Mapping[str, Any]) -> dict[str, Any]:
    """Fixtures by the name that tests know them under."""
    marked = {name: value for name, value in names.items() if is_fixture(value)}
    return {value._fixture.get("name") or name: value for name, value in marked.items()}


def _skips(marked: Any) -> bool:
    """Whether unittest or a mark says of a class or a function that it is not to be run, or need not pass."""
    known = vars(marked) if isinstance(marked, type) or type(marked) is FUNCTION else {}
    flagged = known.get("__unittest_skip__") or known.get("__unittest_expecting_failure__")
    return bool(flagged) or any(mark.skips for mark in own_marks(marked))


def _end_testcase(begin: _Once, kind: Any) -> None:
    if not begin.begun:
        return
    try:
        if begin.error is None:
            kind.tearDownClass()
    finally:
        kind.doClassCleanups()
    for _, error, _ in kind.tearDown_exceptions:
        raise error


def _class_step(kind: type, name: str) -> list[Callable[[], object]]:
    step = getattr(kind, name, None)
    return [partial(call, step, kind)] if callable(step) else []


def _end_class(begin: _Once, kind: type) -> None:
    if begin.begun and begin.error is None:
        for step in _class_step(kind, "teardown_class"):
            settle(step())


def _combinations(
    marks: list[Mark], fixtures: Mapping[str, Any], wanted: list[str]
) -> Iterator[tuple[str, tuple[Axis, ...]]]:
    axes = [_axis(*mark.args[:2], **mark.kwargs) for mark in marks if mark.name == "parametrize"]
    given = {name for axis in axes for each in axis[:1] for name in (*each.values, *each.given)}
    for name in _needed(fixtures, wanted):
        if name not in given and fixtures[name]._fixture.get("params") is not None:
            axes.append(_axis(name, fixtures[name]._fixture["params"], indirect=True))
    for picks in product(*(list(enumerate(axis)) for axis in axes)):
        yield "".join(f"[{at}]" for at, _ in picks), tuple(axis for _, axis in picks)


def _needed(fixtures: Mapping[str, Any], wanted: list[str]) -> list[str]:
    """The fixtures that are asked for, directly or by other fixtures, in order."""
    found: dict[str, None] = {}
    todo = list(reversed(wanted))
    while todo:
        name = todo.pop()
        if name in fixtures and name not in found:
            found[name] = None
            todo += reversed(parameters(fixtures[name]))
    return list(found)


def _axis(argnames: Any, argvalues: Any, indirect: Any = False, **options: Any) -> list[Axis]:
    """The values of one `parametrize`: a single name written as text takes each value as it is."""
    listed = not isinstance(argnames, str)
    keys = list(argnames) if listed else [name.strip() for name in argnames.split(",") if name.strip()]
    through = keys if indirect is True else list(indirect or ())
    axes = []
    for each in argvalues:
        marks = marks_of(each.marks) if type(each) is Param else []
        values = each.values if type(each) is Param else (each,) if len(keys) == 1 and not listed else each
        pairs = dict(zip(keys, values, strict=True))
        direct = {name: value for name, value in pairs.items() if name not in through}
        given = {name: value for name, value in pairs.items() if name in through}
        axes.append(Axis(direct, given, any(mark.skips for mark in marks)))
    return axes
