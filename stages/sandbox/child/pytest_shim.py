"""The few parts of pytest that stored tests use, for an interpreter that has no pytest."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from typing import Any, NamedTuple


class _Raises:
    def __init__(self, expected: Any, match: str | None) -> None:
        self.expected = expected
        self.match = match
        self.value: BaseException | None = None

    def __enter__(self) -> _Raises:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        if error is None:
            raise AssertionError(f"did not raise {self.expected}")
        if not isinstance(error, self.expected):
            return False
        if self.match is not None and not re.search(self.match, str(error)):
            raise AssertionError(f"{str(error)!r} does not match {self.match!r}")
        self.value = error
        self.type = kind
        return True


def raises(expected: Any, *args: Any, match: str | None = None, **kwargs: Any) -> Any:
    """pytest.raises, as a context manager or with a function to call."""
    manager = _Raises(expected, match)
    if not args:
        return manager
    with manager:
        args[0](*args[1:], **kwargs)
    return manager


class approx:
    """pytest.approx for numbers and for lists, tuples and dicts of them."""

    def __init__(self, expected: Any, rel: float | None = None, abs: float | None = None) -> None:
        self.expected = expected
        self.rel = 1e-6 if rel is None and abs is None else rel or 0.0
        self.abs = 1e-12 if abs is None else abs

    def __eq__(self, actual: object) -> bool:
        return self._same(actual, self.expected)

    def __repr__(self) -> str:
        return f"approx({self.expected!r})"

    __hash__ = None  # type: ignore[assignment]

    def _same(self, actual: Any, expected: Any) -> bool:
        if isinstance(expected, dict):
            return actual.keys() == expected.keys() and all(self._same(actual[k], v) for k, v in expected.items())
        if isinstance(expected, list | tuple):
            same = len(actual) == len(expected)
            return same and all(self._same(a, e) for a, e in zip(actual, expected, strict=True))
        if isinstance(expected, int | float | complex) and isinstance(actual, int | float | complex):
            return actual == expected or abs(actual - expected) <= max(self.rel * abs(expected), self.abs)
        return bool(actual == expected)


class Skipped(Exception):
    """A test that skips itself."""


class Param(NamedTuple):
    """pytest.param: one set of values for a parametrized test, with marks of its own."""

    values: tuple[Any, ...]
    marks: Any


class Mark:
    """pytest.mark.NAME, with or without arguments: remembers itself on what it decorates."""

    def __init__(self, name: str, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> None:
        self.name = name
        self.args = args
        self.kwargs = dict(kwargs or {})

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        decorates = len(args) == 1 and not kwargs and isinstance(args[0], types.FunctionType | type)
        if not decorates:
            return Mark(self.name, args, kwargs)
        args[0]._marks = [*own_marks(args[0]), self]
        return args[0]

    @property
    def skips(self) -> bool:
        """Whether it says by itself that a test is not to be run, or need not pass. Conditions are not looked at."""
        return self.name in ("skip", "xfail") and (self.name == "skip" or not self.args)


class Marks:
    """pytest.mark."""

    def __getattr__(self, name: str) -> Mark:
        return Mark(name)


def own_marks(value: Any) -> list[Mark]:
    """The marks on a function, or on a class and those it inherits from. Asks no object, which might be another's."""
    value = getattr(value, "__func__", value) if type(value) is types.MethodType else value
    holders = value.__mro__ if isinstance(value, type) else [value] if isinstance(value, types.FunctionType) else []
    return next((vars(each)["_marks"] for each in holders if "_marks" in vars(each)), [])


def marks_of(value: Any) -> list[Mark]:
    """The marks in `pytestmark` or in `marks=`: one, or a list of them."""
    listed = value if isinstance(value, list | tuple) else [value]
    return [mark for mark in listed if type(mark) is Mark]


def fixture(function: Any = None, **options: Any) -> Any:
    """pytest.fixture: marks a function whose value tests ask for by name."""
    if function is None:
        return lambda function: fixture(function, **options)
    function._fixture = options
    return function


def _skip(reason: str = "", **options: Any) -> None:
    raise Skipped(reason)


def _xfail(reason: str = "") -> None:
    raise Skipped(reason)


def _fail(reason: str = "", **options: Any) -> None:
    raise AssertionError(reason)


def module() -> types.ModuleType:
    """A module to import as `pytest`."""
    shim = types.ModuleType("pytest")
    shim.__dict__.update(
        raises=raises, approx=approx, fixture=fixture, mark=Marks(), skip=_skip, xfail=_xfail, fail=_fail,
        use_correct=True, importorskip=__import__,
        param=lambda *values, marks=(), **options: Param(values, marks),
    )  # fmt: skip
    return shim
