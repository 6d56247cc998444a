"""Plain function calls, one after another: arguments in, values out, one line of JSON each. Compared on the host."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from . import confine, modes
from .codec import Codec, Refused


def run(payload: dict[str, Any]) -> None:
    """Load the program, call its entry point with every list of arguments, write each outcome as it comes."""
    module = modes.new_module("solution")
    try:
        exec(modes.compiled(payload["code"], "solution.py"), module.__dict__)
    except BaseException as error:
        modes.report()
        _write({"error": _describe(error)})
        os._exit(modes.OUT_OF_MEMORY if isinstance(error, MemoryError) else 1)
    for encoded, heap in payload["calls"]:
        _write(_call(module.__dict__, payload["entry"], encoded, heap))
    modes.finish(lambda: None)


def _call(names: dict[str, Any], entry: str, encoded: list[Any], heap: dict[str, Any]) -> dict[str, Any]:
    codec = Codec("r", _refuse, _refuse)
    started = time.process_time()
    try:
        args, kwargs = codec.decode(encoded, heap)
        result = _resolve(names, entry)(*args, **kwargs)
        values, out = Codec("v", _refuse, _refuse).encode([_plain(result), args])
    except Refused as error:
        return {"error": f"a result that is not a plain value: {error}"}
    except BaseException as error:
        modes.report()
        return {"error": _describe(error), "memory": isinstance(error, MemoryError)}
    return {"value": values, "heap": out, "cpu": time.process_time() - started}


def _plain(result: Any) -> Any:
    """Generators and other iterators as lists, as every public grader does."""
    return list(result) if hasattr(type(result), "__next__") else result


def _resolve(names: dict[str, Any], entry: str) -> Any:
    """`f`, `Class().method`, or the method of class Solution by that name."""
    head, _, tail = entry.partition(".")
    if head.endswith("()"):
        return getattr(names[head[:-2]](), tail)
    if head in names:
        return getattr(names[head], tail) if tail else names[head]
    return getattr(names["Solution"](), entry)


def _refuse(value: object) -> Any:
    raise Refused(type(value).__name__)


def _describe(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__


def _write(outcome: dict[str, Any]) -> None:
    data = memoryview(json.dumps(outcome).encode() + b"\n")
    while data:
        data = data[os.write(confine.RESULT, data) :]
