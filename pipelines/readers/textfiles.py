"""Text without structure: a document per file, a document per line, or `<id> <text>` lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from pipelines.readers.lines import line_chunks, nonblank_lines
from pipelines.readers.rows import DAMAGED, Broken, Chunk, RawRow, Row, Unreadable, too_large
from pipelines.readers.streams import Damaged

_ID_LINE: Final = re.compile(r"([A-Za-z_-]{0,16}\d+)[ \t]+(\S.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class TextLines:
    """A block of lines, each a document; with `ids`, each starts with its id."""

    data: bytes
    count: int
    ids: bool

    def __len__(self) -> int:
        return self.count

    def rows(self, first_row: int, first_line: int | None, max_row_bytes: int) -> Iterator[Row]:
        """One row `{"text"}` or `{"id", "text"}` per line that is not blank."""
        line = first_line or 1
        for row, (number, raw) in enumerate(nonblank_lines(self.data), first_row):
            yield self._row(row, line + number, raw, max_row_bytes)

    def _row(self, row: int, line: int, raw: bytes, max_row_bytes: int) -> Row:
        if len(raw) > max_row_bytes:
            return Unreadable(row, line, raw[:max_row_bytes], "too_large", too_large(len(raw), max_row_bytes))
        text = _decoded(row, line, raw)
        if isinstance(text, Unreadable):
            return text
        if not self.ids:
            return RawRow(row, line, raw, {"text": text})
        match = _ID_LINE.fullmatch(text)
        if match is None:
            return Unreadable(row, line, raw, "no_id", "the line does not start with an id and a text")
        return RawRow(row, line, raw, {"id": match.group(1), "text": match.group(2)})


@dataclass(frozen=True, slots=True)
class Document:
    """A whole file as one row."""

    data: bytes
    path: str

    def __len__(self) -> int:
        return 1

    def rows(self, first_row: int, first_line: int | None, max_row_bytes: int) -> Iterator[Row]:
        """The one row `{"text", "path"}`."""
        text = _decoded(first_row, first_line, self.data)
        if isinstance(text, Unreadable):
            yield text
        else:
            yield RawRow(first_row, first_line, self.data, {"text": text, "path": self.path})


def _decoded(row: int, line: int | None, raw: bytes) -> str | Unreadable:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as bad:
        error = f"byte 0x{raw[bad.start]:02x} at offset {bad.start} is not valid UTF-8"
        return Unreadable(row, line, raw, "invalid_utf8", error)


def read_lines(pieces: Iterator[bytes], name: str, ids: bool, chunk_bytes: int, max_row_bytes: int) -> Iterator[Chunk]:
    """Chunks of one document per line."""

    def block(data: bytes, count: int) -> Any:
        return TextLines(data, count, ids)

    return line_chunks(pieces, name, block, chunk_bytes, max_row_bytes)


def read_text(pieces: Iterator[bytes], path: str, max_row_bytes: int) -> Iterator[Chunk]:
    """One chunk with the whole file, unless there is nothing in it."""
    parts: list[bytes] = []
    size, damage = 0, ""
    try:
        for piece in pieces:
            parts.append(piece[: max(0, max_row_bytes - size)])
            size += len(piece)
    except Damaged as error:
        damage = str(error)
    data = b"".join(parts)
    if damage:
        yield Chunk("text", 0, 1, Broken(data, DAMAGED, damage))
    elif size > max_row_bytes:
        yield Chunk("text", 0, 1, Broken(data, "too_large", too_large(size, max_row_bytes)))
    elif data.strip():
        yield Chunk("text", 0, 1, Document(data, path))


def is_id_lines(lines: list[str]) -> bool:
    """Whether every sampled line is `<id> <text>` with ids (tokens with a digit) that differ."""
    matches = [_ID_LINE.fullmatch(line) for line in lines]
    ids = [match.group(1) for match in matches if match is not None]
    return len(ids) == len(lines) >= 2 and len(set(ids)) == len(ids)
