"""Parquet and Arrow files: nested columns, streamed batch by batch."""

from __future__ import annotations

import base64
import datetime
import decimal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, Final

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.readers.rows import CHUNK_ROWS, Broken, Chunk, RawRow, Row, Unreadable, too_large

PLAIN_BATCH: Final = 1024  # rows per read; batches are then cut or joined to a chunk's size in bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows in the Arrow IPC stream format."""

    data: bytes
    count: int

    def __len__(self) -> int:
        return self.count

    def rows(self, first_row: int, first_line: int | None, max_row_bytes: int) -> Iterator[Row]:
        """One dict per row, its values such as JSON has them."""
        with pa.ipc.open_stream(self.data) as reader:
            table = reader.read_all()
        plain = all(_is_plain(field.type) for field in table.schema)
        row = first_row
        for batch in table.to_batches(max_chunksize=PLAIN_BATCH):
            for value in _to_pylist(batch):
                yield columnar_row(row, value if plain else to_plain(value), max_row_bytes)
                row += 1


def columnar_row(row: int, value: Any, max_row_bytes: int) -> Row:
    """A row that has no bytes of its own: they are its value as JSON."""
    raw = orjson.dumps(value, default=str)
    if len(raw) > max_row_bytes:
        return Unreadable(row, None, raw[:max_row_bytes], "too_large", too_large(len(raw), max_row_bytes))
    return RawRow(row, None, raw, value)


def _to_pylist(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Rows as dicts; maps too, unless one has a key twice: then maps are lists of pairs."""
    try:
        rows: list[dict[str, Any]] = batch.to_pylist(maps_as_pydicts="strict")
    except KeyError:
        rows = batch.to_pylist()
    return rows


def _is_plain(kind: pa.DataType) -> bool:
    """Whether values of a type come out of Arrow as JSON has them."""
    if pa.types.is_struct(kind):
        return all(_is_plain(field.type) for field in kind)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _is_plain(kind.value_type)
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return bool(text or pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def to_plain(value: Any) -> Any:
    """The same value with only dict, list, str, int, float, bool and None in it.

    Dates become ISO 8601, decimals text, bytes text where they are UTF-8 and else `{"base64": ...}`.
    """
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_plain(item) for item in value]
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, bytes):
        return _text_or_base64(value)
    return str(value) if isinstance(value, (decimal.Decimal, datetime.timedelta)) else repr(value)


def _text_or_base64(value: bytes) -> Any:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode("ascii")}


def read_parquet(file: IO[bytes], chunk_bytes: int) -> Iterator[Chunk]:
    """Chunks of a Parquet file."""
    with pq.ParquetFile(file, pre_buffer=False) as parquet:  # else the whole file ends up in memory
        yield from batch_chunks(parquet.iter_batches(batch_size=PLAIN_BATCH), "parquet", chunk_bytes)


def read_arrow(file: IO[bytes], chunk_bytes: int) -> Iterator[Chunk]:
    """Chunks of an Arrow IPC file or stream."""
    magic = file.read(6)
    file.seek(0)
    if magic == b"ARROW1":
        reader = pa.ipc.open_file(file)
        batches = (reader.get_batch(index) for index in range(reader.num_record_batches))
        yield from batch_chunks(batches, "arrow", chunk_bytes)
    else:
        yield from batch_chunks(iter(pa.ipc.open_stream(file)), "arrow", chunk_bytes)


def batch_chunks(batches: Iterator[pa.RecordBatch], name: str, chunk_bytes: int) -> Iterator[Chunk]:
    """Cut and join record batches to chunks. A file that breaks off ends in a `truncated_file` row."""
    row = size = count = 0
    held: list[pa.RecordBatch] = []
    damage = ""
    try:
        for batch in _slices(batches, chunk_bytes):
            if held and (size + batch.nbytes > chunk_bytes or count + batch.num_rows > CHUNK_ROWS):
                yield Chunk(name, row, None, _block(held, count))
                row, held, size, count = row + count, [], 0, 0
            held.append(batch)
            size, count = size + batch.nbytes, count + batch.num_rows
    except (pa.ArrowException, OSError) as error:
        damage = str(error)
    if held:
        yield Chunk(name, row, None, _block(held, count))
    if damage:
        yield Chunk(name, row + count, None, Broken(b"", "truncated_file", damage))


def _slices(batches: Iterator[pa.RecordBatch], chunk_bytes: int) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        if not batch.num_rows:
            continue
        step = max(1, min(CHUNK_ROWS, batch.num_rows * chunk_bytes // max(1, batch.nbytes)))
        for start in range(0, batch.num_rows, step):
            yield batch.slice(start, step)


def _block(batches: list[pa.RecordBatch], count: int) -> Batch:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return Batch(sink.getvalue().to_pybytes(), count)
