"""One case of a test function or method while it runs: setup, fixtures, arguments, and what is undone after it."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

from .fixtures import BUILT_IN, Finalizers
from .waiting import close, settle

_KEYWORDS, _GENERATOR, _ASYNC_GENERATOR = 0x08, 0x20, 0x200
FUNCTION: Final = types.FunctionType
METHOD: Final = types.MethodType


class Axis(NamedTuple):
    """One value of a parameter: arguments of the test, parameters of fixtures, whether it is to be skipped."""

    values: Mapping[str, Any]
    given: Mapping[str, Any]
    skipped: bool


class Plan(NamedTuple):
    """Everything that a case needs to run."""

    function: str
    kind: type | None
    own: Mapping[str, Any]
    fixtures: Mapping[str, Any]
    wanted: tuple[str, ...]
    shared: dict[Any, Any]
    closing: Finalizers


def run(begin: Callable[[], None], plan: Plan, axes: tuple[Axis, ...]) -> None:
    """Run one case and undo what it set up."""
    begin()
    running = Running(plan, axes)
    try:
        running.body()
    finally:
        running.finalizers.insert(0, close)
        undo(running.finalizers)


def undo(finalizers: Finalizers) -> None:
    """Run all of them, the last first; the first error is raised when all are done."""
    errors: list[BaseException] = []
    while finalizers:
        try:
            finalizers.pop()()
        except BaseException as error:
            errors.append(error)
    if errors:
        raise errors[0]


class Running:
    """One case while it runs; also what a fixture gets as `request`."""

    def __init__(self, plan: Plan, axes: tuple[Axis, ...]) -> None:
        self._plan = plan
        self._given = {name: value for axis in axes for name, value in axis.given.items()}
        self._values = {name: value for axis in axes for name, value in axis.values.items()}
        self.finalizers: Finalizers = []
        self.cls = plan.kind
        self.instance = plan.kind() if plan.kind is not None else None
        self.function = plan.own[plan.function] if self.instance is None else getattr(self.instance, plan.function)
        self.node = types.SimpleNamespace(name=plan.function)
        self.param: Any = None

    def body(self) -> None:
        """Set up, run the test, and leave what is to be undone in `finalizers`."""
        inner = _inner(self.function)
        takes = set(parameters(inner))
        every = getattr(getattr(inner, "__code__", None), "co_flags", _KEYWORDS) & _KEYWORDS
        arguments = {name: value for name, value in self._values.items() if every or name in takes}
        wanted = [name for name in wanted_by(self.function, type(self.function) is METHOD) if name not in arguments]
        self._set_up()
        for name in self._plan.wanted:
            self.getfixturevalue(name)
        settle(self.function(**arguments, **{name: self.getfixturevalue(name) for name in wanted}))

    def _set_up(self) -> None:
        holder, kind = (_attributes(self.instance), "method") if self.cls else (self._plan.own.get, "function")
        begin, end = (partial(call, holder(f"{step}_{kind}"), self.function) for step in ("setup", "teardown"))
        if callable(holder(f"setup_{kind}")):
            settle(begin())
        if callable(holder(f"teardown_{kind}")):
            self.addfinalizer(partial(_settled, end))

    def addfinalizer(self, step: Callable[[], object]) -> None:
        """Something to do after the test."""
        self.finalizers.append(step)

    def getfixturevalue(self, name: str) -> Any:
        """The value of a fixture, made once per test, or once for all where its scope is wider."""
        if name == "request":
            return self
        if name not in self._values:
            self._values[name] = self._provide(name)
        return self._values[name]

    def _provide(self, name: str) -> Any:
        source = self._plan.fixtures.get(name)
        if source is None:
            if name not in BUILT_IN:
                raise AssertionError(f"unknown fixture {name!r}")
            return BUILT_IN[name](self.finalizers)
        scope = source._fixture.get("scope", "function")
        if scope == "function":
            return self._made(name, source, self.finalizers)
        key = (name, id(self._given.get(name)), self.cls if scope == "class" else None)
        if key not in self._plan.shared:
            self._plan.shared[key] = self._made(name, source, self._plan.closing)
        return self._plan.shared[key]

    def _made(self, name: str, source: Any, finalizers: Finalizers) -> Any:
        method = self.cls is not None and members(self.cls).get(source.__name__) is source
        names = wanted_by(source, method)
        inner = {wanted: self.getfixturevalue(wanted) for wanted in names if wanted != "request"}
        if "request" in names:
            inner["request"] = self._for(name, finalizers)
        value = source(self.instance, **inner) if method else source(**inner)
        flags = source.__code__.co_flags
        if not flags & (_GENERATOR | _ASYNC_GENERATOR):
            return settle(value)
        finalizers.append(partial(_settled, _advance, value, flags))
        return settle(_advance(value, flags))

    def _for(self, name: str, finalizers: Finalizers) -> Running:
        """`request` as one fixture sees it."""
        seen: Running = object.__new__(Running)
        seen.__dict__.update(self.__dict__, param=self._given.get(name), finalizers=finalizers)
        return seen


def _attributes(instance: Any) -> Callable[[str], Any]:
    return lambda name: getattr(instance, name, None)


def _settled(function: Callable[..., object], *args: Any) -> None:
    settle(function(*args))


def _advance(value: Any, flags: int) -> Any:
    """The next value of a fixture that yields; None at its end."""
    return _anext(value) if flags & _ASYNC_GENERATOR else next(value, None)


async def _anext(value: Any) -> Any:
    return await anext(value, None)


def is_fixture(value: Any) -> bool:
    """Looks into the function's own dictionary alone: an attribute of another object may be the program's word."""
    return type(value) is FUNCTION and "_fixture" in vars(value)


def members(kind: type) -> dict[str, Any]:
    """Attributes of a class and of its bases, past every `__getattr__`."""
    return {name: value for base in reversed(kind.__mro__) for name, value in vars(base).items()}


def call(step: Any, value: Any) -> object:
    """Call a setup or teardown function: what it is about is an argument that it may leave out."""
    inner = getattr(step, "__func__", step)
    bound = inner is not step
    return step(value) if len(parameters(inner)) > bound else step()


def parameters(function: Any) -> tuple[str, ...]:
    """Names of a function's parameters, read from its code."""
    code = getattr(function, "__code__", None)
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount] if type(code) is types.CodeType else ()


def _inner(function: Any) -> Any:
    """The function below its decorators, not bound to anything."""
    function = getattr(function, "__func__", function)
    while type(function) is FUNCTION and "__wrapped__" in vars(function):
        function = vars(function)["__wrapped__"]
    return function


def wanted_by(function: Any, bound: bool) -> list[str]:
    """The fixtures that a function asks for: its parameters without defaults, less those that mock patches fill."""
    inner = _inner(function)
    names = parameters(inner)
    if not names:
        return []
    positional, defaults = inner.__code__.co_argcount, inner.__defaults__ or ()
    optional = {*names[positional - len(defaults) : positional], *(inner.__kwdefaults__ or ())}
    return [name for name in names[bound + _patched(function) :] if name not in optional]


def _patched(function: Any) -> int:
    default = getattr(sys.modules.get("unittest.mock"), "DEFAULT", None)
    patchings = getattr(getattr(function, "__func__", function), "__dict__", {}).get("patchings", ())
    return sum(not each.attribute_name and each.new is default for each in patchings)
