"""One conversation turn in any chat schema to the canonical message, and what was left of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from schemas.adapters.base import Row, as_json_text, first_key, number, to_json, without, wrong_type
from schemas.adapters.reasoning import split_think
from schemas.errors import BadRow
from schemas.record import Draft, Message, ToolCall

ROLES: Final = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bard", "bing", "model", "ai", "bot"), "assistant"),
    **dict.fromkeys(("function_call", "tool_call"), "assistant"),
    **dict.fromkeys(("tool", "function", "observation", "function_response", "tool_response", "ipython"), "tool"),
}
_CALLS: Final = frozenset({"function_call", "tool_call"})
_ROLE_KEYS: Final = ("role", "from")
_CONTENT_KEYS: Final = ("content", "value", "text")
_REASONING_KEYS: Final = ("reasoning", "reasoning_content", "thinking")
_CALL_KEYS: Final = ("tool_calls", "function_call")
_ID_KEYS: Final = ("tool_call_id", "tool_call_ids")
_WEIGHT_KEYS: Final = ("weight", "loss_weight")
_USED: Final = (*_ROLE_KEYS, *_CONTENT_KEYS[:2], *_REASONING_KEYS, *_CALL_KEYS, *_ID_KEYS, *_WEIGHT_KEYS, "name")
_INNER_TEXT: Final = ("text", "answer", "content", "value", "output")


def message(raw: Any, field: str) -> tuple[Message, dict[str, Any]]:
    """(canonical message, what it has no place for). BadRow, naming `field`, for what is no message.

    Understands `role`/`from`, `content`/`value`/`text` as text, object or typed blocks, OpenAI and ShareGPT tool
    calls, reasoning fields and a leading `<think>` block.
    """
    if not isinstance(raw, Mapping):
        raise wrong_type(field, raw, "a list of messages")
    role_key, content_key = first_key(raw, *_ROLE_KEYS), first_key(raw, *_CONTENT_KEYS)
    if role_key is None:
        raise BadRow("missing_content", f"a message in '{field}' has no 'role'", field)
    spoken = raw[role_key]
    role = ROLES.get(spoken.lower()) if isinstance(spoken, str) else None
    if role is None:
        raise BadRow("unknown_role", f"'{field}' has the role {to_json(spoken)[:60]}", field)
    turn: Message = {"role": role}
    rest = {key: value for key, value in raw.items() if key not in _USED and key != content_key and value is not None}
    content = raw[content_key] if content_key else None
    if spoken.lower() in _CALLS and isinstance(content, str):
        _add_calls(turn, rest, _decoded(content), content, field)
    elif content is not None:
        left = _add_content(turn, content, field)
        rest.update({str(content_key): left} if left else {})
    _add_fields(turn, rest, raw, field)
    return turn, rest


def _decoded(content: str) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return None


def _add_content(turn: Message, content: Any, field: str) -> Any:
    """Set content (and what is in it); returns what of the content has no place in a message."""
    if isinstance(content, str):
        thought, content = split_think(content) if turn["role"] == "assistant" else (None, content)
        turn["content"] = content
        if thought is not None:
            turn["reasoning"] = thought
        return None
    if isinstance(content, Mapping):
        key = first_key(content, *_INNER_TEXT)
        if key is None or not isinstance(content[key], str):
            raise wrong_type(field, content, "messages whose content holds text")
        _add_content(turn, content[key], field)
        return without(content, key)
    if isinstance(content, list | tuple):
        return _add_blocks(turn, content, field)
    raise wrong_type(f"{field}.content", content, "text")


def _add_blocks(turn: Message, blocks: Sequence[Any], field: str) -> list[Any]:
    said: list[str] = []
    thought: list[str] = []
    left: list[Any] = []
    for block in blocks:
        block = {"type": "text", "text": block} if isinstance(block, str) else block
        if not isinstance(block, Mapping):
            raise wrong_type(f"{field}.content", block, "text or a typed block")
        rest = _add_block(turn, block, said, thought, field)
        if rest:
            left.append(rest)
    if said:
        turn["content"] = "\n".join(said)
    if thought:
        turn["reasoning"] = "\n".join(thought)
    return left


def _add_block(turn: Message, block: Row, said: list[str], thought: list[str], field: str) -> dict[str, Any]:
    kind = block.get("type")
    key = first_key(block, "text", "value", "reasoning", "thinking", "content")
    value = block[key] if key else None
    if kind in ("text", "input_text", "output_text", "tool_result") and isinstance(value, str):
        said.append(value)
        return without(block, "type", str(key)) if kind != "tool_result" else without(block, str(key))
    if kind in ("reasoning", "thinking") and isinstance(value, str):
        thought.append(value)
        return without(block, "type", str(key))
    if kind in ("tool_call", "tool_use", "function_call"):
        if value is None:  # the block itself is the call
            rest: dict[str, Any] = {}
            _add_calls(turn, rest, without(block, "type"), None, field)
        else:
            rest = without(block, "type", str(key))
            _add_calls(turn, rest, _decoded(value) if isinstance(value, str) else value, value, field)
        return rest
    return dict(block)


def _add_calls(turn: Message, rest: dict[str, Any], calls: Any, written: Any, field: str) -> None:
    """Add tool calls to a turn. Text that claims to be a call but cannot be read as one stays the content."""
    found = calls if isinstance(calls, list | tuple) else [calls]
    if not all(isinstance(call, Mapping) and isinstance(_function(call).get("name"), str) for call in found):
        if not isinstance(written, str):
            raise wrong_type(f"{field}.tool_calls", calls, "a list of calls with a name")
        turn["content"] = f"{turn['content']}\n{written}" if "content" in turn else written
        return
    left = [_call(turn, call) for call in found]
    if any(left):
        rest["tool_calls"] = [*rest.get("tool_calls", []), *left]


def _function(call: Row) -> Row:
    inner = call.get("function")
    return inner if isinstance(inner, Mapping) else call


def _call(turn: Message, call: Row) -> dict[str, Any]:
    inner = _function(call)
    made: ToolCall = {"name": inner["name"]}
    argument_key = first_key(inner, "arguments", "parameters", "input", "kwargs")
    if argument_key:
        made["arguments"] = as_json_text(inner[argument_key])
    if isinstance(call.get("id"), str):
        made["id"] = call["id"]
    turn.setdefault("tool_calls", []).append(made)
    own = without(inner, "name", *((argument_key,) if argument_key else ()))
    rest = own if inner is call else without(call, "function") | ({"function": own} if own else {})
    return {
        key: value for key, value in rest.items() if (key, value) not in (("type", "function"), ("id", made.get("id")))
    }


def _add_fields(turn: Message, rest: dict[str, Any], raw: Row, field: str) -> None:
    for key in (*_REASONING_KEYS, "name", "tool_call_id"):
        value = raw.get(key)
        name = "reasoning" if key in _REASONING_KEYS else key
        if value is not None and (name in turn or not isinstance(value, str)):
            rest[key] = value
        elif value is not None:
            turn[name] = value  # type: ignore[literal-required]
    for calls_key in _CALL_KEYS:
        if raw.get(calls_key) not in (None, [], {}):
            _add_calls(turn, rest, raw[calls_key], None, field)
    ids = raw.get("tool_call_ids")
    if isinstance(ids, list) and len(ids) == 1 and isinstance(ids[0], str):
        turn["tool_call_id"] = ids[0]
    elif ids is not None:
        rest["tool_call_ids"] = ids
    weight_key = first_key(raw, *_WEIGHT_KEYS)
    weight = number(raw[weight_key]) if weight_key else None
    if weight is not None:
        turn["weight"] = weight
    elif weight_key:
        rest[weight_key] = raw[weight_key]


def read_messages(raws: Sequence[Any], field: str, system: str | None = None) -> tuple[list[Message], list[Any]]:
    """(messages, what was left of each). The second is empty where nothing was left of any."""
    if not raws:
        raise BadRow("missing_content", f"'{field}' is empty", field)
    pairs = [message(raw, field) for raw in raws]
    turns = [turn for turn, _ in pairs]
    rests = [rest for _, rest in pairs]
    if system:
        turns = [{"role": "system", "content": system}, *turns]
    return turns, rests if any(rests) else []


def settle(draft: Draft, turns: list[Message]) -> Draft:
    """Put a conversation into a draft: one question and its plain answer as prompt and completion, so that equal
    content is equal in every schema; anything richer as messages."""
    if _is_plain_pair(turns):
        question, answer = turns
        draft["prompt"], draft["completion"] = question["content"], answer["content"]
        if "reasoning" in answer:
            draft["reasoning"] = answer["reasoning"]
    else:
        draft["messages"] = turns
    return draft


def _is_plain_pair(turns: list[Message]) -> bool:
    if [turn["role"] for turn in turns] != ["user", "assistant"]:
        return False
    plain = {"role", "content", "weight"}
    question, answer = turns
    return (
        "content" in question
        and "content" in answer
        and question.keys() <= plain
        and answer.keys() <= plain | {"reasoning"}
        and all(turn.get("weight", weight) == weight for turn, weight in zip(turns, (0.0, 1.0), strict=True))
    )
