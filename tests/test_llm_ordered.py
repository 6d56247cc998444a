"""Asynchronous work in order, from synchronous code."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.llm import in_order


async def double(number: int) -> int:
    await asyncio.sleep(0.001 * (number % 3))
    return 2 * number


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 40), st.integers(1, 50))
def test_results_are_in_order_and_complete(count: int, ahead: int) -> None:
    assert list(in_order(range(count), double, ahead)) == [2 * number for number in range(count)]


def test_so_many_are_begun_and_no_more() -> None:
    running, most, read = 0, 0, list[int]()

    def items() -> Iterator[int]:
        for number in range(50):
            read.append(number)
            yield number

    async def work(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.002)
        running -= 1
        return number

    results = in_order(items(), work, 7)
    for number, result in enumerate(results):
        assert result == number
        assert len(read) <= number + 7
    assert most == 7


def test_there_is_no_barrier() -> None:
    async def work(number: int) -> int:
        await asyncio.sleep(0.2 if number % 10 == 0 else 0.01)
        return number

    started = time.monotonic()
    assert len(list(in_order(range(40), work, 40))) == 40
    assert time.monotonic() - started < 0.6  # batches of ten would take 0.8


def test_work_goes_on_while_the_caller_is_busy() -> None:
    done = list[int]()

    async def work(number: int) -> int:
        await asyncio.sleep(0.02)
        done.append(number)
        return number

    results = in_order(range(8), work, 4)
    next(results)
    time.sleep(0.3)
    assert len(done) >= 4
    assert list(results) == list(range(1, 8))


def test_items_are_read_by_the_caller_and_worked_on_elsewhere() -> None:
    places = set[str]()

    def items() -> Iterator[int]:
        places.add(f"items {threading.current_thread().name}")
        yield 1

    async def work(number: int) -> int:
        places.add(f"work {threading.current_thread().name}")
        return number

    assert list(in_order(items(), work, 1)) == [1]
    assert places == {f"items {threading.current_thread().name}", "work in_order"}


def test_many_short_ones_are_neither_lost_nor_mixed_up() -> None:
    async def work(number: int) -> int:
        if number % 7 == 0:
            await asyncio.sleep(0)
        return -number

    assert list(in_order(range(20_000), work, 50)) == [-number for number in range(20_000)]


def test_a_busy_loop_is_not_woken_for_every_item(monkeypatch: pytest.MonkeyPatch) -> None:
    wakes = 0

    async def work(number: int) -> int:
        if number == 0:
            time.sleep(0.3)  # while this runs, the caller begins all the others
        return number

    for kind in (asyncio.BaseEventLoop, uvloop.Loop):

        def counted(loop: Any, *arguments: Any, call: Any = kind.call_soon_threadsafe, **values: Any) -> Any:
            nonlocal wakes
            wakes += 1
            return call(loop, *arguments, **values)

        monkeypatch.setattr(kind, "call_soon_threadsafe", counted)
    assert list(in_order(range(500), work, 500)) == list(range(500))
    assert 0 < wakes < 50


@pytest.mark.parametrize("there", [True, False])
def test_the_loop_is_uvloops_where_it_is_installed(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(number: int) -> str:
        return type(asyncio.get_running_loop()).__module__.partition(".")[0]

    if not there:
        monkeypatch.setitem(sys.modules, "uvloop", None)
    assert list(in_order([1], work, 1)) == ["uvloop" if there else "asyncio"]


def test_an_exception_comes_after_the_results_before_it() -> None:
    cancelled = list[int]()

    async def work(number: int) -> int:
        if number == 2:
            raise ValueError("two")
        try:
            await asyncio.sleep(0.001 if number < 2 else 30)
        except asyncio.CancelledError:
            cancelled.append(number)
            raise
        return number

    seen = list[int]()
    with pytest.raises(ValueError, match="two"):
        seen.extend(in_order(range(6), work, 6))
    assert seen == [0, 1]
    assert sorted(cancelled) == [3, 4, 5]


def test_an_exception_in_the_items_is_raised_too() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        list(in_order(items(), double, 4))


def test_stopping_early_cancels_and_leaves_no_thread() -> None:
    left = list[str]()

    @asynccontextmanager
    async def client() -> AsyncIterator[None]:
        left.append("in")
        yield
        left.append("out")

    async def work(number: int) -> int:
        await asyncio.sleep(0 if number == 0 else 30)
        return number

    before = threading.active_count()
    results = in_order(range(10), work, 5, [client()])
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    assert left == ["in", "out"]
    assert threading.active_count() == before


@pytest.mark.parametrize("moment", ["entering", "leaving"])
def test_what_goes_wrong_around_the_work_is_raised(moment: str) -> None:
    @asynccontextmanager
    async def client() -> AsyncIterator[None]:
        if moment == "entering":
            raise RuntimeError(moment)
        yield
        raise RuntimeError(moment)

    with pytest.raises(RuntimeError, match=moment):
        list(in_order(range(3), double, 2, [client()]))
