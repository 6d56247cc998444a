"""One time limit for many tasks: as `asyncio.timeout`, with one timer."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.llm.time_limit import TimeLimit

SECONDS = 5.5


class Quick(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to the next timer instead of waiting for it: exact, however busy the machine is."""

    now = 0.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        timers = [one.when() for one in self._scheduled if not one.cancelled()]  # type: ignore[attr-defined]
        if timers and not self._ready:  # type: ignore[attr-defined]
            self.now = max(self.now, min(timers))
        super()._run_once()  # type: ignore[misc]


@asynccontextmanager
async def limited(limit: TimeLimit | None) -> AsyncIterator[None]:
    """By the limit, or by what it stands for."""
    if limit is None:
        async with asyncio.timeout(SECONDS):
            yield
    else:
        with limit:
            yield


Plan = tuple[int, Sequence[int], int | None]
"""When a task begins, how long each of its steps takes, each under the limit, and when it is cancelled; in seconds."""


async def outcomes(limit: TimeLimit | None, plans: Sequence[Plan]) -> list[tuple[str, float]]:
    """What became of each step of each task, and when."""
    loop, found = asyncio.get_running_loop(), list[tuple[str, float]]()

    async def one(name: int, begin: int, steps: Sequence[int]) -> None:
        await asyncio.sleep(begin)
        for seconds in steps:
            try:
                async with limited(limit):
                    await asyncio.sleep(seconds)
                found.append((f"{name} done", loop.time()))
            except TimeoutError:
                found.append((f"{name} late", loop.time()))
            except asyncio.CancelledError:  # the next step runs in a task that was told to end
                found.append((f"{name} cancelled", loop.time()))

    tasks = [asyncio.ensure_future(one(name, begin, steps)) for name, (begin, steps, _) in enumerate(plans)]
    for task, (_, _, cancel) in zip(tasks, plans, strict=True):
        if cancel is not None:
            loop.call_at(cancel, task.cancel)
    await asyncio.gather(*tasks, return_exceptions=True)
    return sorted(found) + [(f"{task.cancelled()}", task.cancelling()) for task in tasks]


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.lists(st.integers(0, 12), max_size=3), st.none() | st.integers(0, 30)),
        max_size=8,
    )
)
def test_it_does_what_a_timeout_for_each_would(plans: Sequence[Plan]) -> None:
    async def main(limit: Callable[[], TimeLimit | None]) -> list[tuple[str, float]]:
        return await outcomes(limit(), plans)

    found = []
    for limit in (lambda: TimeLimit(SECONDS), lambda: None):
        with asyncio.Runner(loop_factory=Quick) as runner:
            found.append(runner.run(main(limit)))
    assert found[0] == found[1]


def run(work: Callable[[TimeLimit], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        return await work(TimeLimit(SECONDS))

    with asyncio.Runner(loop_factory=Quick) as runner:
        return runner.run(main())


def test_somebody_elses_cancellation_at_the_same_time_is_not_swallowed() -> None:
    async def work(limit: TimeLimit) -> int:
        async def one() -> None:
            with limit:
                await asyncio.sleep(10)

        task = asyncio.ensure_future(one())
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_at(SECONDS, task.cancel)  # after the limit's, before the task's next step
        with pytest.raises(asyncio.CancelledError):
            await task
        return task.cancelling()

    assert run(work) == 1


def test_one_timer_serves_all(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(limit: TimeLimit) -> int:
        loop = asyncio.get_running_loop()
        timers, call_at = list[float](), loop.call_at

        def counted(when: float, *arguments: Any, **values: Any) -> asyncio.TimerHandle:
            timers.append(when)
            return call_at(when, *arguments, **values)

        monkeypatch.setattr(loop, "call_at", counted)

        async def one() -> None:
            with limit:
                await asyncio.sleep(0)

        await asyncio.gather(*(one() for _ in range(500)))
        return len(timers)

    assert run(work) == 1


def test_tasks_are_let_go() -> None:
    async def work(limit: TimeLimit) -> None:
        async def one(seconds: float) -> None:
            with limit:
                await asyncio.sleep(seconds)

        tasks = [asyncio.ensure_future(one(0)), asyncio.ensure_future(one(10))]
        await asyncio.gather(*tasks, return_exceptions=True)
        left = [weakref.ref(task) for task in tasks]
        tasks.clear()
        await asyncio.sleep(0)
        gc.collect()
        assert [one() for one in left] == [None, None]

    run(work)
