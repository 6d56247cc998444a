"""Window, rates, circuit breaker, gate and budget."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import RecipeError
from stages.llm import Budget, Client, Endpoint
from stages.llm.gate import Gate, Pace
from stages.llm.ledger import Amount, Purse
from stages.llm.limits import Circuit, Rate, Window
from stages.llm.wire import Fault


def test_the_window_shrinks_once_per_round_trip_and_grows_back() -> None:
    window = Window(128)
    for _ in range(50):
        window.shrink(started=0.0, now=1.0)
    assert window.limit == pytest.approx(128 * 0.7)
    window.shrink(started=1.0, now=2.0)
    assert window.limit == pytest.approx(128 * 0.49)
    before = window.limit
    for _ in range(int(before)):  # one round trip: 128 / 32 more
        window.grow()
    assert before + 3.5 < window.limit <= before + 4
    for _ in range(10_000):
        window.grow()
    assert window.limit == 128


@given(st.lists(st.booleans(), max_size=200), st.integers(1, 300))
def test_the_window_stays_within_its_bounds(events: list[bool], most: int) -> None:
    window = Window(most)
    for now, good in enumerate(events):
        window.grow() if good else window.shrink(float(now), float(now))
        assert 1 <= window.limit <= most


@given(st.floats(1, 6000), st.lists(st.floats(1, 50), min_size=1, max_size=60))
def test_a_rate_is_never_exceeded(per_minute: float, needs: list[float]) -> None:
    rate, now, used = Rate(per_minute, 0.0), 0.0, 0.0
    for need in needs:
        now += rate.delay(need, now)
        assert rate.delay(need, now) == pytest.approx(0, abs=1e-6)
        rate.take(need)
        used += need
        burst = max(1.0, per_minute / 60)
        assert used <= per_minute / 60 * now + burst + need + 1e-6


def test_no_rate_no_delay() -> None:
    rate = Rate(None, 0.0)
    rate.take(1e9)
    assert rate.delay(1e9, 0.0) == 0


def test_the_circuit_opens_probes_and_gives_up() -> None:
    circuit = Circuit(3, (1.0, 2.0))
    for _ in range(2):
        circuit.failed(0.0, "x", probing=False)
    circuit.succeeded()
    for _ in range(2):
        circuit.failed(0.0, "x", probing=False)
    assert circuit.probe_at is None
    circuit.failed(10.0, "x", probing=False)
    assert circuit.probe_at == 11.0
    circuit.failed(10.5, "a straggler", probing=False)
    circuit.failed(11.5, "x", probing=True)
    assert (circuit.probe_at, circuit.stopped) == (13.5, None)
    circuit.failed(14.0, "the last word", probing=True)
    assert circuit.stopped is not None
    assert "the last word" in circuit.stopped


def test_a_probe_that_succeeds_closes_the_circuit() -> None:
    circuit = Circuit(1, (1.0,))
    circuit.failed(0.0, "x", probing=False)
    circuit.succeeded()
    assert (circuit.probe_at, circuit.stopped) == (None, None)


def gate(most: int, requests: float | None = None, pace: Pace = Pace()) -> Gate:
    return Gate(most, requests, None, pace, 60.0)


def test_the_gate_lets_so_many_in_and_retries_first() -> None:
    async def main() -> None:
        one, order = gate(2), list[str]()

        async def pass_through(name: str, again: bool) -> None:
            ticket = await one.enter(1, again)
            assert ticket is not None
            order.append(name)
            await asyncio.sleep(0.01)
            one.leave(ticket, None, 1)

        tasks = [asyncio.ensure_future(pass_through(f"fresh {i}", False)) for i in range(4)]
        await asyncio.sleep(0)
        assert order == ["fresh 0", "fresh 1"]
        tasks.append(asyncio.ensure_future(pass_through("again", True)))
        await asyncio.gather(*tasks)
        assert order == ["fresh 0", "fresh 1", "again", "fresh 2", "fresh 3"]

    asyncio.run(main())


def test_the_gate_pauses_as_long_as_the_server_asks() -> None:
    async def main() -> None:
        loop, one = asyncio.get_running_loop(), gate(4)
        ticket = await one.enter(1, False)
        assert ticket is not None
        one.leave(ticket, Fault("rate_limited", "x", again=True, overload=True, wait_s=0.2))
        started = loop.time()
        assert await one.enter(1, False) is not None
        assert loop.time() - started >= 0.19

    asyncio.run(main())


def test_the_gate_stops_for_a_server_that_asks_for_hours() -> None:
    async def main() -> None:
        one = gate(1)
        ticket = await one.enter(1, False)
        assert ticket is not None
        waiting = asyncio.ensure_future(one.enter(1, False))
        await asyncio.sleep(0)
        one.leave(ticket, Fault("rate_limited", "x", again=True, wait_s=7200))
        assert await waiting is None
        assert "7,200 s" in (one.stopped or "")

    asyncio.run(main())


def test_the_gate_keeps_to_a_rate() -> None:
    async def main() -> float:
        loop, one = asyncio.get_running_loop(), gate(100, requests=1200)
        started = loop.time()
        for _ in range(24):  # 20 a second: the first 20 at once
            ticket = await one.enter(1, False)
            assert ticket is not None
            one.leave(ticket, None, 1)
        return loop.time() - started

    assert asyncio.run(main()) >= 0.19


def test_cancelled_waiters_leave_no_hole() -> None:
    async def main() -> None:
        one = gate(1)
        ticket = await one.enter(1, False)
        assert ticket is not None
        waiting = [asyncio.ensure_future(one.enter(1, False)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
        one.leave(ticket, None, 1)  # the second one's turn comes, and is cancelled before it runs
        waiting[1].cancel()
        last = await asyncio.wait_for(waiting[2], 1)
        assert last is not None

    asyncio.run(main())


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 30)), max_size=40), st.integers(0, 200))
def test_a_budget_is_never_overdrawn(requests: Sequence[tuple[int, int]], limit: int) -> None:
    async def main() -> None:
        purse, spent, granted = Purse(Budget(tokens=limit)), 0, list[bool]()

        async def one(most: int, actual: int) -> None:
            nonlocal spent
            granted.append(await purse.reserve(Amount(0.0, most, 1)))
            if granted[-1]:
                await asyncio.sleep(0)
                spent += min(actual, most)
                purse.settle(Amount(0.0, most, 1), Amount(0.0, min(actual, most), 1))

        await asyncio.gather(*(one(most, actual) for most, actual in requests))
        assert spent <= limit
        assert len(granted) == len(requests)
        assert all(granted) == (purse.exhausted is None)

    asyncio.run(main())


def test_a_budget_waits_for_what_comes_back_cheaper() -> None:
    async def main() -> None:
        purse, most = Purse(Budget(usd=1.0)), Amount(0.6, 0, 1)
        assert await purse.reserve(most)
        second = asyncio.ensure_future(purse.reserve(most))
        await asyncio.sleep(0)
        assert not second.done()
        purse.settle(most, Amount(0.1, 0, 1))
        assert await second
        third = asyncio.ensure_future(purse.reserve(most))
        await asyncio.sleep(0)
        purse.settle(most, Amount(0.6, 0, 1))
        assert not await third
        assert "0.7" in (purse.exhausted or "")

    asyncio.run(main())


def test_a_cancelled_reservation_is_given_back() -> None:
    async def main() -> None:
        purse, one = Purse(Budget(requests=2)), Amount(0.0, 0, 1)
        assert await purse.reserve(one)
        assert await purse.reserve(one)
        waiting = asyncio.ensure_future(purse.reserve(one))
        await asyncio.sleep(0)
        purse.settle(one, Amount(0.0, 0, 0))
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert await asyncio.wait_for(purse.reserve(one), 1)

    asyncio.run(main())


def test_a_budget_in_dollars_needs_a_price() -> None:
    with pytest.raises(RecipeError, match="price"):
        Client(Endpoint(model="m"), budget=Budget(usd=1))
