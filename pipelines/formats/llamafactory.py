"""LLaMA-Factory's two shapes for SFT: Alpaca and ShareGPT. Text only, so what has no place in them is refused."""

from __future__ import annotations

import json
from typing import Any, Final

import pyarrow as pa

from pipelines.formats.base import Format, Place, Record
from pipelines.formats.messages import TOLD_BY, arguments_of, tools_of, turns
from schemas.errors import BadRow
from schemas.record import Message

_SPEAKERS: Final = {"user": "human", "assistant": "gpt", "tool": "observation"}
_DEFAULT_WEIGHT: Final = {"assistant": 1.0}


def _said(turn: Message) -> str:
    """The text of a turn, reasoning in front in the tags that reasoning models write."""
    text = turn.get("content") or ""
    thought = turn.get("reasoning")
    return text if thought is None else f"<think>\n{thought}\n</think>\n\n{text}"


def _opened(record: Record) -> tuple[str, list[Message]]:
    """(system prompt or "", the other turns), alternating and ending with an answer. BadRow otherwise."""
    said = turns(record)
    for turn in said:
        weight = turn.get("weight")
        if weight is not None and weight != _DEFAULT_WEIGHT.get(turn["role"], 0.0):
            raise BadRow("weights", "turns have weights of their own")
    system = ""
    if said[0]["role"] == "system":
        system, said = _said(said[0]), said[1:]
    asked = [turn["role"] in ("user", "tool") for turn in said]
    alternating = all(at_even == (at % 2 == 0) for at, at_even in enumerate(asked)) and len(asked) % 2 == 0
    if not said or not alternating or any(turn["role"] == "system" for turn in said):
        raise BadRow("not_alternating", "turns are not question and answer in turn")
    return system, said


def _alpaca(record: Record, place: Place) -> dict[str, Any]:
    system, said = _opened(record)
    if tools_of(record) or any(turn["role"] == "tool" or turn.get("tool_calls") for turn in said):
        raise BadRow("tools", "tools have no place in this shape")
    texts = [_said(turn) for turn in said]
    history = [[question, answer] for question, answer in zip(texts[:-2:2], texts[1:-2:2], strict=True)]
    return {
        "instruction": texts[-2],
        "input": "",
        "output": texts[-1],
        "system": system or None,
        "history": history or None,
    }


def _spoken(turn: Message) -> dict[str, str]:
    calls = turn.get("tool_calls")
    if not calls:
        return {"from": _SPEAKERS[turn["role"]], "value": _said(turn)}
    if turn.get("content") or turn.get("reasoning"):
        raise BadRow("text_beside_call", "a turn has text and tool calls")
    made = [{"name": call["name"], "arguments": arguments_of(call)} for call in calls]
    return {"from": "function_call", "value": json.dumps(made[0] if len(made) == 1 else made, ensure_ascii=False)}


def _sharegpt(record: Record, place: Place) -> dict[str, Any]:
    system, said = _opened(record)
    tools = tools_of(record)
    return {
        "conversations": [_spoken(turn) for turn in said],
        "system": system or None,
        "tools": json.dumps(tools, ensure_ascii=False) if tools else None,
    }


_SPOKEN: Final = pa.struct([("from", pa.string()), ("value", pa.string())])
ALPACA: Final = Format(
    "alpaca",
    "LLaMA-Factory: `instruction`, `output`, `system`, `history`",
    pa.schema(
        [
            ("instruction", pa.string()),
            ("input", pa.string()),
            ("output", pa.string()),
            ("system", pa.string()),
            ("history", pa.list_(pa.list_(pa.string()))),
            ("record_id", pa.string()),
        ]
    ),
    (*TOLD_BY, "tools"),
    _alpaca,
)
SHAREGPT: Final = Format(
    "sharegpt",
    "LLaMA-Factory: `conversations` of from/value turns, with tool calls",
    pa.schema(
        [
            ("conversations", pa.list_(_SPOKEN)),
            ("system", pa.string()),
            ("tools", pa.string()),
            ("record_id", pa.string()),
        ]
    ),
    (*TOLD_BY, "tools"),
    _sharegpt,
)
