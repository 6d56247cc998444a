"""What scoring a pool would take, from a sample of it and a measurement here."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from schemas.errors import BadRow
from stages.student.builtin import Size, draft
from stages.student.cost import cost, speed
from stages.student.loss import Pair, tokenised
from stages.student.models import Student, load
from stages.student.turns import Exchange, asked, exchanges, plain

_TRAINING = 3
"""A training step takes as long as three forward passes."""
_MEASURED = 2048


def estimate(sample: pa.Table, rows: int, model: str | None, size: Size, device: str, dtype: str) -> Mapping[str, str]:
    """Tokens and time of scoring `rows` records like those of `sample`; empty where none of those can be scored."""
    batches = sample.combine_chunks().to_batches()
    said = [found for batch in batches for found in exchanges(batch) if isinstance(found, Exchange)]
    if not said:
        return {}
    student = draft(said, size) if model is None else load(model, device, dtype)
    tokens = _tokens(student, said, rows, sample.num_rows)
    rate = speed(student, _MEASURED)
    told = {"model": f"{cost(student).parameters:,} parameters, {rate:,.0f} tokens/s here"}
    if model is None:
        trained = min(size.tokens, tokens * size.epochs)
        told["training"] = f"built-in model on {trained:,} tokens, {_duration(_TRAINING * trained / rate)}"
    return {**told, "scoring": f"{tokens:,} tokens, {_duration(tokens / rate)}"}


def _tokens(student: Student, said: list[Exchange], rows: int, sampled: int) -> int:
    """Tokens of both passes: prompts once, responses twice."""
    pairs = [pair for each in said for pair in (Pair(_shown(student, each), each.response), Pair("", each.response))]
    return round(sum(len(item.ids) for item in tokenised(student, pairs)) * rows / sampled)


def _shown(student: Student, exchange: Exchange) -> str:
    """About as long as what the student will see."""
    try:
        return asked(student, exchange)
    except BadRow:
        return plain(exchange.before)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"
