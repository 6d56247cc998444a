"""The process that runs the program under test: it gets calls and gives values, and never sees what is expected."""

from __future__ import annotations

import builtins
import sys
import types
from typing import Any

from . import modes
from .codec import Codec, Refused
from .operations import OPERATIONS
from .peer import Gone, Peer

_PLAIN_BASES = (bool, int, float, str, bytes, tuple, list, dict, set, frozenset)


class Callback:
    """A function of the other process."""

    def __init__(self, server: Server, name: str) -> None:
        self.server = server
        self.name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.server.peer.ask("call", self.name, args, tuple(kwargs.items()))


class Server:
    """Serves one module's objects."""

    def __init__(self, module: types.ModuleType) -> None:
        self.module = module
        self.handles: dict[str, Any] = {}
        self.names: dict[int, str] = {}
        self.callbacks: dict[str, Callback] = {}
        self.codec = Codec("b", self._out, self._in)
        self.peer = Peer(self.codec, self._serve, self._raised, _reraise)

    def _serve(self, operation: str, values: list[Any]) -> object:
        if operation == "global":
            return getattr(self.module, values[0])
        if operation == "share":
            found = {name: getattr(self.module, name, None) for name in values[0]}
            self.codec.shared = {name: kind for name, kind in found.items() if isinstance(kind, type)}
            return list(self.codec.shared)
        if operation == "call":
            function, args, kwargs = values
            return function(*args, **dict(kwargs))
        return OPERATIONS[operation](*values)

    def _handle(self, value: object) -> str:
        name = self.names.get(id(value))
        if name is None:
            name = self.names[id(value)] = f"o{len(self.handles)}"
            self.handles[name] = value
        return name

    def _out(self, value: Any) -> list[Any]:
        if isinstance(value, Callback):
            return ["K", value.name]
        if isinstance(value, types.ModuleType):
            return ["M", value.__name__]
        if isinstance(value, type):
            return self._class(value)
        return ["h", self._handle(value), self._class(type(value)), self._base(value)]

    def _class(self, kind: type) -> list[Any]:
        bases = [base.__name__ for base in kind.__mro__ if getattr(builtins, base.__name__, None) is base]
        return ["H", self._handle(kind), kind.__name__, bases]

    def _base(self, value: Any) -> Any:
        """What a subclass of a plain type holds, read past its own methods; None where there is nothing plain."""
        for kind in _PLAIN_BASES:
            if isinstance(value, kind) and type(value) is not kind:
                return self.codec._out(_strip(value, kind))
        return None

    def _in(self, encoded: list[Any]) -> object:
        tag, name = encoded[0], encoded[1]
        if tag == "R":
            return self.handles[name]
        if tag == "k":
            return self.callbacks.setdefault(name, Callback(self, name))
        raise Refused(f"unknown value {tag!r}")

    def _raised(self, error: BaseException) -> list[Any]:
        kind = type(error)
        return [self._class(kind), self._plain(error.args), _text(error), self._plain(vars(error))]

    def _plain(self, value: Any) -> Any:
        try:
            encoded, heap = self.codec.encode([value])
            return [encoded[0], heap]
        except Exception:
            return None


def _strip(value: Any, kind: Any) -> Any:
    if kind is bool or kind is int:
        return int.__int__(value)
    if kind is float:
        return float.__float__(value)
    if kind is str:
        return str.__add__(value, "")
    if kind is bytes:
        return bytes.__add__(value, b"")
    if kind is dict:
        return dict(dict.items(value))
    return kind(kind.__iter__(value))


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return ""


def _reraise(encoded: Any) -> BaseException:
    kind = getattr(builtins, str(encoded[0]), Exception)
    known = isinstance(kind, type) and issubclass(kind, Exception)
    return kind(str(encoded[1])) if known else Exception(str(encoded[1]))


def run(payload: dict[str, Any]) -> None:
    """Load the module under test, say so, and serve until the other end hangs up."""
    module = modes.new_module(payload["name"])
    for name in payload.get("aliases", ()):
        sys.modules[name] = module
    server = Server(module)
    try:
        exec(modes.compiled(payload["code"], f"{payload['name']}.py"), module.__dict__)
        server.peer.send({"ready": sorted(module.__dict__)})
    except BaseException as error:
        modes.report()
        server.peer.send({"failed": server._raised(error)})
    try:
        while True:
            server.peer.answer(server.peer.receive())
    except Gone:
        return
