"""The actions of an agent's run and what each of them brought, whatever notation the agent wrote them in.

Per assistant turn, the first notation that fits counts:

| notation                               | example                                                    |
|----------------------------------------|------------------------------------------------------------|
| tool calls of the message              | `tool_calls: [{name, arguments}]`                          |
| calls as JSON in the text              | `<tool_call>{"name": …, "arguments": …}</tool_call>`        |
| calls as XML in the text               | `<function=bash>…</function>`                              |
| tagged code                            | `<execute>`, `<command>`, `<solution>`                     |
| ReAct, also a whole run in one text    | `Action: search[…]`, `Action: search` + `Action Input: …`,  |
|                                        | `Action:` + `{"action": "search", "action_input": …}`      |
| the last fenced block, if answered     | a command in backticks, then a message of the environment  |
| the whole turn, if a tool answers it   | `ls -l`, then a message of role `tool`                     |
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

Message = Mapping[str, Any]

_THINK: Final = re.compile(r"<think>.*?</think>", re.S)
_JSON_CALL: Final = re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|\Z)", re.S)
_XML_CALL: Final = re.compile(r"<function=([\w.-]+)>(.*?)</function>", re.S)
_TAGGED: Final = re.compile(r"<(execute|command|solution)>(.*?)</\1>", re.S)
_REACT: Final = re.compile(
    r"^[ \t*]*Action(?:[ \t]*\d+)?[ \t*]*:[ \t*]*(?P<call>.*?)[ \t]*$"
    r"(?:\s*^[ \t*]*Action Input(?:[ \t]*\d+)?[ \t*]*:[ \t*]*"
    r"(?P<input>.*?)(?=^[ \t*]*(?:Observation|Thought|Action)\b|\Z))?",
    re.S | re.M,
)
_BRACKETS: Final = re.compile(r"(?P<tool>[\w .-]+?)\s*[\[(](?P<arguments>.*)[\])]\s*", re.S)
_BLOB: Final = re.compile(r"\s*(?:```\w*\s*)?(?=\{)")
_LAST: Final = ("action", "Final Answer")
_OBSERVATION: Final = re.compile(
    r"^[ \t*]*Observation(?:[ \t]*\d+)?[ \t*]*:[ \t]*(.*?)(?=^[ \t*]*(?:Thought|Action|Observation)\b|\Z)", re.S | re.M
)
_FENCE: Final = re.compile(r"^[ \t]*```[^\n`]*\n(.*?)^[ \t]*```", re.S | re.M)
_RESPONSE: Final = re.compile(r"<tool_response>\s*(.*?)\s*</tool_response>", re.S)


class Action(NamedTuple):
    """One call. `arguments` is normalised, so that equal calls are equal text; `result` is None where none is told."""

    tool: str
    arguments: str
    result: str | None


class Run(NamedTuple):
    """An agent's run: its actions in order, and the number of its steps (turns in which it did or said something)."""

    actions: list[Action]
    steps: int


class Calls(NamedTuple):
    """The calls of one turn as (tool, arguments), and the results that the turn itself tells (ReAct in one text)."""

    made: list[tuple[str, str]]
    told: list[str]


def conversation(row: Mapping[str, Any]) -> list[Message]:
    """A record's messages without their empty fields; its prompt and completion are one more exchange."""
    messages: list[Message] = [
        {key: value for key, value in turn.items() if value is not None} for turn in row["messages"] or ()
    ]
    if row["prompt"] is not None:
        messages.append({"role": "user", "content": row["prompt"]})
    if row["completion"] is not None:
        messages.append({"role": "assistant", "content": row["completion"]})
    return messages


def read_run(messages: Sequence[Message]) -> Run:
    """The actions and steps of a conversation."""
    actions: list[Action] = []
    steps = 0
    for at, turn in enumerate(messages):
        if turn["role"] != "assistant":
            continue
        answers = _answers(messages, at)
        calls = _calls(turn, answers)
        actions += _paired(calls, turn, answers)
        steps += max(1, len(calls.made)) if calls.told else 1
    return Run(actions, steps)


def question(messages: Sequence[Message]) -> str:
    """What the user asked: the user's turns before the first answer."""
    asked: list[str] = []
    for turn in messages:
        if turn["role"] == "assistant":
            break
        if turn["role"] == "user":
            asked.append(turn.get("content") or "")
    return "\n".join(asked)


def last_words(messages: Sequence[Message]) -> str:
    """The text of the last assistant turn that has any, without its thoughts."""
    said = (turn.get("content") for turn in reversed(messages) if turn["role"] == "assistant")
    return next((spoken(text) for text in said if text), "")


def spoken(text: str) -> str:
    """Text without its `<think>` blocks."""
    return _THINK.sub("", text) if "<think>" in text else text


