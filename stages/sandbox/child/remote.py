"""The judge's view of the program under test: stand-ins for objects that live in the other process."""

from __future__ import annotations

import builtins
import sys
import types
from typing import Any

from .codec import Codec, Refused
from .operations import BINARY, COMPARE, INPLACE, UNARY
from .peer import Gone, Peer

_OWN = frozenset({"_link", "_name", "_base"})


class Line:
    """The connection to the program under test, and the stand-ins made so far."""

    def __init__(self) -> None:
        self.codec = Codec("a", self._out, self._in)
        self.peer = Peer(self.codec, self._serve, _describe, self.reraise)
        self.classes: dict[str, type] = {}
        self.instances: dict[str, Any] = {}
        self.functions: dict[str, Any] = {}
        self.names: frozenset[str] = frozenset()

    def connect(self) -> None:
        """Wait until the program is loaded. Raises what it raised while loading."""
        hello = self.peer.receive()
        if "failed" in hello:
            raise self.reraise(hello["failed"])
        self.names = frozenset(map(str, hello.get("ready", ())))

    def _serve(self, operation: str, values: list[Any]) -> object:
        """The only thing the program may ask for: a call of a function that it was given."""
        if operation != "call":
            raise Refused(f"the program asked for {operation!r}")
        name, args, kwargs = values
        return self.functions[name](*args, **dict(kwargs))

    def _out(self, value: Any) -> list[Any]:
        if isinstance(value, Remote | RemoteClass):
            return ["R", object.__getattribute__(value, "_name")]
        name = getattr(value, "_remote_class", None)
        if isinstance(value, type) and isinstance(name, str):
            return ["R", name]
        if callable(value):
            name = f"f{id(value)}"
            self.functions[name] = value
            return ["k", name]
        raise Refused(f"the test passes a {type(value).__name__}")

    def _in(self, encoded: list[Any]) -> object:
        tag = encoded[0]
        if tag == "h":
            return self._instance(*encoded[1:4])
        if tag == "H":
            return self.class_of(encoded)
        if tag == "K":
            return self.functions[encoded[1]]
        if tag == "M" and encoded[1] in sys.stdlib_module_names:
            return __import__(encoded[1])
        raise Refused(f"unknown value {tag!r}")

    def _instance(self, name: str, kind: list[Any], base: Any) -> Any:
        found = self.instances.get(name)
        if found is None:
            cls = self.class_of(kind)
            stand_in: Any = cls if isinstance(cls, RemoteClass) else Remote
            found = self.instances[name] = object.__new__(stand_in)
            object.__setattr__(found, "_link", self)
            object.__setattr__(found, "_name", name)
        if base is not None:
            object.__setattr__(found, "_base", self.codec._in(base))
        return found

    def class_of(self, encoded: list[Any]) -> type:
        """The stand-in of a class; exception classes become real exception classes of ours."""
        _, name, title, bases = encoded
        known = [kind for base in bases if isinstance(kind := getattr(builtins, str(base), None), type)]
        if bases and str(bases[0]) == title and known:
            return known[0]
        if name not in self.classes:
            errors = [kind for kind in known if issubclass(kind, BaseException)]
            self.classes[name] = _exception_class(name, title, errors[0]) if errors else _class(self, name, title)
        return self.classes[name]

    def reraise(self, encoded: Any) -> BaseException:
        """Our own exception for what the program raised: the same builtin class, or one with the same base."""
        kind = self.class_of(encoded[0])
        args = self._plain(encoded[1])
        if not issubclass(kind, Exception):
            return RuntimeError(f"the program raised {kind.__name__}")
        try:
            error = kind(*args) if isinstance(args, tuple) else kind(encoded[2])
        except Exception:
            error = Exception(encoded[2])
        attributes = self._plain(encoded[3])
        for key, value in (attributes if isinstance(attributes, dict) else {}).items():
            if isinstance(key, str) and not key.startswith("_"):
                setattr(error, key, value)
        return error

    def _plain(self, encoded: Any) -> Any:
        return self.codec.decode([encoded[0]], encoded[1])[0] if encoded else None


def _describe(error: BaseException) -> list[Any]:
    return [type(error).__name__, str(error)]


