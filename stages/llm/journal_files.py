"""Files of a journal: reading those of others as they grow, owning one to append to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, Final

import orjson

from schemas.errors import RunError

_PREFIX: Final = b'{"key":"'
_REPLY: Final = b'","ok":1'
_CHUNK: Final = 16_384


def parse(line: bytes) -> dict[str, Any] | None:
    """An entry from its line, None where it is damaged."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) and isinstance(value.get("key"), str) else None


class Reader:
    """Entries of one file. `finished`: nobody appends to it, so its last line counts even without a line end."""

    def __init__(self, path: Path, finished: bool) -> None:
        self.path, self.finished = path, finished
        self._file = path.open("rb")
        self._seen = 0
        self._damaged = 0

    def news(self) -> Iterator[tuple[bytes, int]]:
        """Key (16 bytes) and offset of every reply in the complete lines that were not seen yet."""
        if os.fstat(self._file.fileno()).st_size <= self._seen:
            return
        self._file.seek(self._seen)
        for line in self._file:
            if not line.endswith(b"\n") and not (self.finished and parse(line)):
                break
            name = self._name(line)
            if name is not None:
                yield name, self._seen
            self._seen += len(line)

    def line(self, offset: int) -> bytes:
        """The line that begins at an offset."""
        parts = list[bytes]()
        while part := os.pread(self._file.fileno(), _CHUNK, offset + len(parts) * _CHUNK):
            end = part.find(b"\n")
            parts.append(part if end < 0 else part[:end])
            if end >= 0:
                break
        return b"".join(parts)

    def take_damaged(self) -> int:
        """How many lines could not be read since the last call."""
        damaged, self._damaged = self._damaged, 0
        return damaged

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _name(self, line: bytes) -> bytes | None:
        if line[:8] == _PREFIX and line[40:48] == _REPLY:  # as this module writes them: no need to parse
            try:
                return bytes.fromhex(line[8:40].decode("ascii"))
            except ValueError:
                pass
        value = parse(line)
        try:
            name = bytes.fromhex(value["key"]) if value else None
        except ValueError:
            name = None
        self._damaged += name is None and bool(line.strip())
        return name if value and value.get("ok") else None


class Appender:
    """The one file of a folder that this process may append to."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self._descriptor = path, descriptor
        self._size = _mended(descriptor)
        self._dirty = False

    def append(self, line: bytes) -> int:
        """Write a line at once; its offset. Raises RunError, leaving no half line, where that fails."""
        offset, written = self._size, 0
        self._dirty = True
        try:
            while written < len(line):
                written += os.write(self._descriptor, line[written:] if written else line)
        except OSError as error:
            os.ftruncate(self._descriptor, offset)
            raise RunError(
                f"cannot write to the journal {self.path}: {error.strerror}; make room and run again"
            ) from None
        self._size += len(line)
        return offset

    def sync(self) -> None:
        """Wait until the disk has everything."""
        if self._dirty:
            os.fsync(self._descriptor)
            self._dirty = False

    def close(self) -> None:
        """Sync, close, and thereby unlock."""
        self.sync()
        os.close(self._descriptor)


def adopt(folder: Path) -> Appender:
    """The first file of a folder that no living process holds, or a new one; locked until closed or killed.

    Raises RunError where the folder cannot be written or its file system has no locks.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            path = folder / f"journal-{number:04}.jsonl"
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            if _locked(descriptor):
                return Appender(path, descriptor)
            os.close(descriptor)
    except OSError as error:
        raise RunError(f"cannot write a journal in {folder}: {error.strerror}; put the store elsewhere") from None
    raise AssertionError("unreachable")


def _locked(descriptor: int) -> bool:
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _mended(descriptor: int) -> int:
    """The file's size after its torn last line was cut off (or, where only the line end is missing, completed)."""
    size = os.fstat(descriptor).st_size
    start = size
    tail = b""
    while start and b"\n" not in tail:
        step = min(_CHUNK, start)
        start -= step
        tail = os.pread(descriptor, step, start) + tail
    torn = tail[tail.rfind(b"\n") + 1 :]
    if not torn:
        return size
    if parse(torn) is not None:
        return size + os.write(descriptor, b"\n")
    os.ftruncate(descriptor, size - len(torn))
    return size - len(torn)
