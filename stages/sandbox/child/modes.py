"""What a confined process does: one function per mode. Payloads are JSON on a descriptor of the process's own."""

from __future__ import annotations

import ast
import atexit
import builtins
import contextlib
import gc
import importlib
import io
import json
import os
import sys
import threading
import traceback
import types
from collections.abc import Callable
from typing import Any, Final

from . import bpf, confine

KINDS: Final = {
    "program": "python",
    "calls": "python",
    "candidate": "python",
    "judge": "python",
    "whole": "python",
    "native": "native",
    "compile": "compiler",
}
_MODES: Final[dict[str, Callable[[dict[str, Any]], None]]] = {}
# In C all the way: `json.loads` would touch more memory.
_parse: Final = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
_OURS: Final[list[types.ModuleType]] = []
_STREAMS: Final = (sys.stdout, sys.stderr)  # a program may hide them, and still write to them
# A program without any of these words has no file, finalizer or stream of its own that would speak only at the end.
_LINGERING: Final = ("open", "IO", "stdout", "stderr", "Buffered", "__del__", "weakref", "yield")
_BUFFERING: Final = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)
OUT_OF_MEMORY: Final = 86
"""Exit status of a Python program that ended with MemoryError."""

# Not more: every module and library here makes every fork a little dearer.
# fmt: off
_PRELOAD: Final = [
    "ast", "bisect", "collections", "contextlib", "copy", "dataclasses", "datetime", "decimal", "enum",
    "fractions", "functools", "heapq", "inspect", "io", "itertools", "json", "math", "operator", "os", "random",
    "re", "string", "struct", "sys", "textwrap", "threading", "time", "traceback", "types", "typing",
    "unittest",
]
# fmt: on


def prepare(packages: tuple[str, ...]) -> None:
    """Import once, before any fork, what programs often import; `packages` are extra folders for imports."""
    sys.path[:] = [path for path in sys.path if path] + list(packages)
    for name in _PRELOAD:
        importlib.import_module(name)
    load()
    _like_a_script()
    sys.dont_write_bytecode = True


def keep_still() -> None:
    """Leave the objects of the fork server alone, so that its children go on sharing their memory."""
    gc.collect()
    gc.freeze()
    gc.disable()


def load() -> None:
    """Import the modes themselves, also before any fork."""
    _MODES.update(program=program, native=native)
    for mode, name in (("calls",) * 2, ("candidate",) * 2, ("judge",) * 2, ("whole",) * 2, ("compile", "compiler")):
        _MODES[mode] = importlib.import_module(f".{name}", __package__).run


def _like_a_script() -> None:
    """Add what `site` adds and programs rely on: `exit`, `quit`."""
    import site

    site.setquit()


def run(mode: str) -> None:
    """Run a mode; it ends the process."""
    gc.enable()
    payload = _parse(_read(confine.PAYLOAD).decode(), 0)[0]
    if not payload.get("keep"):
        os.close(confine.PAYLOAD)
    _MODES[mode](payload)
    os._exit(0)


def _read(fd: int) -> bytes:
    size = os.fstat(fd).st_size
    return os.pread(fd, size, 0) if size else b""


def forget_ourselves() -> None:
    """Take this package out of the module table, so that a program may have modules of the same names."""
    for name in [name for name in sys.modules if name == "child" or name.startswith("child.")]:
        _OURS.append(sys.modules.pop(name))


def program(payload: dict[str, Any]) -> None:
    """Run a script as `__main__`, with the life cycle of the interpreter: exit status, threads, atexit, flush."""
    sys.argv = ["main.py"]
    if "files" in payload:
        sys.argv += payload["argv"]
        _serve_files(payload["files"], payload["folder"])
    elif "/dev/stdin" in payload["code"]:  # there is no /proc for it to lead to
        _serve_files({}, "/nowhere/")
    script = _script(payload["code"])
    lingers = any(word in payload["code"] for word in _LINGERING)
    del payload
    finish(script.pop(), lingers)


