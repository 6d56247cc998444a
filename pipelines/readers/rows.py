"""What every reader makes: rows with their original bytes, and bounded, picklable chunks of a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

CHUNK_BYTES: Final = 8 << 20
CHUNK_ROWS: Final = 16_384
MAX_ROW_BYTES: Final = 64 << 20
TRUNCATED: Final = "truncated_file"
"""Kind of the row that stands for a part of a file that is lost, nobody knows with how many rows."""
DAMAGED: Final = "damaged_data"
"""Kind of rows that are lost to damage, each counted."""


class RawRow(NamedTuple):
    """One row as its file has it. `row` counts from 0 in the file, `line` from 1 where lines mean something.

    `raw` is the row's bytes without its line terminator; for columnar formats and packages, where no such bytes
    exist, it is the row as JSON. `value` is the decoded row, usually a dict.
    """

    row: int
    line: int | None
    raw: bytes
    value: Any


class Unreadable(NamedTuple):
    """One row that could not be read, with the reason; it takes a row number like any other row."""

    row: int
    line: int | None
    raw: bytes
    kind: str
    error: str
    field: str | None = None


Row = RawRow | Unreadable


class Block(Protocol):
    """The undecoded rows of a chunk. Implementations are small dataclasses that pickle well."""

    def __len__(self) -> int: ...

    def rows(self, first_row: int, first_line: int | None, max_row_bytes: int) -> Iterator[Row]: ...


@dataclass(frozen=True, slots=True)
class Chunk:
    """A bounded slice of one file. `member` is the file inside an archive that it comes from, else empty."""

    format: str
    first_row: int
    first_line: int | None
    items: Block
    member: str = ""


@dataclass(frozen=True, slots=True)
class Broken:
    """A block of one row that is known to be unreadable before decoding."""

    raw: bytes
    kind: str
    error: str

    def __len__(self) -> int:
        return 1

    def rows(self, first_row: int, first_line: int | None, max_row_bytes: int) -> Iterator[Row]:
        """The one unreadable row."""
        yield Unreadable(first_row, first_line, self.raw, self.kind, self.error)


@dataclass(frozen=True, slots=True)
class Lost:
    """A block of `count` rows that damage took, so that they are counted like any others."""

    count: int
    error: str

    def __len__(self) -> int:
        return self.count

    def rows(self, first_row: int, first_line: int | None, max_row_bytes: int) -> Iterator[Row]:
        """An unreadable row for every one that is lost."""
        for row in range(first_row, first_row + self.count):
            yield Unreadable(row, first_line, b"", DAMAGED, self.error)


def too_large(size: int, limit: int) -> str:
    """The message for a row of `size` bytes over `limit`, whose quarantined bytes are cut at `limit`."""
    return f"the row has {size:,} bytes, over the limit of {limit:,}; the first {limit:,} are kept here"
