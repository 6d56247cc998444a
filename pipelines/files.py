"""Atomic files: temporary file, fsync, rename. A reader sees a whole file or none."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

ROW_GROUP = 16_384
_FEW_VALUES = frozenset(
    {"source", "kind", "language", "test_type", "stage", "reason", "file", "status", "rewrite_status", "model", "field"}
)  # columns worth a dictionary; building one for texts and ids only costs time
_BLOCK = 1 << 20
TEMPORARY = ".*.tmp"
"""Pattern of files that were never finished."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`; on success it is fsynced and renamed over it, on error removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
        _fsync(temporary)
        os.replace(temporary, path)
        _fsync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Write a plain value as indented JSON, atomically."""
    write_bytes(path, orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n")


def read_json(path: Path) -> Any:
    """The value in a JSON file."""
    return orjson.loads(path.read_bytes())


@contextmanager
def table_writer(path: Path, schema: pa.Schema, *, level: int = 3, bloom: str | None = None) -> Iterator[TableWriter]:
    """A streaming Parquet writer that appears at `path` only when it has been closed without an error.

    Row groups hold 16,384 rows, none is empty; `bloom` names a string column that gets a bloom filter.
    """
    with replacing(path) as temporary:
        options: dict[str, Any] = {"use_dictionary": [name for name in schema.names if name in _FEW_VALUES]}
        if bloom is not None:
            options["bloom_filter_options"] = {bloom: {"ndv": ROW_GROUP}}
        with pq.ParquetWriter(
            temporary, schema, compression="zstd", compression_level=level, write_page_index=True, **options
        ) as writer:
            sink = TableWriter(writer, schema)
            yield sink
            sink.flush()


class TableWriter:
    """Collects batches into row groups of a fixed size, so that the bytes do not depend on how rows arrived."""

    def __init__(self, writer: pq.ParquetWriter, schema: pa.Schema) -> None:
        self._writer = writer
        self._schema = schema
        self._pending: list[pa.Table] = []
        self._pending_rows = 0
        self.rows = 0

    def write(self, table: pa.Table) -> None:
        """Add rows; columns must be those of the schema."""
        self._pending.append(table.cast(self._schema) if table.schema != self._schema else table)
        self._pending_rows += table.num_rows
        self.rows += table.num_rows
        if self._pending_rows >= ROW_GROUP:
            self._drain(full_only=True)

    def flush(self) -> None:
        """Write what is left."""
        self._drain(full_only=False)

    def _drain(self, full_only: bool) -> None:
        table = pa.concat_tables(self._pending) if self._pending else self._schema.empty_table()
        end = table.num_rows - table.num_rows % ROW_GROUP if full_only else table.num_rows
        for start in range(0, end, ROW_GROUP):
            group = table.slice(start, min(ROW_GROUP, end - start)).combine_chunks()
            self._writer.write_table(group, row_group_size=ROW_GROUP)
        self._pending = [table.slice(end)] if end < table.num_rows else []
        self._pending_rows = table.num_rows - end


def write_table(path: Path, table: pa.Table, *, level: int = 1) -> None:
    """Write a whole table atomically as Parquet."""
    with table_writer(path, table.schema, level=level) as writer:
        writer.write(table)


def file_digest(path: Path) -> str:
    """Hex xxh3-128 of a file's bytes."""
    hasher = xxhash.xxh3_128()
    with path.open("rb") as handle:
        while block := handle.read(_BLOCK):
            hasher.update(block)
    return hasher.hexdigest()