def _exception_class(name: str, title: str, base: type) -> type:
    return type(title, (base,), {"_remote_class": name, "__module__": "solution"})


class RemoteClass(type):
    """The stand-in of a class: calling it makes an object over there, attributes are looked up there."""

    _link: Line
    _name: str

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return cls._link.peer.ask("call", cls, args, tuple(kwargs.items()))

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_remote") or name in _OWN:
            raise AttributeError(name)
        return cls._link.peer.ask("attr", cls, name)

    def __iter__(cls) -> Any:
        return cls._link.peer.ask("iter", cls)

    def __getitem__(cls, key: Any) -> Any:
        return cls._link.peer.ask("getitem", cls, key)

    def __len__(cls) -> Any:
        return cls._link.peer.ask("len", cls)


def _class(line: Line, name: str, title: str) -> type:
    return RemoteClass(title, (Remote,), {"_link": line, "_name": name, "__module__": "solution"})


class Remote:
    """The stand-in of an object.

    Comparing it with a plain value never asks the other side: only what a subclass of a plain type holds counts,
    so an object that claims to equal everything equals nothing.
    """

    _link: Line
    _name: str
    _base: Any

    def __getattr__(self, name: str) -> Any:
        if name in _OWN:
            raise AttributeError(name)
        return self._link.peer.ask("attr", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._link.peer.ask("setattr", self, name, value)

    def __delattr__(self, name: str) -> None:
        self._link.peer.ask("delattr", self, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._link.peer.ask("call", self, args, tuple(kwargs.items()))

    def __enter__(self) -> Any:
        return self.__getattr__("__enter__")()

    def __exit__(self, *error: Any) -> Any:
        return self.__getattr__("__exit__")(None, None, None)

    def __dir__(self) -> Any:
        return self._link.peer.ask("dir", self)


def _forward(operation: str) -> Any:
    def method(self: Remote, *args: Any) -> Any:
        return self._link.peer.ask(operation, self, *args)

    return method


def _compare(operation: str) -> Any:
    here = getattr(__import__("operator"), operation)

    def method(self: Remote, other: Any) -> Any:
        if isinstance(other, Remote | RemoteClass):
            return self._link.peer.ask(operation, self, other)
        if "_base" in self.__dict__:
            return here(self.__dict__["_base"], other)
        return NotImplemented

    return method


def _reflected(operation: str) -> Any:
    def method(self: Remote, other: Any) -> Any:
        return self._link.peer.ask(operation, other, self)

    return method


def _hash(self: Remote) -> int:
    value = self._link.peer.ask("hash", self)
    return value if isinstance(value, int) else 0


def _text(operation: str) -> Any:
    def method(self: Remote, *args: Any) -> str:
        value = self._link.peer.ask(operation, self, *args)
        return value if type(value) is str else str(type(value))

    return method


for _name in COMPARE:
    setattr(Remote, f"__{_name}__", _compare(_name))
for _name in BINARY:
    _bare = _name.rstrip("_")
    setattr(Remote, f"__{_bare}__", _forward(_name))
    setattr(Remote, f"__r{_bare}__", _reflected(_name))
for _name in (*INPLACE, *UNARY, "getitem", "setitem", "delitem", "contains", "len", "iter", "next", "reversed", "bool",
              "int", "float", "round"):  # fmt: skip
    setattr(Remote, f"__{_name}__", _forward(_name))
for _name in ("str", "repr", "format"):
    setattr(Remote, f"__{_name}__", _text(_name))
Remote.__hash__ = _hash  # type: ignore[assignment,method-assign]


class RemoteModule(types.ModuleType):
    """A module whose attributes are the program's."""

    def __init__(self, name: str, line: Line) -> None:
        super().__init__(name)
        self.__dict__["_line"] = line
        self.__path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self.__dict__["_line"].peer.ask("global", name)
        except Gone:
            raise
        except Exception as error:
            title = self.__name__
            raise AttributeError(f"no module {title!r} here, and the program has no {name!r}") from error

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """`from node import Node` gives a module where nothing of that name exists; it is found out when called."""
        home, _, name = self.__name__.rpartition(".")
        raise NameError(f"the tests take {name!r} from {home or name!r}, which neither the problem nor the program has")
