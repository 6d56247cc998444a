"""A file that can be read from its start more than once, wherever it lies: on disk, behind a URL, in an archive."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any, Final, cast

from pipelines.readers.streams import PIECE, file_pieces, open_bytes, plain_pieces, public

_IN_MEMORY: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Opened:
    """`pieces()` streams the bytes from the start, `file()` gives a seekable file; `name` has no folder in it."""

    name: str
    pieces: Callable[[], Iterator[bytes]]
    file: Callable[[], AbstractContextManager[IO[bytes]]]


def at_path(path: str) -> Opened:
    """A local path or fsspec URL."""
    return Opened(PurePosixPath(public(path)).name, lambda: file_pieces(path), lambda: open_bytes(path))


def held(name: str, file: IO[bytes]) -> Opened:
    """An open seekable file, such as a temporary copy of a member of an archive."""

    def pieces() -> Iterator[bytes]:
        file.seek(0)
        while piece := file.read(PIECE):
            yield piece

    @contextmanager
    def rewound() -> Iterator[IO[bytes]]:
        file.seek(0)
        yield file

    return Opened(name, pieces, rewound)


@contextmanager
def seekable(source: Opened, compression: str | None) -> Iterator[IO[bytes]]:
    """A file to seek in: the file itself, or a decompressed temporary copy. Raises Damaged while copying."""
    if compression is None:
        with source.file() as file:
            yield file
        return
    with copied(plain_pieces(source.pieces(), compression)) as copy:
        yield copy


@contextmanager
def copied(pieces: Iterator[bytes]) -> Iterator[IO[bytes]]:
    """A temporary file with the given bytes, in memory while it is small."""
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as copy:
        for piece in pieces:
            copy.write(piece)
        copy.seek(0)
        yield cast(IO[bytes], copy)


class PieceFile(io.RawIOBase):
    """A stream of pieces as a file that can only be read on."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._left = pieces, memoryview(b"")

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` as far as the next piece reaches."""
        if not self._left:
            self._left = memoryview(next(self._pieces, b""))
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count
