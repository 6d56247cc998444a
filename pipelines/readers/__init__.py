"""Readers: from a file's bytes to raw rows, streamed, losing nothing.

`sniff` tells what a file is, `read_chunks` cuts it into bounded chunks in the main process (cheap), `decode` turns
a chunk into rows wherever there is a core for it (expensive).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pyarrow as pa

from pipelines.readers.archives import read_archive
from pipelines.readers.columnar import read_arrow, read_parquet
from pipelines.readers.delimited import read_delimited
from pipelines.readers.jsonlines import read_jsonl
from pipelines.readers.jsonsequence import read_json
from pipelines.readers.opened import Opened, at_path, seekable
from pipelines.readers.packages import read_package
from pipelines.readers.rows import CHUNK_BYTES, MAX_ROW_BYTES, TRUNCATED, Broken, Chunk, RawRow, Row, Unreadable
from pipelines.readers.sniffing import FORMATS, Sniffed, sniff, sniff_stream
from pipelines.readers.streams import Damaged, damage_of, text_pieces
from pipelines.readers.textfiles import read_lines, read_text
from pipelines.readers.yamlrows import read_yaml

__all__ = ["FORMATS", "Chunk", "RawRow", "Sniffed", "Unreadable", "decode", "read_chunks", "sniff"]


def read_chunks(
    path: str, sniffed: Sniffed, *, chunk_bytes: int = CHUNK_BYTES, max_row_bytes: int = MAX_ROW_BYTES
) -> Iterator[Chunk]:
    """Chunks of about `chunk_bytes` (or 16,384 rows) of a local path or fsspec URL, in file order.

    A row over `max_row_bytes` is quarantined without being held whole. Raises RecipeError where the file cannot
    be opened; damage inside it ends in a `truncated_file` row.
    """
    if sniffed.format == "package":
        return read_package(path, max_row_bytes)
    return _read(at_path(path), sniffed, chunk_bytes, max_row_bytes)


def decode(chunk: Chunk, *, max_row_bytes: int = MAX_ROW_BYTES) -> Iterator[Row]:
    """The rows of a chunk, one for every row of the file in order, readable or not. Raises nothing for bad data."""
    return chunk.items.rows(chunk.first_row, chunk.first_line, max_row_bytes)


def _read(source: Opened, sniffed: Sniffed, chunk_bytes: int, max_row_bytes: int) -> Iterator[Chunk]:
    if sniffed.format in ("parquet", "arrow"):
        return _columnar(source, sniffed, chunk_bytes)
    if sniffed.format in ("tar", "zip"):
        member = partial(_member, chunk_bytes, max_row_bytes)
        return read_archive(source, sniffed.format, sniffed.compression, max_row_bytes, member)
    return _text(source, sniffed, chunk_bytes, max_row_bytes)


def _member(chunk_bytes: int, max_row_bytes: int, source: Opened) -> Iterator[Chunk]:
    """Chunks of a file in an archive."""
    return _read(source, sniff_stream(source.pieces(), source.name), chunk_bytes, max_row_bytes)


def _text(source: Opened, sniffed: Sniffed, chunk_bytes: int, max_row_bytes: int) -> Iterator[Chunk]:
    def pieces() -> Iterator[bytes]:
        return text_pieces(source.pieces(), sniffed.compression)

    name, sizes = sniffed.format, (chunk_bytes, max_row_bytes)
    if name == "jsonl":
        return read_jsonl(pieces(), *sizes)
    if name == "json":
        return read_json(pieces, sniffed.wrapper, *sizes)
    if name in ("csv", "tsv"):
        return read_delimited(pieces(), name, sniffed.delimiter, sniffed.header, *sizes)
    if name in ("id_text", "lines"):
        return read_lines(pieces(), name, name == "id_text", *sizes)
    if name == "yaml":
        return read_yaml(pieces(), *sizes)
    return read_text(pieces(), source.name, max_row_bytes)


def _columnar(source: Opened, sniffed: Sniffed, chunk_bytes: int) -> Iterator[Chunk]:
    reader = read_parquet if sniffed.format == "parquet" else read_arrow
    try:
        with seekable(source, sniffed.compression) as file:
            yield from reader(file, chunk_bytes)
    except (pa.ArrowException, Damaged, OSError) as error:
        yield Chunk(sniffed.format, 0, None, Broken(b"", TRUNCATED, damage_of(error)))
