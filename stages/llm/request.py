"""What is asked of a model, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from schemas.errors import CuratrixError, GateError, RunError
from schemas.hashing import fingerprint
from stages.llm.endpoint import Endpoint

Kind = Literal[
    "rate_limited", "server_error", "timeout", "connection", "malformed", "empty", "content_filter", "context_length",
    "rejected", "budget", "circuit_open", "not_in_journal",
]  # fmt: skip
ABOUT_THE_RUN: frozenset[Kind] = frozenset({"budget", "circuit_open", "not_in_journal"})
"""Kinds that say nothing about the request: it was never sent, and another run may well get a reply."""


@dataclass(slots=True)
class Request:
    """One chat completion to ask for. Never changed once made (`frozen` would say so, and take four times as long).

    `template` is the `name@version` of the prompt the messages were made with. `sample` tells requests apart that are
    equal otherwise: asking again after an unusable reply needs another number, or the journal gives the same reply.
    `about` is the content hash of the record it is about, noted in the journal so that the record can be forgotten; it
    is no part of the key. None means the endpoint's own value (`temperature`, `max_tokens`) or the server's (`top_p`,
    `seed`).
    """

    messages: tuple[Mapping[str, str], ...]
    template: str
    max_tokens: int | None = None
    temperature: float | None = None
    json_schema: Mapping[str, Any] | None = None
    stop: tuple[str, ...] = ()
    top_p: float | None = None
    seed: int | None = None
    sample: int = 0
    about: str = ""

    def resolved(self, endpoint: Endpoint) -> Request:
        """The same request with the endpoint's values where it had none."""
        if self.max_tokens is not None and self.temperature is not None:
            return self
        most = endpoint.max_tokens if self.max_tokens is None else self.max_tokens
        temperature = endpoint.temperature if self.temperature is None else self.temperature
        return Request(
            self.messages, self.template, most, temperature,
            self.json_schema, self.stop, self.top_p, self.seed, self.sample, self.about,
        )  # fmt: skip

    def characters(self) -> int:
        """How many characters the messages have."""
        total = 0
        for message in self.messages:
            total += len(message["content"])
        return total

    def key(self, model: str) -> str:
        """32 hex digits naming the request as `model` gets it: the key of its reply in journals.

        Raises TypeError where the messages cannot be written as JSON (a lone surrogate).
        """
        sampling = [self.max_tokens, self.temperature, self.top_p, self.seed, self.stop, self.sample]
        return fingerprint([model, self.template, sampling, self.json_schema, self.messages])


@dataclass(slots=True)
class Reply:
    """What the model answered. Like a Request, never changed once made.

    `finish_reason` is the server's word (`stop`, `length`, ...): the text may be cut off. `cost` is what it cost when
    it was paid for, in US dollars (None: price unknown); `replayed` is True where nothing was paid now, because a
    journal or an equal request had it. `reasoning` is what some servers put beside the answer.
    """

    text: str
    finish_reason: str
    model: str
    tokens_in: int
    tokens_out: int
    cost: float | None
    replayed: bool
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class NoReply:
    """Why there is no answer: a stable `kind`, a sentence, and how often the request was sent."""

    kind: Kind
    detail: str
    attempts: int

    @property
    def stops(self) -> bool:
        """Whether this is about the run rather than the request, so that no result should be stored for the row."""
        return self.kind in ABOUT_THE_RUN

    def error(self) -> CuratrixError:
        """The exception for a caller that cannot go on without an answer: GateError for a budget, else RunError."""
        return GateError(self.detail) if self.kind == "budget" else RunError(self.detail)


def or_stop(answer: Reply | NoReply) -> Reply | NoReply:
    """The answer, unless it says that the run cannot go on: then RunError or GateError (budget)."""
    if isinstance(answer, NoReply) and answer.stops:
        raise answer.error()
    return answer
