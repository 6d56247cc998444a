"""Values as JSON between processes that do not trust each other: plain types by exact class, no code, no pickle.

Immutable values travel inline, mutable containers as entries of a heap with an id, so that identity, sharing and
cycles survive, and a container that is already known is updated in place. Everything else is left to two hooks.
"""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import fractions
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

Encoded = Any
Heap = dict[str, list[Any]]
_SCALARS: Final = frozenset({bool, type(None), str})
_SMALL: Final = 1 << 4000
_PLAIN_TYPES: Final[tuple[type, ...]] = (
    int, str, float, bool, list, dict, set, tuple, frozenset, bytes, bytearray, complex, object,
)  # fmt: skip
_TYPES: Final = {kind.__name__: kind for kind in _PLAIN_TYPES}
_HEAPED: Final[dict[type, str]] = {
    list: "l",
    dict: "d",
    set: "s",
    bytearray: "a",
    collections.deque: "q",
    collections.defaultdict: "dd",
    collections.Counter: "C",
    collections.OrderedDict: "O",
}
_MADE: Final[dict[str, Callable[[], Any]]] = {
    "l": list,
    "d": dict,
    "s": set,
    "a": bytearray,
    "q": collections.deque,
    "dd": collections.defaultdict,
    "C": collections.Counter,
    "O": collections.OrderedDict,
}


class Refused(Exception):
    """A value that cannot travel, or a message that is not one."""


class Codec:
    """One side's view of the values both sides know.

    `foreign_out` encodes what is not plain (or raises Refused), `foreign_in` decodes it. `shared` maps names to
    classes that both sides have: their instances travel by value.
    """

    def __init__(
        self,
        prefix: str,
        foreign_out: Callable[[object], Encoded],
        foreign_in: Callable[[list[Any]], object],
    ) -> None:
        self.prefix = prefix
        self.shared: dict[str, type] = {}
        self._foreign_out = foreign_out
        self._foreign_in = foreign_in
        self._ids: dict[int, str] = {}
        self._objects: dict[str, Any] = {}
        self._pending: list[tuple[str, Any]] = []

    def encode(self, values: Iterable[object]) -> tuple[list[Encoded], Heap]:
        """Encode values together: the inline parts, and every container they reach."""
        encoded = [self._out(value) for value in values]
        heap: Heap = {}
        while self._pending:
            name, value = self._pending.pop()
            if name not in heap:
                heap[name] = self._content(value)
        return encoded, heap

    def decode(self, encoded: Iterable[Encoded], heap: Mapping[str, list[Any]]) -> list[Any]:
        """Decode values; containers already known are updated in place."""
        try:
            self._receive(heap)
            return [self._in(value) for value in encoded]
        except (TypeError, ValueError, KeyError, IndexError, AttributeError, ArithmeticError, RecursionError) as error:
            raise Refused(f"not a value: {type(error).__name__}: {error}") from error

    def _name(self, value: Any) -> str:
        name = self._ids.get(id(value))
        if name is None:
            name = f"{self.prefix}{len(self._objects)}"
            self._learn(name, value)
        return name

    def _learn(self, name: str, value: Any) -> None:
        self._ids[id(value)] = name
        self._objects[name] = value

    def _out(self, value: Any) -> Encoded:
        kind = type(value)
        if kind in _SCALARS:
            return value
        if kind is int:
            return value if -_SMALL < value < _SMALL else ["i", hex(value)]
        if kind is float:
            return value if math.isfinite(value) else ["f", repr(value)]
        if kind is tuple:
            return ["t", [self._out(item) for item in value]]
        if kind in _HEAPED or (kind in self.shared.values() and _by_reference(value)):
            name = self._name(value)
            self._pending.append((name, value))
            return ["@", name]
        if kind in self.shared.values():
            return self._shared_value(value)
        simple = _simple(value, kind)
        if simple is not None:
            return simple
        return ["z", [self._out(item) for item in value]] if kind is frozenset else self._foreign_out(value)

    def _shared_value(self, value: Any) -> Encoded:
        name = self._class_name(type(value))
        if isinstance(value, enum.Enum):
            return ["e", name, value.name]
        return ["n", name, [self._out(item) for item in tuple.__iter__(value)]]

    def _class_name(self, kind: type) -> str:
        return next(name for name, known in self.shared.items() if known is kind)

    def _content(self, value: Any) -> list[Any]:
        kind = type(value)
        tag = _HEAPED.get(kind)
        if tag in ("l", "s"):
            return [tag, self._items(value)]
        if tag == "a":
            return [tag, bytes(value).hex()]
        if tag == "q":
            return [tag, self._items(value), value.maxlen]
        if tag is None:
            return ["o", self._class_name(kind), self._pairs(_state(value))]
        factory = self._out(value.default_factory) if tag == "dd" else None
        return [tag, self._pairs(value), factory]

    def _items(self, values: Any) -> list[Encoded]:
        if set(map(type, values)) <= _SCALARS:
            return list(values)
        return [self._out(item) for item in values]

    def _pairs(self, mapping: Mapping[Any, Any]) -> list[list[Encoded]]:
        return [[self._out(key), self._out(value)] for key, value in mapping.items()]

    def _receive(self, heap: Mapping[str, list[Any]]) -> None:
        for name, content in heap.items():
            if name not in self._objects:
                self._learn(name, self._shell(content))
        order = {"l": 0, "a": 0, "q": 0, "o": 0, "s": 2}  # keys and members after the objects they hash
        for name, content in sorted(heap.items(), key=lambda item: order.get(item[1][0], 1)):
            self._fill(self._objects[name], content)

    def _shell(self, content: list[Any]) -> Any:
        if content[0] == "o":
            kind = self.shared[content[1]]
            return object.__new__(kind)
        return collections.deque(maxlen=content[2]) if content[0] == "q" else _MADE[content[0]]()

    def _fill(self, target: Any, content: list[Any]) -> None:
        tag, body = content[0], content[-1] if content[0] == "o" else content[1]
        if tag == "o":
            _restore(target, {self._in(key): self._in(value) for key, value in body})
        elif tag == "l":
            target[:] = [self._in(item) for item in body]
        elif tag == "a":
            target[:] = bytes.fromhex(body)
        else:
            target.clear()
            if tag == "q":
                target.extend(self._in(item) for item in body)
            elif tag == "s":
                # By way of a frozenset, as the compiler fills a set display: programs that depend on the order of a
                # set get the one they would have got.
                target.update(frozenset([self._in(item) for item in body]))
            else:
                target.update({self._in(key): self._in(value) for key, value in body})
            if tag == "dd":
                target.default_factory = self._in(content[2])

    def _in(self, value: Encoded) -> Any:
        if type(value) is not list:
            return value
        tag, *rest = value
        if tag == "@":
            return self._objects[rest[0]]
        if tag == "t":
            return tuple([self._in(item) for item in rest[0]])
        if tag == "z":
            return frozenset([self._in(item) for item in rest[0]])
        if tag == "e":
            return self.shared[rest[0]][rest[1]]  # type: ignore[index]
        if tag == "n":
            return tuple.__new__(self.shared[rest[0]], [self._in(item) for item in rest[1]])
        simple = _READERS.get(tag)
        return simple(*rest) if simple else self._foreign_in(value)


