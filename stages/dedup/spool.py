"""Arrays that grow: in memory while they are small, in unnamed temporary files (`TMPDIR`) beyond that."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from typing import IO, Final

import numpy as np

from stages.dedup.kernels import Floats, Hashes, Ints

BLOCK: Final = 1 << 18
"""Integers that are read from a file at a time."""


class Spool:
    """64-bit integers, appended and read back in order. Of a file nothing stays in this process' memory."""

    def __init__(self, memory: int) -> None:
        """Up to `memory` bytes stay in memory."""
        self._memory = memory
        self._parts: list[Hashes] = []
        self._file: IO[bytes] | None = None
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, values: Hashes) -> None:
        """Add integers at the end."""
        self._length += len(values)
        if self._file is None and self._length * 8 > self._memory:
            self._file = tempfile.TemporaryFile(buffering=1 << 16)  # noqa: SIM115 - lives as long as the spool
            for part in self._parts:
                self._file.write(part.data)
            self._parts.clear()
        if self._file is None:
            self._parts.append(values)
        else:
            self._file.write(np.ascontiguousarray(values).data)

    def blocks(self) -> Iterator[Hashes]:
        """All integers, some at a time."""
        if self._file is None:
            yield from self._parts
            return
        self._file.seek(0)
        while len(block := np.fromfile(self._file, np.uint64, BLOCK)):
            yield block

    def all(self) -> Hashes:
        """All integers in one array. It may be the file itself: who sorts it sorts the spool."""
        if self._file is None:
            return np.concatenate([np.empty(0, np.uint64), *self._parts])
        self._file.flush()
        return np.asarray(np.memmap(self._file, np.uint64, "r+", shape=(self._length,)))

    def close(self) -> None:
        """Give the room back."""
        self._parts.clear()
        self._length = 0
        if self._file is not None:
            self._file.close()
            self._file = None


class Edges:
    """Compared pairs: packed (worse, better) numbers and their real similarity, in ascending runs."""

    def __init__(self, memory: int) -> None:
        """Up to `memory` bytes stay in memory."""
        self._keys, self._similarity = Spool(memory // 2), Spool(memory // 2)
        self._bounds = [0]

    @property
    def bounds(self) -> Ints:
        """Run `r` is `bounds[r]` to `bounds[r + 1]`."""
        return np.array(self._bounds, np.int64)

    @property
    def keys(self) -> Hashes:
        """Packed (worse, better), run after run."""
        return self._keys.all()

    @property
    def similarity(self) -> Floats:
        """Real similarity of each pair."""
        return self._similarity.all().view(np.float64)

    def add(self, parts: Iterable[tuple[Hashes, Floats]]) -> None:
        """Add one run, given in parts."""
        for keys, similarity in parts:
            self._keys.append(keys)
            self._similarity.append(similarity.view(np.uint64))
        self._bounds.append(len(self._keys))