def normal_arguments(text: str) -> str:
    """Arguments as comparable text: JSON with sorted keys, anything else with single spaces."""
    try:
        return orjson.dumps(_tidied(orjson.loads(text)), option=orjson.OPT_SORT_KEYS).decode()
    except orjson.JSONDecodeError:
        return " ".join(text.split())


def _tidied(value: Any) -> Any:
    if isinstance(value, str):
        return " ".join(value.split())
    if isinstance(value, list):
        return [_tidied(item) for item in value]
    if isinstance(value, dict):
        return {key: _tidied(item) for key, item in value.items()}
    return value


def _answers(messages: Sequence[Message], at: int) -> list[Message]:
    """The messages between turn `at` and the next assistant turn."""
    end = at + 1
    while end < len(messages) and messages[end]["role"] != "assistant":
        end += 1
    return list(messages[at + 1 : end])


def _calls(turn: Message, answers: Sequence[Message]) -> Calls:
    native = turn.get("tool_calls") or []
    if native:
        return Calls([(call["name"], normal_arguments(call.get("arguments") or "")) for call in native], [])
    text = spoken(turn.get("content") or "")
    marked = _marked(text)
    if marked:
        return Calls(marked, [])
    react = [call for call in map(_react, _REACT.finditer(text)) if call is not None and call != _LAST]
    if react:
        return Calls(react, [told.strip() for told in _OBSERVATION.findall(text)])
    blocks = _FENCE.findall(text)
    if blocks and answers:
        return Calls([("code", normal_arguments(blocks[-1]))], [])
    if text.strip() and any(message["role"] == "tool" for message in answers):
        return Calls([("action", normal_arguments(text))], [])
    return Calls([], [])


def _marked(text: str) -> list[tuple[str, str]]:
    """Calls between tags."""
    if "<tool_call>" in text:
        return [_json_call(body) for body in _JSON_CALL.findall(text)]
    if "<function=" in text:
        return [(name, normal_arguments(body)) for name, body in _XML_CALL.findall(text)]
    return [(tag, normal_arguments(body)) for tag, body in _TAGGED.findall(text)]


def _json_call(body: str) -> tuple[str, str]:
    try:
        call = orjson.loads(body)
    except orjson.JSONDecodeError:
        return "malformed", normal_arguments(body)
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        return "malformed", normal_arguments(body)
    return call["name"], normal_arguments(orjson.dumps(call.get("arguments", {})).decode())


def _react(found: re.Match[str]) -> tuple[str, str] | None:
    """`search[x]`, `search(x)`, a name with its `Action Input`, or JSON; None where no call follows on the mark."""
    call, given = found["call"], found["input"]
    if given is not None:
        return call.strip().lower(), normal_arguments(given)
    if blob := _blob(found):
        return blob
    if not call or call.startswith("```"):
        return None
    brackets = _BRACKETS.fullmatch(call)
    if brackets:
        return brackets["tool"].lower(), normal_arguments(brackets["arguments"])
    return "action", normal_arguments(call)


def _blob(found: re.Match[str]) -> tuple[str, str] | None:
    """LangChain's `{"action": …, "action_input": …}`, fenced or not; its `Final Answer` is a call that hands in."""
    start = _BLOB.match(found.string, found.start("call"))
    if not start:
        return None
    try:
        call, _ = json.JSONDecoder(strict=False).raw_decode(found.string, start.end())
    except (ValueError, RecursionError):
        return None
    if not isinstance(call.get("action"), str):
        return None
    given = call.get("action_input", "")
    arguments = normal_arguments(given if isinstance(given, str) else json.dumps(given))
    return ("finish", arguments) if call["action"] == "Final Answer" else (call["action"].lower(), arguments)


def _paired(calls: Calls, turn: Message, answers: Sequence[Message]) -> Iterable[Action]:
    """Each call with its result: told in the turn, by the id of the call, or by order."""
    results: list[str | None] = [*calls.told] if calls.told else [*_results(turn, answers, len(calls.made))]
    missing = len(calls.made) - len(results)
    return [Action(*call, result) for call, result in zip(calls.made, [*results, *[None] * missing], strict=False)]


def _results(turn: Message, answers: Sequence[Message], wanted: int) -> list[str | None]:
    by_id = {message["tool_call_id"]: message.get("content") for message in answers if message.get("tool_call_id")}
    ids = [call.get("id") for call in turn.get("tool_calls") or []]
    if by_id and all(ids):
        return [by_id.get(name) for name in ids]
    tools = [message for message in answers if message["role"] == "tool"]
    texts = [message.get("content") or "" for message in tools or answers]
    blocks = [block for text in texts for block in _RESPONSE.findall(text)] or texts
    return ["\n".join(blocks)] if wanted == 1 and blocks else [*blocks]
