"""Conversations: OpenAI messages, ShareGPT, Open Assistant trees, chats written as tagged text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

from schemas.adapters.base import (
    Adapter,
    Made,
    Row,
    as_json_text,
    first_key,
    identify,
    is_text,
    items,
    keeping_rest,
    made,
    mapping,
    missing,
    put,
    text,
    without,
    wrong_type,
)
from schemas.adapters.messages import read_messages, settle
from schemas.errors import BadRow
from schemas.record import Draft, Message

IDS: Final = ("id", "uid", "uuid", "_id", "conversation_id", "prompt_id", "idx")
_TOOLS: Final = ("tools", "functions")
_SYSTEM: Final = ("system", "system_prompt")
_LISTS: Final = ("messages", "conversations", "conversation", "dialogue", "chat")


def _turns_key(row: Row) -> str | None:
    return next((key for key in _LISTS if _is_turns(row.get(key))), None)


def _is_turns(value: Any) -> bool:
    if isinstance(value, str):
        return value[:2] == "[{"
    return isinstance(value, list | tuple) and bool(value) and isinstance(value[0], Mapping)


def _sharegpt(row: Row) -> str | None:
    key = _turns_key(row)
    if key and isinstance(row[key], list | tuple) and first_key(row[key][0], "from") and "value" in row[key][0]:
        return f"'{key}' holds turns with 'from' and 'value'"
    return None


def _messages(row: Row) -> str | None:
    key = _turns_key(row)
    if key and (isinstance(row[key], str) or first_key(row[key][0], "role")):
        return f"'{key}' holds turns with 'role'"
    return None


def turns_of(row: Row, key: str) -> list[Any]:
    """The list of raw turns under `key`, also where it is stored as JSON text."""
    value = row.get(key)
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise BadRow("wrong_type", f"'{key}' is text but no JSON list", key) from error
        return items({key: value}, key)
    return items(row, key)


def conversation(row: Row, key: str, kind: str = "sft") -> Made:
    """A draft of the conversation under `key`, with its tools and system prompt; the base of all chat adapters."""
    raws = turns_of(row, key)
    used = [key]
    system_key = first_key(row, *_SYSTEM)
    system = row[system_key] if system_key and isinstance(row[system_key], str) and row[system_key] else None
    turns, rests = read_messages(raws, key, system)
    draft: Draft = put({}, kind=kind)
    used += [system_key] if system_key and system else []
    tools_key = first_key(row, *_TOOLS)
    if tools_key:
        used.append(tools_key)
        put(draft, tools=as_json_text(row[tools_key]) if row[tools_key] not in ("", [], {}) else None)
    if kind == "sft":
        rests = _settle(draft, turns, raws, rests)
    else:
        draft["messages"] = turns
    put(draft, meta={key: rests} if rests else None)
    if id_key := first_key(row, *IDS):
        identify(draft, row[id_key])
        used += [id_key] if "source_id" in draft else []
    return made(draft, *used)


def _settle(draft: Draft, turns: list[Message], raws: list[Any], rests: list[Any]) -> list[Any]:
    """`settle`, unless there are tools; returns the rests, with the weights where no message is left to hold them."""
    if not any(turn["role"] == "assistant" for turn in turns):
        raise BadRow("missing_content", "no turn of the assistant", "messages")
    if "tools" in draft:
        draft["messages"] = turns
        return rests
    settle(draft, turns)
    if "messages" in draft or not any("weight" in turn for turn in turns):
        return rests
    weights = [{key: raw[key] for key in ("weight", "loss_weight") if raw.get(key) is not None} for raw in raws]
    return [{**rest, **weight} for rest, weight in zip(rests or [{}] * len(raws), weights, strict=True)]


def _make_chat(row: Row) -> Made:
    return conversation(row, _turns_key(row) or first_key(row, *_LISTS) or missing(row, *_LISTS[:2]))


def _oasst_tree(row: Row) -> str | None:
    prompt = row.get("prompt")
    if "message_tree_id" in row and isinstance(prompt, Mapping) and "replies" in prompt:
        return "has 'message_tree_id', and 'prompt' is a message with 'replies'"
    return None


def _oasst_message(row: Row) -> str | None:
    return "has 'message_id', 'role' and 'text'" if is_text(row, "message_id", "role", "text") else None


def _make_tree(row: Row) -> Made:
    root = mapping(row, "prompt")
    tree = text(row, "message_tree_id")
    return Made(_threads(root, tree, "prompt"), ("prompt", "message_tree_id"))


def _make_thread(row: Row) -> Made:
    return Made(_threads(row, text(row, "message_id"), "message"), tuple(row))


def _threads(root: Row, tree: str, field: str) -> list[Draft]:
    """One conversation per path from the root to a leaf, in the order of the tree."""
    drafts: list[Draft] = []
    for number, path in enumerate(_paths(root)):
        turns, rests = read_messages(path, field)
        draft = settle({"kind": "sft", "source_id": f"{tree}#{number}"}, turns)
        drafts.append(put(draft, meta={field: rests} if rests else None))
    return drafts


def _paths(root: Row) -> Iterator[list[dict[str, Any]]]:
    """All paths from `root` to its leaves, depth first, without recursion: trees come from outside."""
    open_paths: list[tuple[Row, list[dict[str, Any]]]] = [(root, [])]
    while open_paths:
        node, before = open_paths.pop()
        path = [*before, without(node, "replies")]
        replies = node.get("replies") or []
        if not isinstance(replies, list | tuple) or not all(isinstance(reply, Mapping) for reply in replies):
            raise wrong_type("replies", replies, "a list of messages")
        if replies:
            open_paths += [(reply, path) for reply in reversed(replies)]
        else:
            yield path


_TAG: Final = re.compile(r"<\|(user|ai|assistant|human|system|bot)\|>")
_END: Final = re.compile(r"<\|(?:eos|eod|end)\|>")
_CHATML: Final = re.compile(r"<\|im_start\|>(\w+)\n(.*?)(?:<\|im_end\|>|\Z)", re.S)


def _tagged(row: Row) -> str | None:
    value = row.get("text")
    if isinstance(value, str) and (_TAG.match(value.lstrip()) or value.lstrip().startswith("<|im_start|>")):
        return "'text' is a chat with <|role|> tags"
    return None


def _make_tagged(row: Row) -> Made:
    source = text(row, "text")
    parts = _CHATML.findall(source) or _split_tags(source)
    turns, _ = read_messages([{"role": role, "content": said.strip()} for role, said in parts], "text")
    draft: Draft = {"kind": "sft"}
    _settle(draft, turns, [], [])
    return made(draft, "text")


def _split_tags(source: str) -> list[tuple[str, str]]:
    pieces = _TAG.split(source)
    return [(role, _END.sub("", said)) for role, said in zip(pieces[1::2], pieces[2::2], strict=True)]


SHAREGPT: Final = Adapter("sharegpt", "conversations of from/value turns", _sharegpt, keeping_rest(_make_chat))
MESSAGES: Final = Adapter("messages", "OpenAI-style messages, with tools", _messages, keeping_rest(_make_chat))
OASST_TREE: Final = Adapter("oasst_tree", "Open Assistant message trees", _oasst_tree, keeping_rest(_make_tree))
OASST_MESSAGE: Final = Adapter(
    "oasst_message", "Open Assistant messages with replies", _oasst_message, keeping_rest(_make_thread)
)
TAGGED: Final = Adapter("tagged_chat", "chats as text with role tags", _tagged, keeping_rest(_make_tagged))
