"""Parquet and Arrow files: nested columns, streamed batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Final, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.readers.rows import CHUNK_ROWS, TRUNCATED, Block, Broken, Chunk, Lost, Row
from pipelines.readers.streams import damage_of
from pipelines.readers.values import PLAIN_BATCH, batch_rows

_MOST_LOST: Final = 1 << 24  # rows of a row group that are counted one by one; a damaged file may claim any number


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows in the Arrow IPC stream format."""

    data: bytes
    count: int

    def __len__(self) -> int:
        return self.count

    def rows(self, first_row: int, first_line: int | None, max_row_bytes: int) -> Iterator[Row]:
        """One dict per row, its values such as JSON has them; rows with a value that Python cannot hold are bad."""
        with pa.ipc.open_stream(self.data) as reader:
            table = reader.read_all()
        for batch in table.to_batches(max_chunksize=PLAIN_BATCH):
            yield from batch_rows(batch, first_row, max_row_bytes)
            first_row += batch.num_rows


Piece: TypeAlias = "pa.RecordBatch | Broken | Lost"


def read_parquet(file: IO[bytes], chunk_bytes: int) -> Iterator[Chunk]:
    """Chunks of a Parquet file. Damage costs the rows of its row group from there on, and each of them is counted."""
    with pq.ParquetFile(file, pre_buffer=False) as parquet:  # else the whole file ends up in memory
        pieces = (piece for group in range(parquet.num_row_groups) for piece in _row_group(parquet, group))
        yield from batch_chunks(pieces, "parquet", chunk_bytes)


def _row_group(parquet: pq.ParquetFile, group: int) -> Iterator[Piece]:
    left, problem = parquet.metadata.row_group(group).num_rows, "it ends early"
    try:
        for batch in parquet.iter_batches(batch_size=PLAIN_BATCH, row_groups=[group]):
            left -= batch.num_rows
            yield batch
    except (pa.ArrowException, OSError) as error:
        problem = damage_of(error)
    if left > 0:
        yield from _lost(left, f"row group {group} of {parquet.num_row_groups} (from 0) is damaged: {problem}")


def _lost(rows: int, problem: str) -> Iterator[Piece]:
    error = f"{problem}; {rows:,} of its rows are lost"
    if rows > _MOST_LOST:
        yield Broken(b"", TRUNCATED, error)
        return
    for start in range(0, rows, CHUNK_ROWS):
        yield Lost(min(CHUNK_ROWS, rows - start), error)


def read_arrow(file: IO[bytes], chunk_bytes: int) -> Iterator[Chunk]:
    """Chunks of an Arrow IPC file or stream. Damage in a file costs one record batch, in a stream all behind it."""
    magic = file.read(6)
    file.seek(0)
    if magic == b"ARROW1":
        yield from batch_chunks(_record_batches(pa.ipc.open_file(file)), "arrow", chunk_bytes)
    else:
        yield from batch_chunks(iter(pa.ipc.open_stream(file)), "arrow", chunk_bytes)


def _record_batches(reader: pa.RecordBatchFileReader) -> Iterator[Piece]:
    count = reader.num_record_batches
    for index in range(count):
        try:
            batch = reader.get_batch(index)
            batch.validate()
        except (pa.ArrowException, OSError) as error:
            where = f"record batch {index} of {count} (from 0) is damaged, and all its rows are lost"
            yield Broken(b"", TRUNCATED, f"{where}: {damage_of(error)}")
        else:
            yield batch


def batch_chunks(pieces: Iterator[Piece], name: str, chunk_bytes: int) -> Iterator[Chunk]:
    """Cut and join record batches to chunks. A file that breaks off ends in a `truncated_file` row."""
    row = 0
    for block in _blocks(_slices(_told(pieces), chunk_bytes), chunk_bytes):
        yield Chunk(name, row, None, block)
        row += len(block)


def _told(pieces: Iterator[Piece]) -> Iterator[Piece]:
    """The pieces, and what breaks them off."""
    try:
        yield from pieces
    except (pa.ArrowException, OSError) as error:
        yield Broken(b"", TRUNCATED, damage_of(error))


def _slices(pieces: Iterator[Piece], chunk_bytes: int) -> Iterator[Piece]:
    for piece in pieces:
        if isinstance(piece, Broken | Lost):
            yield piece
            continue
        if not piece.num_rows:
            continue
        step = max(1, min(CHUNK_ROWS, piece.num_rows * chunk_bytes // max(1, piece.nbytes)))
        for start in range(0, piece.num_rows, step):
            yield piece.slice(start, step)


def _blocks(pieces: Iterator[Piece], chunk_bytes: int) -> Iterator[Block]:
    held: list[pa.RecordBatch] = []
    size = count = 0
    for piece in pieces:
        if held and not _fits(piece, size, count, chunk_bytes):
            yield _block(held, count)
            held, size, count = [], 0, 0
        if isinstance(piece, Broken | Lost):
            yield piece
        else:
            held.append(piece)
            size, count = size + piece.nbytes, count + piece.num_rows
    if held:
        yield _block(held, count)


def _fits(piece: Piece, size: int, count: int, chunk_bytes: int) -> bool:
    """Whether a piece can join rows that already make `size` bytes and `count` rows."""
    if isinstance(piece, Broken | Lost):
        return False
    return bool(size + piece.nbytes <= chunk_bytes and count + piece.num_rows <= CHUNK_ROWS)


def _block(batches: list[pa.RecordBatch], count: int) -> Batch:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return Batch(sink.getvalue().to_pybytes(), count)
