"""CSV and its relatives: quoted fields may hold delimiters, quotes and newlines."""

from __future__ import annotations

import csv
import re
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pipelines.readers.lines import Lines, whole_lines
from pipelines.readers.rows import CHUNK_ROWS, TRUNCATED, Broken, Chunk, RawRow, Row, Unreadable, too_large

DELIMITERS: Final = ",\t;|"
_WHOLE_FILE: Final = frozenset({TRUNCATED, "too_large"})
_NUMBER: Final = re.compile(r"\s*[-+]?[\d.,]+(?:[eE][-+]?\d+)?%?\s*")
_SENTENCE: Final = re.compile(r"[.?!。？！]\s*$")


@dataclass(frozen=True, slots=True)
class Record:
    """One record: its bytes, first line, number of newlines, and its fields or what is wrong with it."""

    raw: bytes
    line: int
    newlines: int
    fields: list[str] | None
    kind: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Delimited:
    """A block of records without the blank lines between them, their first lines and the names of their columns."""

    data: bytes
    lines: tuple[int, ...]
    columns: tuple[str, ...]
    delimiter: str

    def __len__(self) -> int:
        return len(self.lines)

    def rows(self, first_row: int, first_line: int | None, max_row_bytes: int) -> Iterator[Row]:
        """One dict of strings per record; a record with too few or too many fields is unreadable."""
        found = records(iter((Lines(self.data, 0),)), self.delimiter, max_row_bytes, 1)
        for row, (line, record) in enumerate(zip(self.lines, found, strict=True), first_row):
            yield self._row(row, line, record)

    def _row(self, row: int, line: int, record: Record) -> Row:
        raw = record.raw.removesuffix(b"\n").removesuffix(b"\r")
        if record.fields is None:
            return Unreadable(row, line, raw, record.kind, record.error)
        if len(record.fields) != len(self.columns):
            error = f"{len(record.fields)} fields where there are {len(self.columns)} columns"
            return Unreadable(row, line, raw, "wrong_columns", error)
        try:
            record.raw.decode("utf-8")
        except UnicodeDecodeError as bad:
            error = f"byte 0x{record.raw[bad.start]:02x} at offset {bad.start} is not valid UTF-8"
            return Unreadable(row, line, raw, "invalid_utf8", error)
        return RawRow(row, line, raw, dict(zip(self.columns, record.fields, strict=True)))


def read_delimited(
    pieces: Iterator[bytes], name: str, delimiter: str, header: bool, chunk_bytes: int, max_row_bytes: int
) -> Iterator[Chunk]:
    """Chunks of CSV. Without a header, columns are called column0, column1, ..."""
    found = records(whole_lines(pieces, chunk_bytes, max_row_bytes), delimiter, max_row_bytes, 1)
    row = 0
    columns: tuple[str, ...] | None = None
    held: list[Record] = []
    size = 0
    for record in found:
        if columns is None and record.fields is not None:
            columns = _columns(record.fields, header)
            if header:
                continue
        if record.kind in _WHOLE_FILE or columns is None:  # cannot be parsed again from its bytes
            yield from _flush(name, row, held, columns, delimiter)
            row, held, size = row + len(held) + 1, [], 0
            yield Chunk(name, row - 1, record.line, Broken(record.raw, record.kind, record.error))
            continue
        if held and (size + len(record.raw) > chunk_bytes or len(held) == CHUNK_ROWS):
            yield from _flush(name, row, held, columns, delimiter)
            row, held, size = row + len(held), [], 0
        held.append(record)
        size += len(record.raw)
    yield from _flush(name, row, held, columns, delimiter)


def _flush(name: str, row: int, held: list[Record], columns: tuple[str, ...] | None, delimiter: str) -> Iterator[Chunk]:
    if held:
        data = b"".join(record.raw for record in held)
        yield Chunk(
            name, row, held[0].line, Delimited(data, tuple(record.line for record in held), columns or (), delimiter)
        )


def _columns(fields: list[str], header: bool) -> tuple[str, ...]:
    """Column names; an empty or repeated one gets its position."""
    names = [name.strip().encode("utf-8", "replace").decode() if header else "" for name in fields]
    counts = Counter(names)
    return tuple(name if name and counts[name] == 1 else f"{name}column{at}" for at, name in enumerate(names))


