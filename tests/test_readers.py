"""Readers on JSON Lines: any value round trips, any bytes are survived, a bad line costs only itself."""

from __future__ import annotations

import gzip
import json
import math
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reading import rows_of, values_of, write

from pipelines.readers import RawRow, Unreadable, decode, read_chunks, sniff
from pipelines.readers.rows import CHUNK_ROWS
from schemas.errors import RecipeError

SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.sampled_from(['":', '" :', "a b", "\u2028"])
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(['x":1', '" : ', "\u2028\x85\x00", "1" * 40])
)  # fmt: skip
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4))
DICTS = st.dictionaries(KEYS, VALUES, max_size=5)


@SETTINGS
@given(st.lists(DICTS, min_size=1, max_size=8), st.booleans(), st.sampled_from([None, (" ,", " : "), (",", ":")]))
def test_values_round_trip(tmp_path: Path, values: list[Any], ascii: bool, separators: Any) -> None:
    lines = [json.dumps(value, ensure_ascii=ascii, separators=separators).encode() for value in values]
    rows = rows_of(write(tmp_path, b"\n".join(lines)), "jsonl")
    assert values_of(rows) == values
    assert [row.raw for row in rows] == lines
    assert [row.line for row in rows] == list(range(1, len(lines) + 1))


@SETTINGS
@given(st.lists(st.binary(max_size=60), max_size=6), st.integers(1, 50))
def test_any_bytes_are_survived_and_cost_no_neighbour(tmp_path: Path, junk: list[bytes], chunk_bytes: int) -> None:
    good = b'{"good":"caf\xc3\xa9 \xe2\x80\xa8"}'
    data = b"".join(good + b"\n" + line + b"\n" for line in junk)
    rows = rows_of(write(tmp_path, data), "jsonl", chunk_bytes=chunk_bytes)
    assert sum(row.raw == good and isinstance(row, RawRow) for row in rows) >= len(junk)
    expected = [part.removesuffix(b"\r") for part in data.split(b"\n") if part.strip(b" \t\r")]
    if data[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        assert [row.raw for row in rows] == expected


@SETTINGS
@given(st.binary(max_size=300), st.sampled_from(["x.jsonl", "x.json", "x.csv", "x.yaml", "x.txt", "x.parquet", "x"]))
def test_any_file_is_read_or_refused(tmp_path: Path, data: bytes, name: str) -> None:
    try:
        rows_of(write(tmp_path, data, name))
    except RecipeError:
        return


@SETTINGS
@given(
    st.sampled_from(["jsonl", "json", "csv", "yaml", "id_text", "lines", "text", "tsv", "arrow", "parquet"]), st.data()
)
def test_any_bytes_under_any_format(tmp_path: Path, format: str, data: st.DataObject) -> None:
    alphabet = st.sampled_from(
        [b'"', b"{", b"}", b"[", b"]", b",", b":", b"\n", b"- ", b"a", b"1", b"\\", b"\x00", b"\xff"]
    )
    body = b"".join(data.draw(st.lists(alphabet, max_size=60)))
    raws = rows_of(write(tmp_path, body), format)
    assert all(isinstance(row, (RawRow, Unreadable)) for row in raws)


@pytest.mark.parametrize(
    ("line", "kind", "words"),
    [
        (b'{"a": 1,, "b": 2}', "invalid_json", "column 9"),
        (b'{"a": "caf\xe9"}', "invalid_utf8", "offset 10"),
        (b'{"a": "\\ud800"}', "lone_surrogate", "ud800"),
        (b'{"\\udc01": 1}', "lone_surrogate", "udc01"),
        (b'{"a": 1, "b": {"key": 1, "key": 2}}', "duplicate_key", '"key"'),
        (b'{"a":1,"a":2,"b" :3}', "duplicate_key", '"a"'),
        (b'{"a":1,"\\u0061":2}', "duplicate_key", '"a"'),
        (b'{"a":"\\u0022:","b":1,"b":2}', "duplicate_key", '"b"'),
        (b"[" * 300 + b"]" * 300, "too_deep", "200"),
        (b"[" * 100_000, "too_deep", "200"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "too_deep", "200"),
        (b'{"a": ' + b"1" * 10_000 + b"}", "invalid_json", "10,000"),
        (b"{'a': 1}", "invalid_json", "column 2"),
        (b'{"a": 1} {"b": 2}', "invalid_json", "Extra data"),
        (b"\x00\x00\x00", "invalid_json", "column 1"),
    ],
)
def test_bad_lines(tmp_path: Path, line: bytes, kind: str, words: str) -> None:
    before, bad, after = rows_of(write(tmp_path, b'{"x":1}\n' + line + b'\n{"x":2}\n'))
    assert (before.raw, after.raw) == (b'{"x":1}', b'{"x":2}')
    assert isinstance(before, RawRow)
    assert isinstance(after, RawRow)
    assert isinstance(bad, Unreadable)
    assert (bad.kind, bad.raw, bad.row, bad.line) == (kind, line, 1, 2)
    assert words in bad.error


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (b'{"a": 123456789012345678901234567890}', {"a": 123456789012345678901234567890}),
        (b'{"a": -9223372036854775809}', {"a": -9223372036854775809}),
        (b'{"a": 18446744073709551615}', {"a": 18446744073709551615}),
        (b'{"a": Infinity, "b": -Infinity}', {"a": math.inf, "b": -math.inf}),
        (b'{"a": "\x00\t"}', {"a": "\x00\t"}),
        (b'{"a": "\\u0000"}', {"a": "\x00"}),
        (b'{"a": "\\ud83d\\ude00"}', {"a": "😀"}),
        ('{"a": "x\u2028y\x85z"}'.encode(), {"a": "x\u2028y\x85z"}),
        (b"[" * 200 + b"]" * 200, None),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        (b'  {"a": 1}\t', {"a": 1}),
    ],
)
def test_odd_lines_are_read_exactly(tmp_path: Path, line: bytes, value: Any) -> None:
    rows = rows_of(write(tmp_path, b'{"x":1}\n' + line + b"\n"), "jsonl")
    found = values_of(rows)[1]
    assert value is None or (found == value and type(next(iter(found.values()))) is type(next(iter(value.values()))))


