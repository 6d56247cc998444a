"""Asynchronous work from synchronous code: results in order, no barrier between batches."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from threading import Event, Thread
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_Host = tuple[asyncio.AbstractEventLoop, asyncio.Event]


def in_order(
    items: Iterable[T],
    work: Callable[[T], Awaitable[R]],
    ahead: int,
    within: Sequence[AbstractAsyncContextManager[Any]] = (),
) -> Iterator[R]:
    """Results of `work` in the order of `items`, with at most `ahead` of them begun and not yet taken.

    `work` runs in an event loop (uvloop's where it is installed) on a thread of its own, so it goes on while the caller
    uses a result or `items` reads its next batch (on the caller's thread). `within` (clients) is entered there before
    the first and left after the last. The first exception, in order, is raised here; then, or when the caller stops
    early, the rest is cancelled.
    """
    with _event_loop(within) as loop:
        line = _Line(loop, work)
        for item in items:
            line.begin(item)
            if line.under_way >= ahead:
                yield line.take()
        while line.under_way:
            yield line.take()


class _Line(Generic[T, R]):
    """Items to the loop, results back. `begin` and `take` are for the caller's thread, the rest runs in the loop.

    A loop or a caller that is busy is not woken for each item: what came up meanwhile is dealt with in one go.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, work: Callable[[T], Awaitable[R]]) -> None:
        self._loop, self._work = loop, work
        self._new, self._called = deque[tuple[int, T]](), False
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._results: dict[int, R] = {}
        self._errors: dict[int, BaseException] = {}
        self._begun = self._taken = 0
        self._wanted, self._there = -1, Event()

    @property
    def under_way(self) -> int:
        """How many are begun and not yet taken."""
        return self._begun - self._taken

    def begin(self, item: T) -> None:
        """Hand the next item to the loop."""
        self._new.append((self._begun, item))
        self._begun += 1
        if not self._called:
            self._called = True
            self._loop.call_soon_threadsafe(self._begin_new)

    def take(self) -> R:
        """Wait for the next result; raises what `work` raised."""
        number = self._taken
        self._taken += 1
        self._wait_for(number)
        if number in self._errors:
            raise self._errors.pop(number)
        return self._results.pop(number)

    def _wait_for(self, number: int) -> None:
        self._wanted = number
        while number not in self._results and number not in self._errors:
            self._there.wait()  # may be for the one before, that came just as it was looked for
            self._there.clear()

    def _begin_new(self) -> None:
        self._called = False  # first: an item that comes from here on calls again
        while self._new:
            number, item = self._new.popleft()
            self._tasks[number] = self._loop.create_task(self._run(number, item))

    async def _run(self, number: int, item: T) -> None:
        try:
            self._results[number] = await self._work(item)
        except BaseException as error:
            self._errors[number] = error
            if not isinstance(error, Exception):
                raise
        finally:
            del self._tasks[number]
            if self._wanted == number:  # soon: by then what else has arrived is there too, for the price of one wake
                self._loop.call_soon(self._there.set)


@contextmanager
def _event_loop(within: Sequence[AbstractAsyncContextManager[Any]]) -> Iterator[asyncio.AbstractEventLoop]:
    """A running loop on another thread; leaving cancels what runs in it, then leaves `within`."""
    ready, done = Future[_Host](), Future[None]()
    thread = Thread(target=_serve, args=(within, ready, done), name="in_order", daemon=True)
    thread.start()
    loop, stop = ready.result()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
    done.result()  # what went wrong in leaving `within`, unless something went wrong before


def _serve(within: Sequence[AbstractAsyncContextManager[Any]], ready: Future[_Host], done: Future[None]) -> None:
    try:
        with asyncio.Runner(loop_factory=_new_loop) as runner:
            runner.run(_host(within, ready))
        done.set_result(None)
    except BaseException as error:  # handed to the thread that waits for it
        (done if ready.done() else ready).set_exception(error)


def _new_loop() -> asyncio.AbstractEventLoop:
    """uvloop's, which takes less time per request, or where it is not installed (Windows, PyPy) asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def _host(within: Sequence[AbstractAsyncContextManager[Any]], ready: Future[_Host]) -> None:
    async with AsyncExitStack() as stack:
        for context in within:
            await stack.enter_async_context(context)
        stop = asyncio.Event()
        ready.set_result((asyncio.get_running_loop(), stop))
        await stop.wait()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
