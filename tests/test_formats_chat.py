"""Conversations in the shapes of SFT trainers: through the real loader and back by our own adapters."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from formats_rows import ALPACA, CHATS, MATHS, STDIO, TEXT, THINKING, TOOLS, canonical, read, table
from hypothesis import given, settings
from hypothesis import strategies as st
from test_formats_code import loaded

from pipelines.formats import FORMATS, as_messages
from schemas.record import RECORD


def _json_exact(draft: dict[str, Any]) -> dict[str, Any]:
    """The draft with JSON texts as the values they stand for."""
    turns = [
        {**turn, "tool_calls": [{**call, "arguments": json.loads(call["arguments"])} for call in turn["tool_calls"]]}
        if "tool_calls" in turn
        else turn
        for turn in draft.get("messages", ())
    ]
    tools = {"tools": json.loads(draft["tools"])} if "tools" in draft else {}
    return {**draft, **tools, "messages": turns}


@pytest.mark.parametrize("name", CHATS)
def test_messages_round_trip(name: str, tmp_path: Any) -> None:
    (got,) = loaded(FORMATS["messages"](table([CHATS[name]])), tmp_path)
    if name == "tools":  # exactly what was written: not one key more
        assert got["messages"] == TOOLS["messages"]
        assert got["tools"] == TOOLS["tools"]
    assert all(value is not None for turn in got["messages"] for value in turn.values())
    assert _json_exact(read(got)) == _json_exact(read(CHATS[name]))


def test_messages_from_a_run_or_from_canonical_records_are_the_same() -> None:
    records = table([*CHATS.values(), STDIO, MATHS])
    assert FORMATS["messages"](as_messages(records)).table == FORMATS["messages"](records).table


def test_prompt_completion(tmp_path: Any) -> None:
    got = loaded(FORMATS["prompt-completion"](table([ALPACA, THINKING, STDIO])), tmp_path)
    assert got[0]["prompt"] == [{"role": "user", "content": "Say hi."}]
    assert got[0]["completion"] == [{"role": "assistant", "content": "Hi!"}]
    assert got[1]["prompt"] == THINKING["messages"][:-1]
    assert got[1]["completion"] == THINKING["messages"][-1:]
    assert got[2]["completion"][0]["content"] == "```python\nprint(2 * int(input()))\n```"


@pytest.mark.parametrize("name", ["alpaca", "thinking"])
def test_alpaca_round_trip(name: str, tmp_path: Any) -> None:
    (got,) = loaded(FORMATS["alpaca"](table([CHATS[name]])), tmp_path)
    after, before = read(got), read(CHATS[name])
    if name == "thinking":  # LLaMA-Factory's history is text: reasoning of earlier turns stays in its tags there
        assert got["history"] == [["Two?", "<think>\nIt is two.\n</think>\n\n2"]]
        assert got["system"] == "Be brief."
        del before["messages"][2]["reasoning"]
        before["messages"][2]["content"] = got["history"][0][1]
    assert after == before


@pytest.mark.parametrize("name", CHATS)
def test_sharegpt_round_trip(name: str, tmp_path: Any) -> None:
    (got,) = loaded(FORMATS["sharegpt"](table([CHATS[name]])), tmp_path)
    before = _json_exact(read(CHATS[name]))
    for turn in before["messages"]:
        for key in ("name", "tool_call_id"):  # ShareGPT has no place for them: an observation answers the call before
            turn.pop(key, None)
        for call in turn.get("tool_calls", ()):
            call.pop("id", None)
    assert _json_exact(read(got)) == before


def _chat(*turns: dict[str, Any], **columns: Any) -> pa.Table:
    empty = dict.fromkeys(RECORD.names)
    identity = {"record_id": "r", "content_hash": "", "source": "s", "origin": "", "kind": "sft"}
    return canonical([{**empty, **identity, "messages": list(turns) or None, **columns}])


USER = {"role": "user", "content": "q"}
ANSWER = {"role": "assistant", "content": "a"}
RESULT = {"role": "tool", "content": "1"}
CALL = {"role": "assistant", "tool_calls": [{"name": "f", "arguments": "{}"}]}


@pytest.mark.parametrize(
    ("shape", "records", "kind"),
    [
        ("messages", table([TEXT]), "not_a_conversation"),
        ("messages", _chat(USER), "no_answer"),
        ("messages", _chat(USER, ANSWER, tools="{not json"), "bad_tools"),
        ("messages", _chat(USER, ANSWER, tools='{"a": 1}'), "bad_tools"),
        ("prompt-completion", _chat(USER, ANSWER, USER), "no_answer"),
        ("prompt-completion", _chat(ANSWER), "no_prompt"),
        ("alpaca", _chat(USER, CALL, RESULT, ANSWER), "tools"),
        ("alpaca", _chat(USER, USER, ANSWER), "not_alternating"),
        ("alpaca", _chat(USER, ANSWER, USER), "not_alternating"),
        ("alpaca", _chat(USER, {**ANSWER, "weight": 0.0}, USER, ANSWER), "weights"),
        ("sharegpt", _chat(USER, {**CALL, "content": "hm"}, RESULT, ANSWER), "text_beside_call"),
        ("sharegpt", _chat(USER, CALL, RESULT, RESULT), "not_alternating"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_named(shape: str, records: pa.Table, kind: str) -> None:
    shaped = FORMATS[shape](records)
    assert (shaped.table.num_rows, [one.kind for one in shaped.untold]) == (0, [kind])


def test_a_chosen_answer_follows_its_context() -> None:
    before = [{"role": "system", "content": "s"}, USER]
    shaped = FORMATS["messages"](_chat(*before, kind="preference", completion="good", rejected="bad", reasoning="why"))
    said = [json.loads(turn) for turn in shaped.table.to_pylist()[0]["messages"]]
    assert said == [*before, {"role": "assistant", "content": "good", "reasoning_content": "why"}]


@pytest.mark.parametrize("written", ['{"n": 36893488147419103232}', '{"x": NaN}', "{broken", '{"a":1}{'])
def test_arguments_that_json_would_change_stay_text(written: str) -> None:
    turn = {"role": "assistant", "tool_calls": [{"name": "f", "arguments": written}]}
    shaped = FORMATS["messages"](_chat(USER, turn))
    said = json.loads(shaped.table.to_pylist()[0]["messages"][1])
    assert said["tool_calls"][0]["function"]["arguments"] == written


_TURNS = st.lists(st.tuples(st.text(min_size=1, max_size=9), st.text(min_size=1, max_size=9)), min_size=2, max_size=3)


@settings(max_examples=100, deadline=None)
@given(_TURNS)
def test_any_text_comes_back(pairs: list[tuple[str, str]]) -> None:
    turns = [turn for q, a in pairs for turn in ({**USER, "content": q}, {**ANSWER, "content": a})]
    (row,) = FORMATS["messages"](_chat(*turns)).table.to_pylist()
    assert [json.loads(turn) for turn in row["messages"]] == turns
    (row,) = FORMATS["sharegpt"](_chat(*turns)).table.to_pylist()
    assert [turn["value"] for turn in row["conversations"]] == [turn["content"] for turn in turns]
