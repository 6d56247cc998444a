"""Asynchronous work from synchronous code: results in order, no barrier between batches."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from threading import Thread
from typing import Any, TypeVar

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

    `work` runs in an event loop on a thread of its own, so it goes on while the caller uses a result or `items` reads
    its next batch (on the caller's thread). `within` (clients) is entered there before the first and left after the
    last. The first exception, in order, is raised here; then, or when the caller stops early, the rest is cancelled.
    """
    begun = deque[Future[R]]()

    async def run(item: T) -> R:
        return await work(item)

    with _event_loop(within) as loop:
        for item in items:
            begun.append(asyncio.run_coroutine_threadsafe(run(item), loop))
            if len(begun) >= ahead:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()


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
        asyncio.run(_host(within, ready))
        done.set_result(None)
    except BaseException as error:  # handed to the thread that waits for it
        (done if ready.done() else ready).set_exception(error)


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
