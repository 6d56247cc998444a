"""Outcomes as columns: new content, what it cost, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa

from schemas.record import MESSAGE
from stages.llm.request import Reply
from stages.reflect.flow import Outcome, Proposal
from stages.reflect.prompts import Call
from stages.reflect.turns import replaced

CONTENT: Final = pa.schema(
    [("messages", pa.list_(MESSAGE)), ("prompt", pa.string()), ("completion", pa.string())],
)
MEASURE: Final = pa.struct(
    [
        ("of", pa.string()),  # original, instruction (what the first call proposed), response (the second)
        ("answer", pa.float64()),  # mean losses in nats per token: see `selecting.Measure`
        ("answer_alone", pa.float64()),
        ("instruction", pa.float64()),
        ("instruction_alone", pa.float64()),
        ("answer_tokens", pa.int64()),
        ("instruction_tokens", pa.int64()),
    ]
)
_ABOUT: Final = pa.schema(
    [
        ("rewrite_status", pa.string()),
        ("model", pa.string()),
        ("prompt_version", pa.string()),
        ("tokens_in", pa.int64()),
        ("tokens_out", pa.int64()),
        ("cost", pa.float64()),  # US dollars, of all replies about the record, used or not; null: price unknown
        ("calls", pa.int64()),
        ("instruction_status", pa.string()),
        ("response_status", pa.string()),
        ("losses", pa.list_(MEASURE)),
    ]
)
ABOUT: Final = tuple(_ABOUT.names)


def result_batch(batch: pa.RecordBatch, outcomes: Sequence[Outcome]) -> pa.RecordBatch:
    """Content columns with rewrites in place, and the columns ABOUT, one row per row of `batch`."""
    about = pa.RecordBatch.from_pylist([_about(outcome) for outcome in outcomes], schema=_ABOUT)
    content = pa.RecordBatch.from_arrays([batch[name] for name in CONTENT.names], schema=CONTENT)
    if any(outcome.pair for outcome in outcomes):
        rows = zip(batch.to_pylist(), outcomes, strict=True)
        merged = [{**row, **replaced(row, outcome.pair)} if outcome.pair else row for row, outcome in rows]
        content = pa.RecordBatch.from_pylist(merged, schema=CONTENT)
    return pa.RecordBatch.from_arrays([*content.columns, *about.columns], schema=pa.schema([*CONTENT, *_ABOUT]))


def _about(outcome: Outcome) -> dict[str, Any]:
    replies = [reply for proposal in outcome.proposals for reply in proposal.replies]
    asked = [proposal for proposal in outcome.proposals if proposal.replies]
    return {
        "rewrite_status": outcome.status,
        "model": replies[-1].model if replies else None,
        "prompt_version": "+".join(proposal.template.version for proposal in asked) or None,
        "tokens_in": sum(reply.tokens_in for reply in replies),
        "tokens_out": sum(reply.tokens_out for reply in replies),
        "cost": _cost(replies),
        "calls": len(replies),
        "instruction_status": _status(outcome.proposals, "instruction"),
        "response_status": _status(outcome.proposals, "response"),
        "losses": [{"of": name, **found._asdict()} for name, found in outcome.measures.items()],
    }


def _cost(replies: Sequence[Reply]) -> float | None:
    costs = [reply.cost for reply in replies if reply.cost is not None]
    return sum(costs) if len(costs) == len(replies) else None


def _status(proposals: Sequence[Proposal], call: Call) -> str | None:
    """What came of a call: `accepted`, or why not; None where it was not made."""
    found = [proposal.fault or "accepted" for proposal in proposals if proposal.template.call == call]
    return found[0] if found else None
