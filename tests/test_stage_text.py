"""Rendering a record as text."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import batches, records

from stages.text import ON, On, columns_for, render

CHAT: dict[str, Any] = {
    "kind": "sft",
    "messages": [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "Q"},
        {"role": "assistant", "reasoning": "R", "content": "A", "tool_calls": [{"name": "f", "arguments": '{"x": 1}'}]},
        {"role": "tool", "content": "T"},
        {"role": "user", "content": "Q2"},
    ],
}


def rendered(row: dict[str, Any], on: On) -> str | None:
    (batch,) = batches(records([row]), 10)
    (text,) = render(batch.select(columns_for(on)), on).to_pylist()
    assert text is None or isinstance(text, str)
    return text


@pytest.mark.parametrize(
    ("row", "on", "text"),
    [
        (CHAT, "text", 'S\nQ\nR\nA\nf {"x": 1}\nT\nQ2'),
        (CHAT, "messages", 'S\nQ\nR\nA\nf {"x": 1}\nT\nQ2'),
        (CHAT, "prompt", "Q\nQ2"),
        (CHAT, "response", 'R\nA\nf {"x": 1}'),
        (CHAT, "code", None),
        ({"prompt": "P", "completion": "C", "reasoning": "R"}, "text", "P\nR\nC"),
        ({"prompt": "P", "completion": "C", "rejected": "X"}, "text", "P\nC\nX"),
        ({"prompt": "P", "answer": "42"}, "response", "42"),
        ({"prompt": "P", "completion": "C", "answer": "42"}, "response", "C"),
        ({"prompt": "P", "completion": "C"}, "messages", "P\nC"),
        ({"text": "T"}, "text", "T"),
        ({"text": "T"}, "code", "T"),
        ({"text": "T"}, "prompt", None),
        ({"text": ""}, "text", ""),
        ({"prompt": "P", "solutions": [{"code": None}, {"code": "x = 1"}, {"code": "y"}]}, "code", "x = 1"),
        ({"kind": "code", "prompt": "P", "solutions": [{"code": "x = 1"}]}, "text", "P"),
        ({"kind": "code", "solutions": [{"code": "x = 1"}]}, "text", "x = 1"),
        ({"messages": []}, "text", None),
        ({"messages": [{"role": "user", "content": ""}]}, "text", ""),
        ({"messages": [{"role": "assistant", "tool_calls": [{"name": "g"}]}]}, "text", "g"),
    ],
)  # fmt: skip
def test_rendering(row: dict[str, Any], on: On, text: str | None) -> None:
    assert rendered(row, on) == text


def test_a_chat_of_two_turns_equals_prompt_and_completion() -> None:
    chat = {"messages": [{"role": "user", "content": "P"}, {"role": "assistant", "content": "C"}]}
    assert rendered(chat, "text") == rendered({"prompt": "P", "completion": "C"}, "text")


def test_rows_without_anything_stay_in_place() -> None:
    (batch,) = batches(records([{}, {"text": "a"}, {}, {"prompt": "b"}, {}]), 10)
    assert render(batch, "text").to_pylist() == [None, "a", None, "b", None]
    (empty,) = batches(records([{}, {}]), 10)
    assert all(render(empty, on).to_pylist() == [None, None] for on in ON)


words = st.none() | st.text(max_size=3)
turn = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["user", "assistant"]),
        "content": words,
        "tool_calls": st.none() | st.lists(st.fixed_dictionaries({"name": words, "arguments": words}), max_size=2),
    }
)
row = st.fixed_dictionaries(
    {
        "text": words,
        "prompt": words,
        "completion": words,
        "messages": st.none() | st.lists(st.none() | turn, max_size=3),
        "solutions": st.none() | st.lists(st.fixed_dictionaries({"code": words}), max_size=2),
    }
)


@given(st.lists(row, min_size=1, max_size=6), st.sampled_from(ON), st.integers(0, 5))
@settings(max_examples=150, deadline=None)
def test_every_row_renders_as_it_does_alone(rows: list[dict[str, Any]], on: On, cut: int) -> None:
    (batch,) = batches(records(rows), 10)
    together = render(batch, on)
    assert together.to_pylist() == [rendered(one, on) for one in rows]
    assert render(batch.slice(cut), on).to_pylist() == together.to_pylist()[cut:]
