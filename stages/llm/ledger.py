"""What asking costs: counted as replies arrive, and kept within a budget."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from stages.llm.endpoint import Budget


@dataclass(frozen=True)
class Usage:
    """What a client did so far. Money in US dollars, None where the price is unknown.

    `answered` and `failed` (by kind) are requests; `replayed` came from a journal, `shared` from an equal request of
    the same run; `retried` counts attempts that gave nothing: what a server charges for those it does not say.
    `estimated` replies came without token counts, which were estimated from their characters.
    """

    answered: int = 0
    replayed: int = 0
    shared: int = 0
    retried: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float | None = None
    estimated: int = 0


class Ledger:
    """Running totals behind `Usage`."""

    def __init__(self, priced: bool) -> None:
        self.answered = self.replayed = self.shared = self.retried = self.estimated = 0
        self.tokens_in = self.tokens_out = 0
        self.cost: float | None = 0.0 if priced else None
        self.failed = Counter[str]()

    def paid(self, tokens_in: int, tokens_out: int, cost: float | None) -> None:
        """Count what a response took."""
        self.tokens_in += tokens_in
        self.tokens_out += tokens_out
        if self.cost is not None and cost is not None:
            self.cost += cost

    def usage(self) -> Usage:
        """The totals now."""
        return Usage(
            self.answered, self.replayed, self.shared, self.retried, dict(self.failed),
            self.tokens_in, self.tokens_out, self.cost, self.estimated,
        )  # fmt: skip


class Amount(NamedTuple):
    """Something a budget limits."""

    usd: float
    tokens: int
    requests: int


NOTHING = Amount(0.0, 0, 0)


@dataclass(slots=True)
class Total:
    """A running sum of amounts."""

    usd: float = 0.0
    tokens: int = 0
    requests: int = 0

    def add(self, amount: Amount) -> None:
        """Add an amount."""
        usd, tokens, requests = amount
        self.usd += usd
        self.tokens += tokens
        self.requests += requests

    def take(self, amount: Amount) -> None:
        """Take an amount away."""
        usd, tokens, requests = amount
        self.usd -= usd
        self.tokens -= tokens
        self.requests -= requests


class Purse:
    """A budget that cannot be overdrawn: the most a request can cost is set aside before it is sent.

    Where that does not fit, the request waits until others have come back cheaper than feared; where none is under
    way, the budget is used up and everything after is refused.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._limits = budget.usd, budget.tokens, budget.requests
        self._limited = self._limits != (None, None, None)
        self._spent, self._held, self._holders = Total(), Total(), 0
        self._waiting = deque[tuple[asyncio.Future[bool], Amount]]()
        self.exhausted: str | None = None

    async def reserve(self, most: Amount) -> bool:
        """Set `most` aside; False where the budget is used up. Every True must be followed by one `settle`."""
        if not self._limited:
            return True
        if not self._waiting and self.exhausted is None and self._fits(most):
            self._hold(most)
            return True
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        entry = (turn, most)
        self._waiting.append(entry)
        self._pump()
        try:
            return await turn
        except asyncio.CancelledError:
            if entry in self._waiting:
                self._waiting.remove(entry)
            elif not turn.cancelled() and turn.result():
                self.settle(most, NOTHING)
            raise

    def settle(self, most: Amount, actual: Amount) -> None:
        """Replace what was set aside by what it came to."""
        if not self._limited:
            return
        self._holders -= 1
        if self._holders:
            self._held.take(most)
        else:  # no rounding left over from sums of dollars
            self._held = Total()
        self._spent.add(actual)
        self._pump()

    def _pump(self) -> None:
        while self._waiting:
            turn, most = self._waiting[0]
            fits = self.exhausted is None and self._fits(most)
            if not fits and self._holders and self.exhausted is None:
                return
            self._waiting.popleft()
            if turn.done():
                continue
            if fits:
                self._hold(most)
            elif self.exhausted is None:
                self.exhausted = self._sentence(most)
            turn.set_result(fits)

    def _hold(self, most: Amount) -> None:
        self._held.add(most)
        self._holders += 1

    def _fits(self, most: Amount) -> bool:
        (usd, tokens, requests), spent, held = self._limits, self._spent, self._held
        return (
            (usd is None or spent.usd + held.usd + most.usd <= usd)
            and (tokens is None or spent.tokens + held.tokens + most.tokens <= tokens)
            and (requests is None or spent.requests + held.requests + most.requests <= requests)
        )

    def _sentence(self, most: Amount) -> str:
        limits = {key: value for key, value in self._budget.model_dump().items() if value is not None}
        spent = {key: round(getattr(self._spent, key), 6) for key in limits}
        return f"the budget {limits} is used up: {spent} spent, and the next request may need {most._asdict()}"
