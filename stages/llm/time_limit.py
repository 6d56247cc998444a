"""One time limit for any number of tasks."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any


class TimeLimit:
    """`with limit: ...` raises TimeoutError in a task that takes longer than `seconds`, as `asyncio.timeout` does.

    Equal limits run out in the order they began, so one timer serves all tasks; a timer for each, set and taken back
    thousands of times a second, is a good part of what a request costs. Belongs to one event loop. Not reentrant within
    a task.
    """

    def __init__(self, seconds: float) -> None:
        self._loop, self._seconds = asyncio.get_running_loop(), seconds
        self._running: dict[asyncio.Task[Any], tuple[float, int]] = {}
        self._late = set[asyncio.Task[Any]]()
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        task = _this_task()
        due = self._loop.time() + self._seconds
        self._running[task] = due, task.cancelling()
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._cancel_late)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task = _this_task()
        _, cancelling = self._running.pop(task)
        if task not in self._late:
            return
        self._late.remove(task)
        if task.uncancel() <= cancelling and kind is asyncio.CancelledError:  # else somebody else cancelled it too
            raise TimeoutError from error

    def close(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _cancel_late(self) -> None:
        self._timer, now = None, self._loop.time()
        for task, (due, _) in self._running.items():
            if task in self._late:
                continue
            if due > now:
                self._timer = self._loop.call_at(due, self._cancel_late)
                return
            self._late.add(task)
            task.cancel()


def _this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task
