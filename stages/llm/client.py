"""A client for one OpenAI-compatible endpoint: everything is asked once, paid once, and kept."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Self

from schemas.errors import RecipeError, RunError
from stages.llm.endpoint import Budget, Endpoint
from stages.llm.estimate import tokens_of
from stages.llm.gate import Gate, Pace
from stages.llm.journal import Journal
from stages.llm.ledger import NOTHING, Amount, Ledger, Purse, Usage
from stages.llm.request import ABOUT_THE_RUN, NoReply, Reply, Request
from stages.llm.secrets import load_key_async, scrubber
from stages.llm.sender import Sender, Sent
from stages.llm.wire import Answer, Fault

if TYPE_CHECKING:
    from stages.llm.transport import Transport


class Client:
    """Asks one endpoint. `async with Client(endpoint, journal, budget) as client: await client.ask(request)`.

    Any number of `ask` may wait at once: the client sends as many as endpoint and server allow. It belongs to the
    event loop it was entered in. The journal may be shared with other clients and is closed by who opened it.
    Raises RecipeError for a budget in usd without a price.
    """

    def __init__(
        self, endpoint: Endpoint, journal: Journal | None = None, budget: Budget = Budget(), pace: Pace = Pace()
    ) -> None:
        if budget.usd is not None and endpoint.price is None:
            raise RecipeError(f"a budget in usd needs the price of {endpoint.model}: set `price: {{input, output}}`")
        self._endpoint, self._pace = endpoint, pace
        self._journal = Journal() if journal is None else journal
        self._ledger, self._purse = Ledger(endpoint.price is not None), Purse(budget)
        self._asked: dict[str, asyncio.Future[Reply | NoReply | None] | None] = {}  # None: nobody waits for the same
        self._transport: Transport | None = None
        self._gate: Gate | None = None
        self._sender: Sender | None = None
        self._scrub = scrubber(None)

    async def __aenter__(self) -> Self:
        end = self._endpoint
        if end.url is not None:
            from stages.llm.transport import Transport

            key = await load_key_async(end)
            self._scrub = scrubber(key)
            self._transport = Transport.open(end.url, key, end.timeout_s)
            self._gate = Gate(
                end.concurrency, end.requests_per_minute, end.tokens_per_minute, self._pace, end.timeout_s
            )
            self._sender = Sender(end, self._transport, self._gate, self._pace, self._ledger)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._gate is not None and self._transport is not None:
            self._gate.close()
            await self._transport.close()
        self._gate = self._transport = self._sender = None
        self._journal.sync()

    @property
    def usage(self) -> Usage:
        """What was spent so far."""
        return self._ledger.usage()

    @property
    def window(self) -> int:
        """How many requests may be in flight now."""
        return 0 if self._gate is None else self._gate.limit

    async def ask(self, request: Request) -> Reply | NoReply:
        """The reply to a request: from a journal, from an equal request under way, or from the server.

        Never raises for what a server does. Raises RunError where the journal cannot be written, or outside of
        `async with`.
        """
        request = request.resolved(self._endpoint)
        try:
            key = request.key(self._endpoint.model)
        except TypeError as error:
            return self._failed(NoReply("rejected", f"the request cannot be written as JSON: {error}", 0))
        while True:
            if (known := self._journal.get(key)) is not None:
                self._ledger.replayed += 1
                return known
            if self._sender is None:
                return self._unsent(key)
            if key not in self._asked:
                return await self._first(self._sender, key, request)
            answer = await self._same(key)
            if answer is not None:  # None: the one that asked first was cancelled
                self._ledger.shared += 1
                return replace(answer, replayed=True) if isinstance(answer, Reply) else answer

    async def _first(self, sender: Sender, key: str, request: Request) -> Reply | NoReply:
        """Ask the server: within the budget, and with what it says kept before anybody hears of it."""
        most, spent = self._most(request), None
        answer: Reply | NoReply | None = None
        self._asked[key] = None
        try:
            if not await self._purse.reserve(most):
                answer = self._failed(NoReply("budget", self._purse.exhausted or "", 0))
                return answer
            spent = NOTHING
            heard, spent = self._heard(request, await sender.send(request))
            self._keep(key, request, heard)
            answer = heard
            return answer
        finally:
            if spent is not None:
                self._purse.settle(most, spent)
            if (others := self._asked.pop(key)) is not None:
                others.set_result(answer)

    async def _same(self, key: str) -> Reply | NoReply | None:
        """What comes of an equal request that is under way."""
        turn = self._asked[key]
        if turn is None:
            turn = self._asked[key] = asyncio.get_running_loop().create_future()
        return await asyncio.shield(turn)

    def _unsent(self, key: str) -> NoReply:
        if self._endpoint.url is not None:
            raise RunError("the client is not open: use `async with Client(...) as client`")
        return self._failed(NoReply("not_in_journal", self._absent(key), 0))

    def _heard(self, request: Request, came: Sent) -> tuple[Reply | NoReply, Amount]:
        """Count what came back; a completion without a text is paid for all the same."""
        answer, attempts = came
        if isinstance(answer, Fault):
            sent = int(attempts > 0 or answer.kind not in ABOUT_THE_RUN)  # a probe is no attempt of its request
            return self._failed(NoReply(answer.kind, self._scrub(answer.detail), attempts)), Amount(0.0, 0, sent)
        tokens_in, tokens_out = answer.tokens_in, answer.tokens_out
        if tokens_in is None or tokens_out is None:
            self._ledger.estimated += 1
            tokens_in = tokens_of(request.characters())
            tokens_out = tokens_of(len(answer.text) + len(answer.reasoning))
        cost = self._endpoint.cost(tokens_in, tokens_out)
        self._ledger.paid(tokens_in, tokens_out, cost)
        spent = Amount(cost or 0.0, tokens_in + tokens_out, 1)
        if (fault := _unusable(answer)) is not None:
            return self._failed(NoReply(fault.kind, fault.detail, attempts)), spent
        self._ledger.answered += 1
        return self._reply(answer, tokens_in, tokens_out, cost), spent

    def _reply(self, answer: Answer, tokens_in: int, tokens_out: int, cost: float | None) -> Reply:
        return Reply(
            self._scrub(answer.text), answer.finish_reason, self._scrub(answer.model) or self._endpoint.model,
            tokens_in, tokens_out, cost, False, self._scrub(answer.reasoning),
        )  # fmt: skip

    def _keep(self, key: str, request: Request, answer: Reply | NoReply) -> None:
        if isinstance(answer, Reply) or not answer.stops:
            self._journal.put(key, request.template, answer, request.about)

    def _failed(self, answer: NoReply) -> NoReply:
        self._ledger.failed[answer.kind] += 1
        return answer

    def _most(self, request: Request) -> Amount:
        """The most a request can cost: no token is shorter than a byte; chat templates add a few per message."""
        size, out = 16, request.max_tokens or 0
        for message in request.messages:
            content = message["content"]
            size += 16 + (len(content) if content.isascii() else len(content.encode()))
        return Amount(self._endpoint.cost(size, out) or 0.0, size + out, 1)

    def _absent(self, key: str) -> str:
        return (
            f"no journal has a reply for request {key} to {self._endpoint.model}, and the endpoint has no url: "
            f"set `url` to ask a server, or add the journal that has it"
        )


def _unusable(answer: Answer) -> Fault | None:
    if answer.finish_reason == "content_filter":
        return Fault("content_filter", "the server's content filter withheld the reply")
    if not answer.text or answer.text.isspace():
        spent = "; all tokens went into reasoning: raise max_tokens" if answer.reasoning else ""
        return Fault("empty", f"the reply has no text (finish reason: {answer.finish_reason or 'none'}{spent})")
    return None
