"""The part of a record that is rewritten: its last instruction and answer, with what stands before them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from schemas.conversation import conversation

Row = Mapping[str, Any]
TURN_COLUMNS: Final = (
    "kind", "messages", "prompt", "completion", "reasoning", "answer", "language", "tests", "test_code", "test_type",
    "entry_point", "solutions", "judge",
)  # fmt: skip
_KINDS: Final = ("sft", "code")


@dataclass(frozen=True)
class Pair:
    """An instruction and the answer to it; they are replaced together or not at all."""

    instruction: str
    answer: str


@dataclass(frozen=True)
class Turn:
    """What a rewrite starts from: the last pair, and before it the system prompt and earlier turns as (role, text)."""

    pair: Pair
    system: str = ""
    history: tuple[tuple[str, str], ...] = ()


def read_turn(row: Row) -> Turn | str:
    """The turn to rewrite of a canonical row (columns TURN_COLUMNS); for other records, why they stay as they are."""
    if row.get("kind") not in _KINDS:
        return "not an instruction"
    messages = row.get("messages") or conversation(row)
    if not messages:
        return "not an instruction"
    reason = _unfit(messages)
    if reason:
        return reason
    *before, question, reply = messages
    system = "\n\n".join(turn["content"] for turn in before if turn["role"] == "system")
    history = tuple((turn["role"], turn["content"]) for turn in before if turn["role"] != "system")
    return Turn(Pair(question["content"], reply["content"]), system, history)


def replaced(row: Row, pair: Pair) -> dict[str, Any]:
    """The content columns that hold `pair` in place of the row's last turn: `messages`, or `prompt` and `completion`.

    System prompt, earlier turns and every other field of the last two messages stay.
    """
    messages = row.get("messages")
    if not messages:
        return {"prompt": pair.instruction, "completion": pair.answer}
    *before, question, reply = messages
    return {"messages": [*before, {**question, "content": pair.instruction}, {**reply, "content": pair.answer}]}


def _unfit(messages: Sequence[Mapping[str, Any]]) -> str:
    """Why a conversation cannot be rewritten at its end; "" where it can."""
    if any(turn.get("tool_calls") or turn.get("tool_call_id") or turn["role"] == "tool" for turn in messages):
        return "uses tools"
    if any(not isinstance(turn.get("content"), str) for turn in messages):
        return "not an instruction"
    last = messages[-1]
    if last["role"] != "assistant" or not last["content"].strip():
        return "no answer"
    if len(messages) < 2 or messages[-2]["role"] != "user" or not messages[-2]["content"].strip():
        return "not an instruction"
    if last.get("reasoning"):
        return "has reasoning"  # it led to the old answer and would contradict a new one
    return "answer not trained on" if last.get("weight") == 0 else ""