def records(parts: Iterator[Lines], delimiter: str, limit: int, line: int) -> Iterator[Record]:
    """Records of a stream of lines; blank lines are passed over, bad records come with their error.

    A quote that never closes costs its own line only. Sets the csv module's limit on fields, which is global.
    """
    csv.field_size_limit(max(limit, 1 << 17))
    feed = _Feed(parts, limit)
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    while True:
        feed.start()
        try:
            fields = next(reader)
            record = Record(b"".join(feed.taken), line, feed.newlines(), fields)
        except StopIteration:
            if feed.special is None:
                return
            record = _special(feed.special, line, limit)
            feed.special = None
        except csv.Error as error:
            record = _bad(feed, str(error), line)
        line += record.newlines
        if record.raw.strip(b" \t\r\n") or record.kind:
            yield record


class _Feed:
    """Lines for the csv module; remembers those of the current record, and stops at what is no whole line."""

    def __init__(self, parts: Iterator[Lines], limit: int) -> None:
        self._parts, self._limit = parts, limit
        self._waiting: deque[bytes] = deque()
        self.taken: list[bytes] = []
        self.special: Lines | None = None
        self._size = 0

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        if self._size > self._limit or (self.special is None and not self._waiting and not self._refill()):
            raise StopIteration
        if not self._waiting:
            raise StopIteration
        line = self._waiting.popleft()
        self.taken.append(line)
        self._size += len(line)
        return line.decode("utf-8", "surrogateescape")

    def _refill(self) -> bool:
        part = next(self._parts, None)
        if part is None:
            return False
        if part.damage or part.size:
            self.special = part
            return False
        lines = part.data.split(b"\n")
        self._waiting.extend(line + b"\n" for line in lines[:-1])
        if lines[-1]:
            self._waiting.append(lines[-1])
        return True

    def start(self) -> None:
        """A new record starts."""
        self.taken, self._size = [], 0

    def newlines(self) -> int:
        """How many newlines the record has."""
        return len(self.taken) - 1 + self.taken[-1].endswith(b"\n")

    def keep_first(self) -> bytes:
        """Give back all lines of the record but its first, which is returned."""
        first, *rest = self.taken
        self._waiting.extendleft(reversed(rest))
        return first


def _special(part: Lines, line: int, limit: int) -> Record:
    kind, error = (TRUNCATED, part.damage) if part.damage else ("too_large", too_large(part.size, limit))
    return Record(part.data, line, part.newlines, None, kind, error)


def _bad(feed: _Feed, error: str, line: int) -> Record:
    if feed.special is not None and feed.special.damage:  # the stream breaks off inside the record
        raw, damage = b"".join(feed.taken) + feed.special.data, feed.special.damage
        feed.special = None
        return Record(raw, line, feed.newlines(), None, TRUNCATED, damage)
    if error.startswith("unexpected end"):
        first = feed.keep_first()
        return Record(first, line, int(first.endswith(b"\n")), None, "invalid_csv", "a quoted field is never closed")
    return Record(b"".join(feed.taken), line, feed.newlines(), None, "invalid_csv", error)


def has_header(rows: list[list[str]]) -> bool:
    """Whether the first of the sampled rows names the columns: short, distinct, no number, no sentence."""
    if not rows:
        return True
    first = [cell.strip() for cell in rows[0] if cell.strip()]
    named = first and all(
        len(cell) <= 64 and not _NUMBER.fullmatch(cell) and not _SENTENCE.search(cell) for cell in first
    )
    return bool(named) and len(set(first)) == len(first) and all(len(cell.split()) <= 5 for cell in first)


def sample(head: bytes, delimiter: str) -> list[list[str]]:
    """Rows at the start of a file, without a last one that the sample may cut."""
    found = records(iter((Lines(head, 0),)), delimiter, 1 << 20, 1)
    return [record.fields for record in found if record.fields is not None][:-1][:100]


def find_delimiter(head: bytes, first_choice: str = ",") -> str | None:
    """The delimiter that gives the sampled rows the same number of fields, more than one; None where none does."""
    choices = first_choice + DELIMITERS.replace(first_choice, "")
    for delimiter in choices:
        counts = Counter(len(row) for row in sample(head, delimiter))
        fields, times = counts.most_common(1)[0] if counts else (0, 0)
        if fields > 1 and times >= 0.9 * counts.total():
            return delimiter
    return None
