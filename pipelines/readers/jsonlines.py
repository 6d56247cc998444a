"""JSON Lines: one JSON text per line. Blocks of whole lines are cut without looking into them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipelines.readers.jsontext import odd_lines, parse_json
from pipelines.readers.lines import line_chunks, nonblank_lines
from pipelines.readers.rows import Chunk, RawRow, Row, Unreadable, too_large
from schemas.errors import BadRow


@dataclass(frozen=True, slots=True)
class JsonLines:
    """A block of JSON Lines with `count` rows."""

    data: bytes
    count: int

    def __len__(self) -> int:
        return self.count

    def rows(self, first_row: int, first_line: int | None, max_row_bytes: int) -> Iterator[Row]:
        """One row per line that is not blank."""
        odd = odd_lines(self.data)
        line = first_line or 1
        for row, (number, raw) in enumerate(nonblank_lines(self.data), first_row):
            yield json_row(row, line + number, raw, max_row_bytes, number in odd)


def json_row(row: int, line: int | None, raw: bytes, max_row_bytes: int, odd: bool = True) -> Row:
    """One row out of one JSON text."""
    if len(raw) > max_row_bytes:
        return Unreadable(row, line, raw[:max_row_bytes], "too_large", too_large(len(raw), max_row_bytes))
    try:
        value: Any = parse_json(raw, odd)
    except BadRow as error:
        return Unreadable(row, line, raw, error.kind, str(error), error.field)
    return RawRow(row, line, raw, value)


def read_jsonl(pieces: Iterator[bytes], chunk_bytes: int, max_row_bytes: int) -> Iterator[Chunk]:
    """Chunks of JSON Lines."""
    return line_chunks(pieces, "jsonl", JsonLines, chunk_bytes, max_row_bytes)
