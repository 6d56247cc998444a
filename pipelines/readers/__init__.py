"""Readers: from a file's bytes to raw rows, streamed, losing nothing.

`sniff` tells what a file is, `read_chunks` cuts it into bounded chunks in the main process (cheap), `decode` turns
a chunk into rows wherever there is a core for it (expensive).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import IO, cast

import pyarrow as pa

from pipelines.readers.columnar import read_arrow, read_parquet
from pipelines.readers.delimited import read_delimited
from pipelines.readers.jsonlines import read_jsonl
from pipelines.readers.jsonsequence import read_json
from pipelines.readers.rows import CHUNK_BYTES, MAX_ROW_BYTES, Broken, Chunk, RawRow, Row, Unreadable
from pipelines.readers.sniffing import FORMATS, Sniffed, sniff
from pipelines.readers.streams import Damaged, decompress, file_pieces, open_bytes, text_pieces
from pipelines.readers.textfiles import read_lines, read_text

__all__ = ["FORMATS", "Chunk", "RawRow", "Sniffed", "Unreadable", "decode", "read_chunks", "sniff"]


def read_chunks(
    path: str, sniffed: Sniffed, *, chunk_bytes: int = CHUNK_BYTES, max_row_bytes: int = MAX_ROW_BYTES
) -> Iterator[Chunk]:
    """Chunks of about `chunk_bytes` (or 16,384 rows) of a local path or fsspec URL, in file order.

    A row over `max_row_bytes` is quarantined without being held whole. Raises RecipeError where the file cannot
    be opened; damage inside it ends in a `truncated_file` row.
    """
    if sniffed.format in ("parquet", "arrow"):
        yield from _columnar(path, sniffed, chunk_bytes)
        return

    def pieces() -> Iterator[bytes]:
        return text_pieces(file_pieces(path), sniffed.compression)

    if sniffed.format == "jsonl":
        yield from read_jsonl(pieces(), chunk_bytes, max_row_bytes)
    elif sniffed.format == "json":
        yield from read_json(pieces, sniffed.wrapper, chunk_bytes, max_row_bytes)
    elif sniffed.format in ("csv", "tsv"):
        yield from read_delimited(
            pieces(), sniffed.format, sniffed.delimiter, sniffed.header, chunk_bytes, max_row_bytes
        )
    elif sniffed.format in ("id_text", "lines"):
        yield from read_lines(pieces(), sniffed.format, sniffed.format == "id_text", chunk_bytes, max_row_bytes)
    else:
        yield from read_text(pieces(), PurePosixPath(path).name, max_row_bytes)


def decode(chunk: Chunk, *, max_row_bytes: int = MAX_ROW_BYTES) -> Iterator[Row]:
    """The rows of a chunk, one for every row of the file in order, readable or not. Raises nothing for bad data."""
    return chunk.items.rows(chunk.first_row, chunk.first_line, max_row_bytes)


def _columnar(path: str, sniffed: Sniffed, chunk_bytes: int) -> Iterator[Chunk]:
    reader = read_parquet if sniffed.format == "parquet" else read_arrow
    try:
        with _seekable(path, sniffed.compression) as file:
            yield from reader(file, chunk_bytes)
    except (pa.ArrowException, Damaged) as error:
        yield Chunk(sniffed.format, 0, None, Broken(b"", "truncated_file", str(error)))


@contextmanager
def _seekable(path: str, compression: str | None) -> Iterator[IO[bytes]]:
    """The file itself, or a decompressed temporary copy: columnar formats are read from their end."""
    if compression is None:
        with open_bytes(path) as file:
            yield file
        return
    with tempfile.TemporaryFile() as copy:
        for piece in decompress(file_pieces(path), compression):
            copy.write(piece)
        copy.seek(0)
        yield cast(IO[bytes], copy)