def _by_reference(value: object) -> bool:
    return not isinstance(value, (enum.Enum, tuple))


def _state(value: Any) -> dict[str, Any]:
    state = dict(getattr(value, "__dict__", {}))
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                state[name] = getattr(value, name)
    return state


def _restore(target: Any, state: dict[str, Any]) -> None:
    if any(name.startswith("__") for name in state):
        raise Refused("an attribute that is not data")
    for name in set(getattr(target, "__dict__", {})) - set(state):
        object.__delattr__(target, name)
    for name, value in state.items():
        object.__setattr__(target, name, value)


def _simple(value: Any, kind: type) -> Encoded | None:
    if kind is bytes:
        return ["b", value.hex()]
    if kind is complex:
        return ["c", repr(value.real), repr(value.imag)]
    if kind is range:
        return ["r", value.start, value.stop, value.step]
    if kind is decimal.Decimal:
        return ["D", str(value)]
    if kind is fractions.Fraction:
        return ["F", value.numerator, value.denominator]
    if isinstance(value, type) and _TYPES.get(value.__name__) is value:
        return ["T", value.__name__]
    return _simple_time(value, kind)


def _simple_time(value: Any, kind: type) -> Encoded | None:
    if kind is datetime.timedelta:
        return ["dt", value.days, value.seconds, value.microseconds]
    if kind is datetime.date or (kind in (datetime.datetime, datetime.time) and value.tzinfo is None):
        return ["di", kind.__name__, value.isoformat()]
    return ["..."] if value is Ellipsis else None


_TIMES: Final[dict[str, Any]] = {k.__name__: k for k in (datetime.date, datetime.datetime, datetime.time)}
_READERS: Final[dict[str, Callable[..., Any]]] = {
    "i": lambda text: int(text, 16),
    "f": float,
    "b": bytes.fromhex,
    "c": lambda real, imag: complex(float(real), float(imag)),
    "r": range,
    "D": decimal.Decimal,
    "F": fractions.Fraction,
    "T": lambda name: _TYPES[name],
    "dt": datetime.timedelta,
    "di": lambda name, text: _TIMES[name].fromisoformat(text),
    "...": lambda: Ellipsis,
}
