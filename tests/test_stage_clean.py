"""Cleaning text as a rewrite."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import batches, records
from pydantic import ValidationError

from schemas.record import RECORD
from stages.clean import COLUMNS, Clean


def cleaned(stage: Clean, *rows: dict[str, Any]) -> list[dict[str, Any]]:
    (batch,) = batches(records(rows).select(stage.reads), 100)
    result = stage.rewrite(batch, {})
    assert result.num_rows == len(rows)
    for name in (*COLUMNS, "messages"):
        assert result.schema.field(name).type == RECORD.field(name).type
    out: list[dict[str, Any]] = result.to_pylist()
    return out


@pytest.mark.parametrize(
    ("before", "after", "status"),
    [
        ("fine\n", "fine\n", "unchanged"),
        ("e\u0301", "é", "changed: nfc"),
        ("a\r\nb\rc", "a\nb\nc", "changed: newlines"),
        ("a\x00b\x1b[0m\tc\x85", "ab[0m\tc", "changed: control"),
        ("a  \n\tb\t\n\n  ", "a\n\tb\n\n", "changed: trailing"),
        ("e\u0301 \r\nx\x07", "é\nx", "changed: newlines, control, nfc, trailing"),
        ("a\u200bb", "a\u200bb", "unchanged"),
        ("", "", "unchanged"),
        (None, None, "unchanged"),
    ],
)
@pytest.mark.parametrize("column", ["text", "prompt", "completion", "rejected"])
def test_cleaning(column: str, before: str | None, after: str | None, status: str) -> None:
    (row,) = cleaned(Clean(), {column: before})
    assert row[column] == after
    assert row["rewrite_status"] == status


def test_messages_are_cleaned_and_keep_everything_else() -> None:
    call = {"id": "1", "name": "f", "arguments": '{"x": "a \\r\\n"}'}
    messages = [
        {"role": "user", "content": "a \r\n", "name": "n", "weight": 0.5},
        None,
        {"role": "assistant", "content": None, "reasoning": "b\x00", "tool_calls": [call]},
    ]
    first, second, third = cleaned(Clean(), {"messages": messages}, {"messages": None}, {"messages": []})
    assert first["rewrite_status"] == "changed: newlines, control, trailing"
    assert first["messages"][0]["content"] == "a\n"
    assert (first["messages"][0]["name"], first["messages"][0]["weight"]) == ("n", 0.5)
    assert first["messages"][2]["reasoning"] == "b"
    assert first["messages"][2]["tool_calls"] == [call]
    assert (second["messages"], second["rewrite_status"]) == (None, "unchanged")
    assert (third["messages"], third["rewrite_status"]) == ([], "unchanged")


def test_steps_can_be_chosen() -> None:
    (row,) = cleaned(Clean(zero_width=True, trailing=False), {"text": "a\u200b\ufeff \n"})
    assert (row["text"], row["rewrite_status"]) == ("a \n", "changed: zero_width")
    with pytest.raises(ValidationError):
        Clean(nfc=False, newlines=False, control=False, trailing=False)


def test_code_in_tests_and_solutions_is_not_touched() -> None:
    assert not {"tests", "solutions", "test_code"} & set(Clean.reads)


characters = st.characters(exclude_categories=("Cs", "Cn")) | st.sampled_from(" \t\r\n\x00e\u0301")


@given(st.text(characters))
@settings(max_examples=200, deadline=None)
def test_equals_plain_python_and_settles_at_once(text: str) -> None:
    plain = text.replace("\r\n", "\n").replace("\r", "\n")
    plain = "".join(char for char in plain if unicodedata.category(char) != "Cc" or char in "\t\n")
    plain = regex.sub(r"[ \t]+(?=\n|\Z)", "", unicodedata.normalize("NFC", plain))
    (row,) = cleaned(Clean(), {"text": text})
    assert row["text"] == plain
    assert row["rewrite_status"].startswith("changed: ") == (plain != text)
    assert cleaned(Clean(), {"text": plain})[0]["rewrite_status"] == "unchanged"
