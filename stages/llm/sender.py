"""One request to the server and back, as often as it takes."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from stages.llm.dialect import Dialect, Form
from stages.llm.endpoint import Endpoint
from stages.llm.estimate import tokens_of
from stages.llm.gate import Gate, Pace, Ticket
from stages.llm.ledger import Ledger
from stages.llm.request import Request
from stages.llm.wire import Answer, Fault, body, read

if TYPE_CHECKING:
    from stages.llm.transport import Response, Transport

_REJECTED_AT_FIRST = 20
"""So many rejections before any success mean that the endpoint is set up wrongly."""


Sent = tuple[Answer | Fault, int]
"""What came of a request, and after how many attempts."""


class Sender:
    """Sends, backs off, sends again; a request that waits for its next attempt leaves its place to another."""

    def __init__(self, endpoint: Endpoint, transport: Transport, gate: Gate, pace: Pace, ledger: Ledger) -> None:
        self._endpoint, self._transport, self._gate = endpoint, transport, gate
        self._pace, self._ledger = pace, ledger
        self._dialect = Dialect(endpoint.structured)
        self._mean_out = float(endpoint.max_tokens)
        self._worked, self._rejected = False, 0

    async def send(self, request: Request) -> Sent:
        """The completion, or the fault after which trying again makes no sense."""
        chosen: Form | None = None
        attempts, again = 0, False
        has_schema, tokens_in = request.json_schema is not None, tokens_of(request.characters())
        while True:
            ticket = await self._gate.enter(tokens_in + min(self._mean_out, request.max_tokens or 0), again)
            if ticket is None:
                return self._stopped(), attempts
            form, again = chosen or self._dialect.form(), True
            try:
                response = await self._transport.post(body(request, self._endpoint.model, form.level, form.length))
            except BaseException:  # cancelled: the place is free again, and nothing was learnt
                self._gate.give_back(ticket)
                raise
            result = self._came_back(ticket, response, tokens_in)
            if isinstance(result, Answer):
                self._dialect.accepted(form, has_schema)
                return result, attempts + 1
            if (other := self._dialect.other(form, result, has_schema)) is not None:
                chosen = other
                continue
            attempts += not ticket.probing  # a probe is not held against its request
            if not self._worth_trying(result) or attempts >= self._endpoint.max_attempts:
                return (self._stopped() if self._gate.stopped else result), attempts
            self._ledger.retried += 1
            if not ticket.probing:
                await asyncio.sleep(self._back_off(attempts))

    def _came_back(self, ticket: Ticket, response: Response | Fault, tokens_in: int) -> Answer | Fault:
        result = response if isinstance(response, Fault) else read(*response)
        if isinstance(result, Fault):
            self._gate.leave(ticket, result)
            return result
        self._worked = True
        out = result.tokens_out if result.tokens_out is not None else tokens_of(len(result.text))
        self._mean_out += 0.05 * (out - self._mean_out)
        self._gate.leave(ticket, None, (result.tokens_in or tokens_in) + out)
        return result

    def _back_off(self, attempts: int) -> float:
        """Exponential, with jitter so that requests that failed together do not come back together."""
        return min(self._pace.longest, self._pace.first * 2.0 ** (attempts - 1)) * random.uniform(0.5, 1.0)

    def _worth_trying(self, fault: Fault) -> bool:
        """Whether to send again; stops the gate where the fault is everybody's."""
        self._rejected += fault.kind == "rejected"
        if fault.fatal and not (self._worked and fault.status in (403, 404)):
            self._gate.stop(f"{fault.detail} ({self._how_to_mend(fault.status)})")
        elif not self._worked and self._rejected >= _REJECTED_AT_FIRST:
            self._gate.stop(f"the server rejected the first {self._rejected} requests: {fault.detail}")
        return fault.again

    def _how_to_mend(self, status: int) -> str:
        block = self._endpoint.api_key_block
        where = f"the Prefect block '{block}'" if block else f"the environment variable {self._endpoint.api_key_env}"
        if status in (401, 403):
            return f"check the key in {where}"
        return f"check url and model '{self._endpoint.model}'" if status == 404 else "the account has no credit left"

    def _stopped(self) -> Fault:
        return Fault("circuit_open", f"gave up on {self._endpoint.url}: {self._gate.stopped}; replies so far are kept")