def _script(code: str) -> list[Callable[[], object]]:
    """A script as something to call, in a list: whoever takes it out holds the only reference to its module."""
    names = new_module("__main__").__dict__
    names["__file__"] = "main.py"
    return [lambda: exec(compiled(code, "main.py"), names)]


def _serve_files(files: dict[str, str], folder: str) -> None:
    """Let `open` find `files`, and swallow what is written below `folder`: what an output validator expects."""
    system = io.open

    def opener(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        name = os.fspath(file) if not isinstance(file, int) else file
        if name == "/dev/stdin":
            return system(0, mode, *args, **kwargs)
        if name in files:
            return io.BytesIO(files[name].encode()) if "b" in mode else io.StringIO(files[name])
        if isinstance(name, str) and name.startswith(folder) and mode[:1] in "wax":
            return io.BytesIO() if "b" in mode else io.StringIO()
        return system(file, mode, *args, **kwargs)

    builtins.open = io.open = opener


def new_module(name: str) -> types.ModuleType:
    """An empty module under `name`, ready to run code in."""
    module = types.ModuleType(name)
    module.__dict__["__builtins__"] = builtins
    sys.modules[name] = module
    return module


def compiled(source: str | ast.Module, name: str, flags: int = 0) -> types.CodeType:
    """Foreign source as code, without what this file has from `__future__`: annotations are evaluated as usual."""
    code: types.CodeType = compile(source, name, "exec", flags, dont_inherit=True)
    return code


def add_modules(sources: dict[str, str]) -> None:
    """Make modules that the tests bring along importable."""
    for name, source in sources.items():
        exec(compiled(source, f"{name}.py"), new_module(name).__dict__)


def finish(body: Callable[[], object], lingers: bool = False) -> None:
    """Run `body` and end the process the way the interpreter would. `lingers`: it may leave work to the very end."""
    status = _status(body)
    del body
    status = _status(_wind_up) or status
    if lingers:
        _let_go()
    os._exit(status)


def _wind_up() -> None:
    shutdown: Callable[[], None] = threading._shutdown  # type: ignore[attr-defined]
    shutdown()
    atexit._run_exitfuncs()
    _flush_standard()


def _flush_standard() -> None:
    """What the interpreter flushes at its end: whatever stands for stdout and stderr now, unless it is closed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name, None)
        if stream is not None and not _closed(stream):
            stream.flush()


def _closed(stream: Any) -> bool:
    try:
        return bool(stream.closed)
    except Exception:
        return False


def _let_go() -> None:
    """Drop the script's module: files that it left open are written, and its finalizers run, as at a real end.

    Errors here change the status of no program.
    """
    for name in ("stdin", "stdout", "stderr"):
        setattr(sys, name, getattr(sys, f"__{name}__", None))
    _flush_all()  # first: the collector may close a file before the text layer above it has written
    sys.modules.pop("__main__", None)
    gc.collect()
    _flush_all()


def _flush_all() -> None:
    streams = [each for each in gc.get_objects() if type(each) in _BUFFERING]
    for stream in (*_STREAMS, *streams):
        with contextlib.suppress(Exception):
            stream.flush()


def _status(body: Callable[[], object]) -> int:
    try:
        body()
    except SystemExit as stop:
        return _exit_status(stop)
    except MemoryError:
        return OUT_OF_MEMORY
    except BaseException:
        report()
        return 1
    return 0


def _exit_status(stop: SystemExit) -> int:
    if stop.code is None:
        return 0
    if isinstance(stop.code, int):
        return stop.code & 0xFF
    try:
        print(stop.code, file=sys.stderr)
    except BaseException:
        return 1
    return 1


def report() -> None:
    """The exception being handled, to stderr."""
    try:
        traceback.print_exc()
    except BaseException:
        return


def native(payload: dict[str, Any]) -> None:
    """Become another program: the one open at `EXEC_FD`."""
    os.execve(bpf.EXEC_FD, payload["argv"], payload["env"])
