"""A sliding window over a stream of bytes, with the line number of where it stands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pipelines.readers.streams import Damaged

_PREFIX: Final = 256


class Window:
    """`buffer[position:]` is what has been read and not yet passed. `damage` says how the stream broke off, if so."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self.buffer, self.position, self.line = b"", 0, 1
        self.ended, self.damage = False, ""
        self._before = b""  # what stood on its line before `buffer`, as far as it matters

    def __len__(self) -> int:
        return len(self.buffer) - self.position

    def advance(self, end: int) -> None:
        """Pass everything before `end`, an index into `buffer`."""
        self.line += self.buffer.count(b"\n", self.position, end)
        self.position = end

    def more(self) -> bool:
        """Read on, at least as much as is held, so that a long element costs linear time. False at the end.

        Positions in `buffer` change: what was at `position` comes to stand at 0.
        """
        held = self.buffer[self.position :]
        self._before = self.line_prefix()[-_PREFIX:]
        parts, size = [held], 0
        try:
            while not self.ended and size <= len(held):
                piece = next(self._pieces, b"")
                self.ended = not piece
                parts.append(piece)
                size += len(piece)
        except Damaged as damage:
            self.ended, self.damage = True, str(damage)
        self.buffer, self.position = b"".join(parts), 0
        return size > 0

    def line_prefix(self) -> bytes:
        """What stands before the position on its line; of a long one, only the end."""
        back = max(0, self.position - _PREFIX)
        start = self.buffer.rfind(b"\n", back, self.position) + 1
        if start or back:
            return self.buffer[start or back : self.position]
        return self._before + self.buffer[: self.position]
