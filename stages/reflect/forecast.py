"""What rewriting would cost, from a sample of the records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from stages.llm.endpoint import Endpoint
from stages.llm.estimate import estimate, tokens_of
from stages.llm.request import Request
from stages.reflect.checked import checks_of, keeps_instruction
from stages.reflect.prompts import Template, request
from stages.reflect.turns import Turn, read_turn

_CRITIQUE_TOKENS = 300
_GROWTH = 2.0
"""Assumed, since nothing was asked yet: a critique of 300 tokens, and a new text twice as long as the old one."""


def forecast(endpoint: Endpoint, templates: Sequence[Template], sample: pa.Table, rows: float) -> Mapping[str, str]:
    """Calls, tokens and money for `rows` records like those of `sample`, without re-asks; {} for an empty sample."""
    if not sample.num_rows:
        return {}
    if endpoint.url is None:
        return {"requests": "none: replies come from journals"}
    requests: list[Request] = []
    received = 0.0
    for row in sample.to_pylist():
        turn = read_turn(row)
        if isinstance(turn, Turn):
            calls = [each for each in templates if each.call == "response" or not keeps_instruction(row)]
            requests += [request(template, turn, checks_of(row, turn))[0] for template in calls]
            received += sum(_reply_tokens(template, turn) for template in calls)
    count = round(len(requests) * rows / sample.num_rows)
    return estimate(endpoint, requests, count, received / len(requests) if requests else 0.0).lines()


def _reply_tokens(template: Template, turn: Turn) -> float:
    texts = turn.pair.answer + (turn.pair.instruction if template.call == "instruction" else "")
    return _CRITIQUE_TOKENS + _GROWTH * tokens_of(len(texts))
