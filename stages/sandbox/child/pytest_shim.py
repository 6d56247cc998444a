"""The few parts of pytest that stored tests use, for an interpreter that has no pytest."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import re
import types
from collections.abc import Callable, Iterator
from typing import Any

Case = tuple[str, Callable[[], object]]


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


class _Marks:
    def __getattr__(self, name: str) -> Any:
        def mark(*args: Any, **kwargs: Any) -> Any:
            def decorate(function: Any) -> Any:
                if name == "parametrize":
                    function.__dict__.setdefault("_parameters", []).append((args[0], list(args[1])))
                return function

            return args[0] if len(args) == 1 and callable(args[0]) and not kwargs else decorate

        return mark


def fixture(function: Any = None, **options: Any) -> Any:
    """pytest.fixture: marks a function whose value tests ask for by name."""
    if function is None:
        return fixture
    function._fixture = True
    return function


def _skip(reason: str = "") -> None:
    raise Skipped(reason)


def _fail(reason: str = "", **options: Any) -> None:
    raise AssertionError(reason)


def module() -> types.ModuleType:
    """A module to import as `pytest`."""
    shim = types.ModuleType("pytest")
    marks = _Marks()
    shim.__dict__.update(
        raises=raises, approx=approx, fixture=fixture, mark=marks, skip=_skip, fail=_fail, use_correct=True,
        param=lambda *values, **options: values[0] if len(values) == 1 else values, importorskip=__import__,
    )  # fmt: skip
    return shim


def cases(names: dict[str, Any], name: str) -> Iterator[Case]:
    """Every case of a test function: one per combination of its parameters."""
    function = names[name]
    for label, values in _combinations(function):
        yield f"{name}{label}", _bound(function, names, values)


def methods(kind: type, name: str) -> Iterator[Case]:
    """Every case of a method of a plain test class, on a fresh object each."""
    for label, values in _combinations(getattr(kind, name)):

        def body(values: dict[str, Any] = values) -> object:
            instance = kind()
            with contextlib.suppress(AttributeError):
                instance.setup_method()
            return getattr(instance, name)(**values)

        yield f"{kind.__name__}.{name}{label}", body


def _bound(function: Any, names: dict[str, Any], values: dict[str, Any]) -> Callable[[], object]:
    def body() -> object:
        wanted = [name for name in inspect.signature(function).parameters if name not in values]
        return function(**values, **{name: _provide(names, name) for name in wanted})

    return body


def _provide(names: dict[str, Any], name: str) -> Any:
    source = names.get(name)
    if not getattr(source, "_fixture", False):
        raise AssertionError(f"unknown fixture {name!r}")
    inner = {wanted: _provide(names, wanted) for wanted in inspect.signature(source).parameters}  # type: ignore[arg-type]
    value = source(**inner)  # type: ignore[misc]
    return next(value) if inspect.isgenerator(value) else value


def _combinations(function: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    parameters = getattr(function, "_parameters", [])
    for picks in itertools.product(*(list(enumerate(values)) for _, values in parameters)):
        values: dict[str, Any] = {}
        for (titles, _), (_, value) in zip(parameters, picks, strict=True):
            keys = [t.strip() for t in titles.split(",")] if isinstance(titles, str) else list(titles)
            values.update(zip(keys, value if len(keys) > 1 else (value,), strict=True))
        yield "".join(f"[{at}]" for at, _ in picks), values
