"""What asking would cost, before anything is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

from stages.llm.endpoint import Endpoint
from stages.llm.request import Request

CHARACTERS_PER_TOKEN: Final = 4.0
"""An estimate: about 4 for English prose, nearer 3 for code, below 2 for Chinese. Servers count exactly."""


def tokens_of(characters: int) -> int:
    """About how many tokens so many characters are."""
    return ceil(characters / CHARACTERS_PER_TOKEN)


@dataclass(frozen=True)
class Estimate:
    """What a number of requests would take. `cost` in US dollars, None where the price is unknown."""

    requests: int
    tokens_in: int
    tokens_out: int
    cost: float | None

    def lines(self) -> Mapping[str, str]:
        """The same in words, as `Stage.estimate` gives it."""
        tokens = f"about {self.tokens_in:,} in, {self.tokens_out:,} out (at {CHARACTERS_PER_TOKEN:g} characters each)"
        cost = "unknown: the endpoint has no price" if self.cost is None else f"about {self.cost:,.2f} USD"
        return {"requests": f"{self.requests:,}", "tokens": tokens, "cost": cost}


def estimate(
    endpoint: Endpoint, sample: Sequence[Request], requests: int, output_tokens: float | None = None
) -> Estimate:
    """What `requests` requests like those of `sample` would take, each sent once and none in the journal yet.

    `output_tokens` is the mean length of a reply; where it is not known, every reply is as long as `max_tokens` allows.
    """
    if not sample or not requests:
        return Estimate(requests, 0, 0, endpoint.cost(0, 0))
    resolved = [request.resolved(endpoint) for request in sample]
    sent = sum(tokens_of(request.characters()) for request in resolved) / len(resolved)
    most = sum(request.max_tokens or 0 for request in resolved) / len(resolved)
    received = most if output_tokens is None else min(output_tokens, most)
    tokens_in, tokens_out = round(sent * requests), round(received * requests)
    return Estimate(requests, tokens_in, tokens_out, endpoint.cost(tokens_in, tokens_out))
