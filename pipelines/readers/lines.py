"""Cut a stream into blocks of whole lines. Only `\\n` ends a line: U+2028 and U+0085 are text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from pipelines.readers.rows import CHUNK_ROWS, TRUNCATED, Block, Broken, Chunk, too_large
from pipelines.readers.streams import Damaged

BLANK: Final = b" \t\r"
_BLANK_LINE: Final = re.compile(rb"\n[ \t\r]*(?=\n)")


@dataclass(frozen=True, slots=True)
class Lines:
    """Whole lines; or the start of one line that is too large (`size` > 0), or that the stream breaks off in."""

    data: bytes
    newlines: int
    size: int = 0
    damage: str = ""


def nonblank_lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(line number within the block from 0, line without its terminator) of every line that is not blank."""
    for number, line in enumerate(data.split(b"\n")):
        if line and (line[0] > 32 or line.strip(BLANK)):
            yield number, line[:-1] if line[-1] == 13 else line


def count_rows(data: bytes) -> int:
    """How many lines of a block are not blank."""
    if not data:
        return 0
    body = b"\n" + data + (b"" if data.endswith(b"\n") else b"\n")
    return body.count(b"\n") - 1 - len(_BLANK_LINE.findall(body))


def line_chunks(
    pieces: Iterator[bytes], name: str, block: Callable[[bytes, int], Block], chunk_bytes: int, max_row_bytes: int
) -> Iterator[Chunk]:
    """Chunks of a line-oriented format; `block(data, rows)` wraps the lines. Damage ends in a `truncated_file` row."""
    row, line = 0, 1
    for part in _gathered(whole_lines(pieces, chunk_bytes, max_row_bytes), chunk_bytes):
        items = _items(part, block, max_row_bytes)
        if len(items):
            yield Chunk(name, row, line, items)
        row, line = row + len(items), line + part.newlines


def _items(part: Lines, block: Callable[[bytes, int], Block], max_row_bytes: int) -> Block:
    if part.damage:
        return Broken(part.data, TRUNCATED, part.damage)
    if part.size:
        return Broken(part.data, "too_large", too_large(part.size, max_row_bytes))
    return block(part.data, count_rows(part.data))


def _gathered(parts: Iterator[Lines], chunk_bytes: int) -> Iterator[Lines]:
    """Join neighbours up to a chunk's size in bytes and lines."""
    held: list[bytes] = []
    size = newlines = 0
    for part in parts:
        alone = part.size or part.damage
        if held and (alone or size + len(part.data) > chunk_bytes or newlines + part.newlines > CHUNK_ROWS):
            yield Lines(b"".join(held), newlines)
            held, size, newlines = [], 0, 0
        if alone:
            yield part
        else:
            held.append(part.data)
            size, newlines = size + len(part.data), newlines + part.newlines
    if held:
        yield Lines(b"".join(held), newlines)


def whole_lines(pieces: Iterator[bytes], chunk_bytes: int, limit: int) -> Iterator[Lines]:
    """Runs of whole lines, at most a piece long; a line over `limit` bytes comes alone and cut at `limit`."""
    tail = _Tail(limit)
    try:
        for data in _sliced(pieces, chunk_bytes):
            first = data.find(b"\n") + 1
            if not first:
                tail.add(data)
                continue
            yield tail.close(data[:first])
            last = data.rfind(b"\n") + 1
            if last > first:
                yield from _run(data[first:last], limit)
            tail.add(data[last:])
    except Damaged as damage:
        yield Lines(tail.held(), 0, damage=str(damage))
        return
    if tail.size:
        yield tail.close(b"")


def _sliced(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    for piece in pieces:
        for start in range(0, len(piece), size):
            yield piece[start : start + size]


def _run(data: bytes, limit: int) -> Iterator[Lines]:
    """Whole lines out of one piece; only looked at one by one where one of them may be too large."""
    newlines = data.count(b"\n")
    if len(data) <= limit and newlines <= CHUNK_ROWS:
        yield Lines(data, newlines)
        return
    for line in data.split(b"\n")[:-1]:
        yield Lines(line[:limit], 1, len(line)) if len(line) > limit else Lines(line + b"\n", 1)


class _Tail:
    """The line that is still open. Keeps at most `limit` bytes of it and counts the rest."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self.size = 0

    def add(self, data: bytes) -> None:
        room = self._limit + 1 - self.size  # one more, for the newline of a line that just fits
        if data and room > 0:
            self._parts.append(data[:room])
        self.size += len(data)

    def held(self) -> bytes:
        return b"".join(self._parts)

    def close(self, end: bytes) -> Lines:
        """The whole line, `end` being its last bytes; afterwards nothing is open."""
        self.add(end)
        newlines = end.count(b"\n")
        line, size = self.held(), self.size - newlines
        self._parts, self.size = [], 0
        return Lines(line[: self._limit], newlines, size) if size > self._limit else Lines(line, newlines)
