"""Where work runs. One interface: map a function over tasks, results in task order."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor as FutureExecutor
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from multiprocessing.connection import wait
from types import TracebackType
from typing import Literal, Protocol, TypeVar

from schemas.errors import RunError
from stages.contract import Needs

T = TypeVar("T")
R = TypeVar("R")
Runs = Literal["process", "thread"]
_PRELOAD = ["pipelines.work"]


class Executor(Protocol):
    """Maps functions over tasks; at most a few tasks per worker are in flight, so memory stays bounded."""

    def map(
        self, function: Callable[[T], R], tasks: Iterable[T], runs_in: Runs = "process", needs: Needs = Needs()
    ) -> Iterator[R]:
        """Results in the order of the tasks. Raises what `function` raises, RunError if a worker died."""
        ...


class LocalExecutor:
    """Threads or processes of this machine. A single task, or a single worker, runs in this process."""

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or os.cpu_count() or 1
        self._pools: dict[Runs, FutureExecutor] = {}

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pool in self._pools.values():
            pool.shutdown(wait=True, cancel_futures=True)
        self._pools.clear()

    def map(
        self, function: Callable[[T], R], tasks: Iterable[T], runs_in: Runs = "process", needs: Needs = Needs()
    ) -> Iterator[R]:
        """Results in the order of the tasks, whatever they need. Raises what `function` raises, RunError if a worker
        died.
        """
        waiting = iter(tasks)
        head = list(islice(waiting, 2))
        if self.workers == 1 or len(head) < 2:
            yield from map(function, chain(head, waiting))
            return
        try:
            yield from self._windowed(self._pool(runs_in), function, chain(head, waiting))
        except BrokenProcessPool as error:
            self._pools.pop("process", None)
            raise RunError(
                "a worker process died, most likely for lack of memory; what was finished is kept: "
                "run the same command again, with fewer --workers if it happens again"
            ) from error

    def _windowed(self, pool: FutureExecutor, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        flying: deque[Future[R]] = deque()
        try:
            for task in tasks:
                flying.append(pool.submit(function, task))
                if len(flying) > self.workers + 1:
                    yield flying.popleft().result()
            while flying:
                yield flying.popleft().result()
        finally:
            for future in flying:
                future.cancel()

    def _pool(self, runs_in: Runs) -> FutureExecutor:
        if runs_in not in self._pools:
            self._pools[runs_in] = (
                ThreadPoolExecutor(self.workers) if runs_in == "thread" else _process_pool(self.workers)
            )
        return self._pools[runs_in]


def _process_pool(workers: int) -> ProcessPoolExecutor:
    """Forkserver, because forking a process that already runs Arrow's threads can deadlock; preloaded, because
    every child would otherwise import everything again."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_work)


def _begin_work() -> None:
    """A worker whose run was killed ends too: otherwise it would wait for tasks, with all its memory, for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_wait_and_end, args=(parent.sentinel,), daemon=True).start()


def _wait_and_end(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
