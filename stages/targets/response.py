"""What a reasoning model answered in a record: the question, its thought, its answer, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from stages.fences import left_open
from stages.trajectories.meta import read_meta

Row = Mapping[str, Any]
Turn = dict[str, Any]

_OPEN: Final = "<think>"
_CLOSE: Final = "</think>"
_FINISHED: Final = frozenset(
    {"stop", "eos", "eos_token", "end_turn", "stop_sequence", "tool_calls", "tool_use", "function_call", "completed"}
)
_FINISH_KEYS: Final = ("finish_reason", "stop_reason", "finish")
_NESTED: Final = ("response", "choices", "generation", "output", "usage")


class Said(NamedTuple):
    """One turn taken apart: its thought ("" for none), the rest, and what keeps it from being taken apart."""

    thought: str
    answer: str
    thinks: bool  # whether there is a thought, were it an empty one
    fault: str | None = None


class Response(NamedTuple):
    """The target of a record. `turns` are its messages, None where prompt and completion hold the response.

    `answer` is the last turn's text, `thinks` whether any turn holds a thought, were it an empty one.
    """

    question: str
    thought: str
    answer: str
    thinks: bool
    turns: list[Turn] | None
    fault: str | None


def split(text: str, reasoning: str | None = None) -> Said:
    """Take a text apart that may hold a thought, beside the reasoning that stands in a field of its own.

    A bare `</think>` closes a block that the chat template opened. More than one thought is a fault.
    """
    opened, closed, beside = text.count(_OPEN), text.count(_CLOSE), (reasoning or "").strip()
    if not opened and not closed:
        return Said(beside, text.strip(), bool(beside))
    if opened > closed:
        return Said("", text, True, "think block not closed")
    if beside:
        return Said("", text, True, "think tags in the answer")
    if closed > 1:
        return Said("", text, True, "several think blocks")
    before, _, after = text.partition(_CLOSE)
    if not opened:
        return Said(before.strip(), after.strip(), True)
    if _OPEN not in before:
        return Said("", text, True, "think block not closed")
    lead, _, thought = before.partition(_OPEN)
    return Said(thought.strip(), f"{lead.strip()}\n\n{after.strip()}".strip(), True)


def read_response(row: Row) -> Response | None:
    """The response of a record; None for a record that holds none (a document, a question alone)."""
    turns: list[Turn] = [_bare(turn) for turn in row["messages"] or ()]
    if row["completion"] is not None:
        said = split(row["completion"], row["reasoning"])
        question = row["prompt"] if row["prompt"] is not None else _asked(turns)
        return Response(question, said.thought, said.answer, said.thinks, None, said.fault)
    if not turns or turns[-1]["role"] != "assistant":
        return None
    last = {**turns[-1], "reasoning": turns[-1].get("reasoning") or row["reasoning"]}
    spoken = [turn for turn in (*turns[:-1], last) if turn["role"] == "assistant"]
    parts = [split(turn.get("content") or "", turn.get("reasoning")) for turn in spoken]
    fault = next((part.fault for part in parts if part.fault), None)
    thinks = any(part.thinks for part in parts)
    return Response(_asked(turns[:-1]), parts[-1].thought, parts[-1].answer, thinks, turns, fault)


def unfinished(meta: str | None) -> str | None:
    """The finish reason that meta tells, where it is another than a regular stop."""
    for place in _places(read_meta(meta)):
        for key in _FINISH_KEYS:
            reason = place.get(key)
            if isinstance(reason, str) and reason.lower() not in _FINISHED:
                return reason
    return None


def cut_off(answer: str) -> bool:
    """Whether a code fence is left open."""
    return left_open(answer)


def _places(value: Any) -> list[dict[str, Any]]:
    """Where a finish reason may stand: meta itself, and the usual objects in it."""
    if not isinstance(value, dict):
        return []
    nested = [value.get(key) for key in _NESTED]
    firsts = [item[0] if isinstance(item, list) and item else item for item in nested]
    return [place for place in (value, *firsts) if isinstance(place, dict)]


def _asked(turns: Sequence[Turn]) -> str:
    """The last question of the conversation."""
    return next((turn.get("content") or "" for turn in reversed(turns) if turn["role"] == "user"), "")


def _bare(turn: Row) -> Turn:
    return {key: value for key, value in turn.items() if value is not None}
