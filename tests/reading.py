"""Helpers of the reader tests: read a whole file the way the runner does, checking what always holds."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from pipelines.readers import RawRow, Unreadable, decode, read_chunks, sniff


def rows_of(path: Path, format: str = "auto", **sizes: int) -> list[RawRow | Unreadable]:
    sniffed = sniff(str(path), format)
    rows: list[RawRow | Unreadable] = []
    for chunk in read_chunks(str(path), sniffed, **sizes):
        assert chunk.first_row == len(rows)
        limit = {"max_row_bytes": sizes["max_row_bytes"]} if "max_row_bytes" in sizes else {}
        decoded = list(decode(pickle.loads(pickle.dumps(chunk)), **limit))
        assert len(decoded) == len(chunk.items)
        rows += decoded
    assert [row.row for row in rows] == list(range(len(rows)))
    return rows


def values_of(rows: list[RawRow | Unreadable]) -> list[Any]:
    assert all(isinstance(row, RawRow) for row in rows), rows
    return [row.value for row in rows if isinstance(row, RawRow)]


def write(folder: Path, data: bytes, name: str = "x.jsonl") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path
