"""Conversations: the `messages` column of a run's own `data/`, TRL's conversational shapes, the turns they share."""

from __future__ import annotations

import json
from typing import Any, Final

import orjson
import pyarrow as pa

from pipelines.formats.base import JSON_LIST, Format, Place, Record
from schemas.adapters.base import json_equal
from schemas.conversation import conversation
from schemas.errors import BadRow
from schemas.record import MESSAGE, RECORD, Message, ToolCall

_MESSAGES: Final = RECORD.get_field_index("messages")
TOLD_BY: Final = ("messages", "kind", "prompt", "completion", "reasoning", "solutions", "language")
"""The columns that `turns` looks at."""


def as_messages(table: pa.Table) -> pa.Table:
    """Fill `messages` where a record has none but can be told as a conversation; other columns stay."""
    rows = table.select(list(TOLD_BY)).to_pylist()
    filled = [row["messages"] if row["messages"] is not None else conversation(row) for row in rows]
    return table.set_column(_MESSAGES, RECORD.field("messages"), pa.array(filled, pa.list_(MESSAGE)))


def turns(record: Record) -> list[Message]:
    """A record as a conversation in which the assistant speaks; a chosen answer follows the turns it answers.

    Raises BadRow for raw text and where nothing is answered.
    """
    found = record["messages"] if record["messages"] is not None else conversation(record)
    if not found:
        raise BadRow("not_a_conversation", f"a record of kind '{record['kind']}' without prompt or messages")
    said: list[Message] = [*found]
    if record["completion"] is not None and said[-1]["role"] != "assistant":
        answer: Message = {"role": "assistant", "content": record["completion"]}
        said.append({**answer, "reasoning": record["reasoning"]} if record["reasoning"] is not None else answer)
    if not any(turn["role"] == "assistant" for turn in said):
        raise BadRow("no_answer", "a question without an answer or an accepted solution")
    return said


def arguments_of(call: ToolCall) -> Any:
    """The arguments of a call as the object their JSON stands for; as text where that would change a value."""
    written = call.get("arguments")
    try:
        value = json.loads(written) if written is not None else {}
        return value if json_equal(orjson.dumps(value).decode(), value) else written
    except (ValueError, TypeError, RecursionError):
        return written


def as_openai(turn: Message) -> dict[str, Any]:
    """One turn with the keys that chat templates read; a key without a value is left out."""
    plain = ("role", "content", "name", "tool_call_id", "weight")
    said: dict[str, Any] = {key: turn[key] for key in plain if turn.get(key) is not None}  # type: ignore[literal-required]
    if turn.get("reasoning") is not None:
        said["reasoning_content"] = turn["reasoning"]
    if turn.get("tool_calls"):
        said["tool_calls"] = [_call(call) for call in turn["tool_calls"]]
    return said


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call["name"], "arguments": arguments_of(call)}
    named = {"id": call["id"]} if call.get("id") is not None else {}
    return {**named, "type": "function", "function": function}


def tools_of(record: Record) -> list[Any] | None:
    """The tools of a record as a list; None where it has none. BadRow where they are not a JSON list."""
    if not record["tools"]:
        return None
    try:
        tools = json.loads(record["tools"])
    except (ValueError, RecursionError) as error:
        raise BadRow("bad_tools", f"'tools' is not JSON: {error}", "tools") from error
    if not isinstance(tools, list):
        raise BadRow("bad_tools", "'tools' is not a list", "tools")
    return tools


def as_json(values: list[Any] | None) -> list[str] | None:
    """Each value as JSON text."""
    return None if values is None else [json.dumps(value, ensure_ascii=False) for value in values]


def _messages(record: Record, place: Place) -> dict[str, Any]:
    return {"messages": as_json([as_openai(turn) for turn in turns(record)]), "tools": as_json(tools_of(record))}


def _pair(record: Record, place: Place) -> dict[str, Any]:
    said = [as_openai(turn) for turn in turns(record)]
    if said[-1]["role"] != "assistant":
        raise BadRow("no_answer", "the last turn is not the assistant's")
    if len(said) == 1:
        raise BadRow("no_prompt", "nothing comes before the answer")
    return {"prompt": as_json(said[:-1]), "completion": as_json(said[-1:]), "tools": as_json(tools_of(record))}


MESSAGES: Final = Format(
    "messages",
    "TRL SFT: conversations as `messages`, with `tools`",
    pa.schema([("messages", JSON_LIST), ("tools", JSON_LIST), ("record_id", pa.string())]),
    (*TOLD_BY, "tools"),
    _messages,
)
PROMPT_COMPLETION: Final = Format(
    "prompt-completion",
    "TRL SFT: all turns but the last as `prompt`, the last answer as `completion`",
    pa.schema([("prompt", JSON_LIST), ("completion", JSON_LIST), ("tools", JSON_LIST), ("record_id", pa.string())]),
    (*TOLD_BY, "tools"),
    _pair,
)