def test_nan_is_accepted(tmp_path: Path) -> None:
    (row,) = values_of(rows_of(write(tmp_path, b'{"a": NaN}\n')))
    assert math.isnan(row["a"])


def test_blank_lines_and_crlf(tmp_path: Path) -> None:
    rows = rows_of(write(tmp_path, b'\n\r\n{"a":1}\r\n \t\r\n\n{"a":2}\r\n\n'))
    assert values_of(rows) == [{"a": 1}, {"a": 2}]
    assert [(row.line, row.raw) for row in rows] == [(3, b'{"a":1}'), (6, b'{"a":2}')]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_byte_order_marks(tmp_path: Path, encoding: str) -> None:
    text = '{"a":"é😀"}\n{"a":2}\n'
    data = ("\ufeff" + text).encode(encoding) if encoding == "utf-16-be" else text.encode(encoding)
    assert values_of(rows_of(write(tmp_path, data))) == [{"a": "é😀"}, {"a": 2}]


def test_utf16_with_a_lone_surrogate_costs_one_row(tmp_path: Path) -> None:
    data = b"\xff\xfe" + '{"a":1}\n{"a":"'.encode("utf-16-le") + b"\x00\xd8" + '"}\n{"a":3}\n'.encode("utf-16-le")
    good, bad, last = rows_of(write(tmp_path, data))
    assert isinstance(bad, Unreadable)
    assert bad.kind == "invalid_utf8"
    assert values_of([good, last]) == [{"a": 1}, {"a": 3}]


