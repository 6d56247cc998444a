"""Who may send now: window, rates, pauses the server asked for, and the circuit breaker, for one endpoint."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

from stages.llm.limits import Circuit, Rate, Window
from stages.llm.wire import Fault


class Pace(NamedTuple):
    """Waiting times in seconds."""

    first: float = 0.5
    """Back-off before the second attempt; doubles with each further one."""
    longest: float = 30.0
    """Back-off at most."""
    patience: float = 900.0
    """A server that asks to wait longer than this ends the run: better start it again later."""
    probes: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
    """Waits before the probes of a server that fails every request."""


class Ticket(NamedTuple):
    """The right to send one request."""

    started: float
    tokens: float
    probing: bool


class _Waiter(NamedTuple):
    turn: asyncio.Future[Ticket | None]
    tokens: float


class Gate:
    """Lets requests through one by one; retries go first. Belongs to one event loop."""

    def __init__(self, most: int, requests: float | None, tokens: float | None, pace: Pace, timeout_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._window = Window(most)
        self._requests, self._tokens = Rate(requests, self._loop.time()), Rate(tokens, self._loop.time())
        self._rated = requests is not None or tokens is not None
        self._circuit = Circuit(max(20, 2 * most), pace.probes)
        self._pace, self._slow = pace, timeout_s / 2
        self._active, self._resume_at, self._probing = 0, 0.0, False
        self._again, self._fresh = deque[_Waiter](), deque[_Waiter]()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def stopped(self) -> str | None:
        """Why nothing will be sent any more."""
        return self._circuit.stopped

    @property
    def limit(self) -> int:
        """How many requests may be in flight now."""
        return int(self._window.limit)

    async def enter(self, tokens: float, again: bool) -> Ticket | None:
        """Wait for a turn; None when there will be none. Every ticket must be handed back by one `leave`."""
        if self.stopped is None and not self._again and not self._fresh and not self._wait(tokens):
            return self._admit(tokens)
        waiter = _Waiter(self._loop.create_future(), tokens)
        queue = self._again if again else self._fresh
        queue.append(waiter)
        self._pump()
        try:
            return await waiter.turn
        except asyncio.CancelledError:
            self._forget(waiter, queue)
            raise

    def leave(self, ticket: Ticket, fault: Fault | None, tokens: float | None = None) -> None:
        """A request came back: with a completion, that took so many tokens, or with a fault."""
        now = self._loop.time()
        self._active -= 1
        self._probing = self._probing and not ticket.probing
        if tokens is not None:
            self._tokens.take(tokens - ticket.tokens)
        if fault is None or not (fault.again or fault.fatal):
            self._circuit.succeeded()
        if fault is None and now - ticket.started < self._slow:
            self._window.grow()
        elif fault is None or fault.overload or fault.kind in ("timeout", "connection"):
            self._window.shrink(ticket.started, now)
        if fault is not None:
            self._failed(ticket, fault, now)
        self._pump()

    def give_back(self, ticket: Ticket) -> None:
        """The request was cancelled: it says nothing about the server."""
        self._active -= 1
        self._probing = self._probing and not ticket.probing
        self._pump()

    def stop(self, why: str) -> None:
        """Let nobody through any more."""
        self._circuit.stop(why)
        self._pump()

    def close(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _failed(self, ticket: Ticket, fault: Fault, now: float) -> None:
        if fault.again:
            self._circuit.failed(now, fault.detail, ticket.probing)
        if fault.wait_s is not None and fault.again:
            self._resume_at = max(self._resume_at, now + fault.wait_s)
            if fault.wait_s > self._pace.patience:
                self._circuit.stop(f"the server asks to wait {fault.wait_s:,.0f} s ({fault.detail})")

    def _wait(self, tokens: float) -> float:
        """Seconds until a request may go: 0 now, infinite when another has to come back first."""
        probe_at = self._circuit.probe_at
        if self._active >= int(self._window.limit) or (probe_at is not None and self._probing):
            return float("inf")
        now = self._loop.time()
        pause = max(self._resume_at - now, (probe_at or 0.0) - now, 0.0)
        return max(pause, self._requests.delay(1, now), self._tokens.delay(tokens, now)) if self._rated else pause

    def _admit(self, tokens: float) -> Ticket:
        self._active += 1
        if self._rated:
            self._requests.take(1)
            self._tokens.take(tokens)
        self._probing = probing = self._circuit.probe_at is not None
        return Ticket(self._loop.time(), tokens, probing)

    def _pump(self) -> None:
        while queue := self._again or self._fresh:
            waiter = queue[0]
            wait = 0.0 if self.stopped else self._wait(waiter.tokens)
            if wait > 0:
                self._wake_in(wait)
                return
            queue.popleft()
            if not waiter.turn.done():
                waiter.turn.set_result(None if self.stopped else self._admit(waiter.tokens))

    def _wake_in(self, wait: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if wait == float("inf") else self._loop.call_later(wait, self._pump)

    def _forget(self, waiter: _Waiter, queue: deque[_Waiter]) -> None:
        """A cancelled waiter leaves the queue, or hands back the ticket that was on its way."""
        if waiter in queue:
            queue.remove(waiter)
        elif not waiter.turn.cancelled() and (ticket := waiter.turn.result()) is not None:
            self.give_back(ticket)
