"""The fixtures that pytest brings along, as far as stored tests use them."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final, NamedTuple

_MISSING: Final = object()
_STREAMS: Final = ("stdout", "stderr")
Finalizers = list[Callable[[], object]]


class Captured(NamedTuple):
    """What `capsys.readouterr()` gives."""

    out: str
    err: str


class Capture:
    """`capsys`: what is printed during a test."""

    def __init__(self, finalizers: Finalizers) -> None:
        self._before = [(name, getattr(sys, name)) for name in _STREAMS]
        finalizers.append(self._restore)
        self._start()

    def _start(self) -> None:
        self._now = [io.StringIO() for _ in _STREAMS]
        for name, stream in zip(_STREAMS, self._now, strict=True):
            setattr(sys, name, stream)

    def readouterr(self) -> Captured:
        """What was printed since the last time."""
        out, err = (stream.getvalue() for stream in self._now)
        self._start()
        return Captured(out, err)

    def _restore(self) -> None:
        for name, stream in self._before:
            setattr(sys, name, stream)


class Patches:
    """`monkeypatch`: changes that are undone after the test."""

    def __init__(self, finalizers: Finalizers) -> None:
        self._undo: Finalizers = []
        finalizers.append(self.undo)

    def setattr(self, target: Any, name: Any, value: Any = _MISSING, raising: bool = True) -> None:
        """Set an attribute, given as object and name or as one dotted path."""
        if value is _MISSING:
            target, name, value = *_found(target), name
        before = vars(target).get(name, _MISSING) if isinstance(target, type) else getattr(target, name, _MISSING)
        if raising and not hasattr(target, name):
            raise AttributeError(f"{target!r} has no attribute {name!r}")
        self._undo.append(lambda: _set(target, name, before))
        setattr(target, name, value)

    def delattr(self, target: Any, name: Any = _MISSING, raising: bool = True) -> None:
        """Delete an attribute."""
        if name is _MISSING:
            target, name = _found(target)
        before = getattr(target, name, _MISSING)
        if before is not _MISSING or raising:
            delattr(target, name)
            self._undo.append(lambda: _set(target, name, before))

    def setitem(self, mapping: Any, key: Any, value: Any) -> None:
        """Set an entry of a mapping."""
        before = mapping.get(key, _MISSING)
        self._undo.append(lambda: _put(mapping, key, before))
        mapping[key] = value

    def delitem(self, mapping: Any, key: Any, raising: bool = True) -> None:
        """Delete an entry of a mapping."""
        if raising or key in mapping:
            before = mapping[key]
            del mapping[key]
            self._undo.append(lambda: _put(mapping, key, before))

    def setenv(self, name: str, value: Any, prepend: str | None = None) -> None:
        """Set an environment variable."""
        before = os.environ.get(name)
        joined = f"{value}{prepend}{before}" if prepend and before else str(value)
        self.setitem(os.environ, name, joined)

    def delenv(self, name: str, raising: bool = True) -> None:
        """Delete an environment variable."""
        self.delitem(os.environ, name, raising)

    def undo(self) -> None:
        """Put everything back, the last change first."""
        while self._undo:
            self._undo.pop()()


def _found(path: str) -> tuple[Any, str]:
    """The object that holds the last part of a dotted path, and that part."""
    home, _, name = path.rpartition(".")
    parts = home.split(".")
    target: Any = import_module(parts[0])
    for at, part in enumerate(parts[1:], 2):
        target = getattr(target, part) if hasattr(target, part) else import_module(".".join(parts[:at]))
    return target, name


def _set(target: Any, name: str, value: Any) -> None:
    if value is _MISSING:
        delattr(target, name)
    else:
        setattr(target, name, value)


def _put(mapping: Any, key: Any, value: Any) -> None:
    if value is _MISSING:
        mapping.pop(key, None)
    else:
        mapping[key] = value


BUILT_IN: Final[Mapping[str, Callable[[Finalizers], Any]]] = {
    "capsys": Capture,
    "capfd": Capture,
    "monkeypatch": Patches,
}
