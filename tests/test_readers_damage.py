"""Compressed streams: told by magic number, read up to the damage, and the damage told."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reading import rows_of, values_of, write

from pipelines.readers import RawRow, Unreadable, sniff

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstandard.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
}
SETTINGS = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def lines(count: int) -> list[bytes]:
    rng = random.Random(1)
    return [json.dumps({"n": n, "text": f"{rng.getrandbits(120):030x}"}).encode() for n in range(count)]


@pytest.mark.parametrize("name", COMPRESS)
def test_compression_is_told_by_content(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, COMPRESS[name](b"\n".join(lines(50))), "x.jsonl")
    assert sniff(str(path)).compression == name
    assert sniff(str(path)).format == "jsonl"
    assert [row.raw for row in rows_of(path)] == lines(50)


@pytest.mark.parametrize("name", COMPRESS)
@pytest.mark.parametrize("format", ["jsonl", "json", "csv", "yaml", "lines"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.999])
def test_truncated_streams(tmp_path: Path, name: str, format: str, share: float) -> None:
    plain = {
        "json": b"[" + b",\n".join(lines(9000)) + b"]",
        "csv": b"n,text\n" + b"\n".join(b'1,"line one\nline ""two"""' for _ in range(9000)),
        "yaml": b"\n".join(b"- n: 1\n  text: " + line[-20:-2] for line in lines(9000)),
    }.get(format, b"\n".join(lines(9000)))
    whole = rows_of(write(tmp_path, plain, "whole"), format)
    packed = COMPRESS[name](plain)
    rows = rows_of(write(tmp_path, packed[: max(int(len(packed) * share), 10)], "cut"), format)
    assert [row.raw for row in rows[:-1]] == [row.raw for row in whole[: len(rows) - 1]]
    last = rows[-1]
    assert isinstance(last, Unreadable)
    assert last.kind == "truncated_file"
    assert "byte" in last.error
    if name == "gzip" and format != "csv":
        assert len(rows) >= len(whole) * share * 0.8


@SETTINGS
@given(st.data())
def test_a_flipped_byte_is_noticed_and_no_row_is_invented(tmp_path: Path, data: st.DataObject) -> None:
    plain = lines(2000)
    packed = bytearray(gzip.compress(b"\n".join(plain)))
    packed[data.draw(st.integers(20, len(packed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    rows = rows_of(write(tmp_path, bytes(packed)), "jsonl")
    assert any(isinstance(row, Unreadable) for row in rows)


def test_damage_late_in_a_stream_keeps_the_rows_before_it(tmp_path: Path) -> None:
    plain = lines(20_000)
    packed = bytearray(gzip.compress(b"\n".join(plain)))
    at = int(len(packed) * 0.9)
    packed[at : at + 50] = b"\xff" * 50
    rows = rows_of(write(tmp_path, bytes(packed)))
    assert [row.raw for row in rows[:17_000]] == plain[:17_000]
    assert isinstance(rows[-1], Unreadable)
    assert rows[-1].kind == "truncated_file"


def test_trailing_garbage_is_told(tmp_path: Path) -> None:
    rows = rows_of(write(tmp_path, gzip.compress(b'{"a":1}\n') + b"not gzip at all"))
    assert values_of(rows[:1]) == [{"a": 1}]
    assert isinstance(rows[1], Unreadable)


def test_a_bomb_is_streamed(tmp_path: Path) -> None:
    path = write(tmp_path, gzip.compress(b'{"a":1}\n' + b"0" * (200 << 20) + b'\n{"a":2}\n', compresslevel=1))
    first, bomb, last = rows_of(path, max_row_bytes=1 << 20)
    assert isinstance(bomb, Unreadable)
    assert (bomb.kind, len(bomb.raw)) == ("too_large", 1 << 20)
    assert [row.raw for row in (first, last)] == [b'{"a":1}', b'{"a":2}']
    assert isinstance(first, RawRow)
