"""Readers on JSON that is not one row per line: arrays, texts one after another, wrapped arrays; broken elements."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from reading import rows_of, values_of, write

from pipelines.readers import RawRow, Unreadable, sniff

SETTINGS = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["}, {", '"', "\\", "]", "\n{", '\\"']
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))
INDENTS = st.sampled_from([None, 0, 1, 4])


@SETTINGS
@given(st.lists(VALUES, max_size=6), INDENTS, st.integers(1, 300), st.booleans())
def test_arrays_round_trip(tmp_path: Path, values: list[Any], indent: int | None, size: int, ascii: bool) -> None:
    path = write(tmp_path, json.dumps(values, indent=indent, ensure_ascii=ascii).encode(), "x.json")
    assert values_of(rows_of(path, "json", chunk_bytes=size)) == values


@SETTINGS
@given(
    st.lists(st.dictionaries(TEXT, VALUES, min_size=1, max_size=3), min_size=1, max_size=5),
    INDENTS,
    st.integers(0, 400),
)
@example([{"a": [{"b": 1}, {"c": 2}, {"d": 3}]}], None, 26)
@example([{"a": 1}, {"a": 2}], None, 10)
def test_an_array_cut_anywhere_gives_no_false_row(
    tmp_path: Path, values: list[Any], indent: int | None, cut: int
) -> None:
    values = [{"id": number, **value} for number, value in enumerate(values)]
    data = json.dumps(values, indent=indent).encode()
    cut = min(cut, len(data) - 1)
    rows = rows_of(write(tmp_path, data[: max(cut, 1)], "x.json"), "json")
    assert values_of(rows[:-1]) == values[: len(rows) - 1]
    assert isinstance(rows[-1], Unreadable)
    assert rows[-1].kind == "truncated_file"


@SETTINGS
@given(
    st.lists(st.dictionaries(TEXT, VALUES, max_size=3), min_size=1, max_size=5),
    INDENTS,
    st.sampled_from(["\n", "", ",\n"]),
)
def test_texts_one_after_another(tmp_path: Path, values: list[Any], indent: int | None, gap: str) -> None:
    data = gap.join(json.dumps(value, indent=indent) for value in values)
    assert values_of(rows_of(write(tmp_path, data.encode()), "json")) == values


@pytest.mark.parametrize(
    "bad",
    [
        '{"n": nope}',
        '{"n": 1,, "b": 2}',
        '{"n": [1, 2}',
        '{"n": 1]}',
        '{"n": {"b": 1}',
        '{"n": {"b": {"c": 1}',
        '{"n": "unclosed}',
        '{"n" 1}',
        "oops",
    ],
)
@pytest.mark.parametrize("pretty", [True, False])
def test_a_broken_element_costs_no_neighbour(tmp_path: Path, bad: str, pretty: bool) -> None:
    good = [{"n": number, "text": 'some "text" [here]'} for number in range(4)]
    texts = [json.dumps(value, indent=4 if pretty else None).replace("\n", "\n    ") for value in good]
    glue = ",\n    " if pretty else ", "
    body = glue.join([*texts[:2], bad, *texts[2:]])
    rows = rows_of(write(tmp_path, f"[\n    {body}\n]".encode() if pretty else f"[{body}]".encode(), "x.json"))
    assert [row.value for row in rows if isinstance(row, RawRow)] == good
    broken = [row for row in rows if isinstance(row, Unreadable)]
    assert broken
    assert {row.kind for row in broken} == {"invalid_json"}


def test_a_bracket_too_many_is_a_row_of_its_own(tmp_path: Path) -> None:
    first, stray, last = rows_of(write(tmp_path, b'[{"n": 1}}, {"n": 2}]', "x.json"))
    assert values_of([first, last]) == [{"n": 1}, {"n": 2}]
    assert isinstance(stray, Unreadable)
    assert stray.raw == b"}"


def test_wrapped_rows_carry_what_stood_around_them(tmp_path: Path) -> None:
    rows = [{"q": number, "data": [1]} for number in range(3)]
    whole = {"version": "1.1", "meta": {"data": [{"no": 1}]}, "data": rows, "licence": "x"}
    for indent in (None, 2):
        path = write(tmp_path, json.dumps(whole, indent=indent).encode(), "x.json")
        assert sniff(str(path)).wrapper == "data"
        envelope = {"version": "1.1", "meta": {"data": [{"no": 1}]}, "licence": "x"}
        assert values_of(rows_of(path, chunk_bytes=10)) == [{**row, "_envelope": envelope} for row in rows]
    bare = write(tmp_path, json.dumps({"data": rows}).encode(), "y.json")
    assert values_of(rows_of(bare)) == rows


@pytest.mark.parametrize(
    ("name", "text", "format", "values"),
    [
        ("x.jsonl", '[{"a":1},{"a":2}]', "json", [{"a": 1}, {"a": 2}]),
        ("x.jsonl", '[\n{"a":1},\n{"a":2}\n]', "json", [{"a": 1}, {"a": 2}]),
        ("x.json", '{"a":1}\n{"a":2}\n', "jsonl", [{"a": 1}, {"a": 2}]),
        ("x.json", '{\n"a":1\n}\n{\n"a":2\n}\n', "json", [{"a": 1}, {"a": 2}]),
        ("x.json", '{"a":1}', "jsonl", [{"a": 1}]),
        ("x.json", '{\n "a": [{"b": 1}]\n}', "json", [{"a": [{"b": 1}]}]),
        (
            "x.traj",
            '{\n "trajectory": [{"b": 1}],\n "history": []\n}',
            "json",
            [{"trajectory": [{"b": 1}], "history": []}],
        ),
        ("x.json", '{"a":1},\n{"a":2},\n', "json", [{"a": 1}, {"a": 2}]),
        ("x.jsonl", "[1,2]\n[3]\n", "jsonl", [[1, 2], [3]]),
        ("x.json", "42", "jsonl", [42]),
        ("x.json", "[]", "json", []),
        ("x.json", "", "jsonl", []),
        ("x", '{"a":1}\n{"a":2}\n', "jsonl", [{"a": 1}, {"a": 2}]),
        ("x.txt", '{"a":1}\n{"a":2}\n', "jsonl", [{"a": 1}, {"a": 2}]),
        ("x.json", '[{"a":1}][{"a":2}]', "json", [{"a": 1}, {"a": 2}]),
    ],
)
def test_shapes(tmp_path: Path, name: str, text: str, format: str, values: list[Any]) -> None:
    path = write(tmp_path, text.encode(), name)
    assert sniff(str(path)).format == format
    assert values_of(rows_of(path)) == values


def test_a_damaged_first_line_is_still_json_lines(tmp_path: Path) -> None:
    path = write(tmp_path, b'{"a": "no end\n{"a":1}\n{"a":2}\n')
    assert sniff(str(path)).format == "jsonl"
    assert [isinstance(row, RawRow) for row in rows_of(path)] == [False, True, True]


def test_lines_and_bytes_of_elements(tmp_path: Path) -> None:
    rows = rows_of(write(tmp_path, b'[\n  {"a": 1},\n\n  {\n"a": 2}\n]', "x.json"))
    assert [(row.line, row.raw) for row in rows] == [(2, b'{"a": 1}'), (4, b'{\n"a": 2}')]


@pytest.mark.parametrize("chunk_bytes", [7, 1000])
def test_too_large_elements(tmp_path: Path, chunk_bytes: int) -> None:
    deep = json.dumps({"a": [[[[[[{"b": "x" * 200}]]]]]], "c": "y" * 300})
    data = f'[{{"n":1}}, {deep}, {{"n":2}}, "{"z" * 300}", {{"n":3}}]'.encode()
    rows = rows_of(write(tmp_path, data, "x.json"), chunk_bytes=chunk_bytes, max_row_bytes=64)
    assert [row.value for row in rows if isinstance(row, RawRow)] == [{"n": 1}, {"n": 2}, {"n": 3}]
    bad = [row for row in rows if isinstance(row, Unreadable)]
    assert [(row.kind, len(row.raw)) for row in bad] == [("too_large", 64), ("too_large", 64)]
    assert f"{len(deep)} bytes" in bad[0].error


def test_duplicate_keys_and_depth_in_arrays(tmp_path: Path) -> None:
    rows = rows_of(write(tmp_path, b'[{"a":1,"a":2},' + b"[" * 300 + b"]" * 300 + b',{"b":1}]', "x.json"))
    assert [row.kind for row in rows if isinstance(row, Unreadable)] == ["duplicate_key", "too_deep"]
    assert values_of(rows[2:]) == [{"b": 1}]


@SETTINGS
@given(st.lists(st.sampled_from(list('{}[]",:\\\n a1')), max_size=40).map("".join), st.integers(1, 20))
def test_no_bytes_are_lost_or_read_twice(tmp_path: Path, text: str, chunk_bytes: int) -> None:
    path = write(tmp_path, text.encode(), "x.json")
    rows = rows_of(path, "json", chunk_bytes=chunk_bytes)
    assert repr(rows) == repr(rows_of(path, "json"))
    kept = sum(sum(byte not in b" \n,[]" for byte in row.raw) for row in rows)
    assert kept >= sum(byte not in b" \n,[]" for byte in text.encode())