@SETTINGS
@given(
    st.lists(DICTS, max_size=12),
    st.integers(1, 200),
    st.lists(st.sampled_from([b"", b" ", b"{bad", b"\xff"]), max_size=4),
)
def test_chunk_size_changes_nothing(tmp_path: Path, values: list[Any], chunk_bytes: int, extra: list[bytes]) -> None:
    data = b"\n".join([*(json.dumps(value).encode() for value in values), *extra])
    path = write(tmp_path, data)
    assert repr(rows_of(path, "jsonl", chunk_bytes=chunk_bytes)) == repr(rows_of(path, "jsonl"))


@SETTINGS
@given(st.lists(st.integers(0, 40), max_size=12), st.integers(1, 60), st.booleans())
def test_too_large_rows(tmp_path: Path, sizes: list[int], chunk_bytes: int, newline: bool) -> None:
    lines = [b'"' + b"x" * size + b'"' for size in sizes]
    path = write(tmp_path, b"\n".join(lines) + (b"\n" if newline and lines else b""))
    rows = rows_of(path, "jsonl", chunk_bytes=chunk_bytes, max_row_bytes=20)
    assert [isinstance(row, RawRow) for row in rows] == [len(line) <= 20 for line in lines]
    assert [row.raw for row in rows] == [line[:20] for line in lines]
    bad = [(line, row) for line, row in zip(lines, rows, strict=True) if isinstance(row, Unreadable)]
    assert all(f"{len(line):,} bytes" in row.error for line, row in bad)
    assert repr(rows) == repr(rows_of(path, "jsonl", max_row_bytes=20))


def test_many_short_rows_make_bounded_chunks(tmp_path: Path) -> None:
    path = write(tmp_path, b"1\n" * 50_000)
    sizes = [len(chunk.items) for chunk in read_chunks(str(path), sniff(str(path)))]
    assert sum(sizes) == 50_000
    assert max(sizes) <= CHUNK_ROWS


def test_a_100_mb_line(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    with path.open("wb") as file:
        file.write(b'{"a":1}\n{"a":"')
        for _ in range(100):
            file.write(b"x" * (1 << 20))
        file.write(b'"}\n{"a":3}\n')
    tracemalloc.start()
    try:
        before, bad, after = rows_of_unpickled(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(bad, Unreadable)
    assert (bad.kind, len(bad.raw)) == ("too_large", 64 << 20)
    assert values_of([before, after]) == [{"a": 1}, {"a": 3}]
    assert peak < 210 << 20


def test_a_large_row_within_the_limit(tmp_path: Path) -> None:
    path = write(tmp_path, b'{"a":"' + b"x" * (30 << 20) + b'"}\n{"a":3}\n')
    big, last = rows_of_unpickled(path)
    assert isinstance(big, RawRow)
    assert len(big.value["a"]) == 30 << 20
    assert last.raw == b'{"a":3}'


def rows_of_unpickled(path: Path) -> Iterator[RawRow | Unreadable]:
    for chunk in read_chunks(str(path), sniff(str(path))):
        yield from decode(chunk)


def test_decode_keeps_pace(tmp_path: Path) -> None:
    """Not a benchmark: only that no step became slower by an order of magnitude."""
    import time

    line = json.dumps(
        {"instruction": "Say something " * 8, "input": "", "output": "Some words to read. " * 12}
    ).encode()
    path = write(tmp_path, (line + b"\n") * 20_000)
    start = time.perf_counter()
    assert sum(1 for _ in rows_of_unpickled(path)) == 20_000
    assert path.stat().st_size / (time.perf_counter() - start) > 8e6


def test_gzip_members_and_padding(tmp_path: Path) -> None:
    data = gzip.compress(b'{"a":1}\n') + gzip.compress(b'{"a":2}\n') + b"\0" * 512
    assert values_of(rows_of(write(tmp_path, data))) == [{"a": 1}, {"a": 2}]
