"""Coroutines of tests: each is run to its end, and that it came to its end is what counts.

An event loop is Python code that a program in the same process may have changed. So its class is taken before the
program is loaded, and the last step of every coroutine is ours.
"""

from __future__ import annotations

import types
import unittest
from collections.abc import Coroutine
from typing import Any, Final

from .codec import Refused

_COROUTINE: Final = types.CoroutineType
_RUNNERS: Final[list[Any]] = []
_OPEN: Final[list[Any]] = []


def use_asyncio() -> tuple[type, ...]:
    """Let `settle` run coroutines; the classes that must stay as they are for that."""
    import asyncio

    _RUNNERS.append(asyncio.Runner)
    unittest.IsolatedAsyncioTestCase._setupAsyncioRunner = _set_up_runner  # type: ignore[attr-defined]
    return asyncio.Runner, unittest.IsolatedAsyncioTestCase


def _set_up_runner(self: Any) -> None:
    """Without unittest's debug mode, in which an event loop collects the frames of its callers."""
    self._asyncioRunner = _RUNNERS[0]()


def settle(value: Any) -> Any:
    """What a call gave; where that is a coroutine, what comes of it. All of one case share an event loop."""
    if type(value) is not _COROUTINE:
        return value
    if not _RUNNERS:
        value.close()
        raise Refused("a coroutine that nothing awaits")
    if not _OPEN:
        _OPEN.append(_RUNNERS[0]())
    results: list[Any] = []
    _OPEN[0].run(_to_its_end(value, results))
    return ended(results)


async def _to_its_end(coroutine: Coroutine[Any, Any, Any], results: list[Any]) -> None:
    results.append(await coroutine)


def ended(results: list[Any]) -> Any:
    """The result of a coroutine; an AssertionError where its event loop says it is done and it is not."""
    if not results:
        raise AssertionError("a coroutine of the tests was not run to its end")
    return results[0]


def close() -> None:
    """End the event loop of a case."""
    while _OPEN:
        _OPEN.pop().close()


def debug(case: Any) -> None:
    """Run one unittest case, raising what it raises; a test method that is a coroutine must come to its end."""
    name = case._testMethodName
    method = getattr(case, name)
    code = getattr(getattr(method, "__func__", method), "__code__", None)
    if code is None or not code.co_flags & 0x80:
        case.debug()
        return
    results: list[Any] = []

    async def watched() -> None:
        results.append(await method())

    setattr(case, name, watched)
    case.debug()
    ended(results)
