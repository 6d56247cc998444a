"""Columns of strings that are never whole in memory: made a slice at a time, or in a file."""

from __future__ import annotations

import builtins
import tempfile
from collections.abc import Callable, Iterable, Sequence
from typing import Any, overload

import numpy as np
import pyarrow as pa

from schemas.room import room


class LazyStrings(Sequence[str | None]):
    """Strings that `make(start, stop)` knows how to make: `slice` as of an Arrow array, and the rest of a sequence."""

    def __init__(self, length: int, make: Callable[[int, int], pa.StringArray]) -> None:
        self._length, self._make = length, make
        self._whole: pa.StringArray | None = None

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, at: int) -> str | None: ...
    @overload
    def __getitem__(self, at: builtins.slice) -> list[str | None]: ...
    def __getitem__(self, at: int | builtins.slice) -> str | list[str | None] | None:
        if isinstance(at, builtins.slice):
            rows = range(self._length)[at]
            return [self[row] for row in rows]
        row = range(self._length)[at]
        text: str | None = self._make(row, row + 1)[0].as_py()
        return text

    def slice(self, offset: int = 0, length: int | None = None) -> pa.StringArray:
        """`length` strings from `offset` on."""
        stop = self._length if length is None else min(self._length, offset + length)
        return self._make(offset, stop)

    def to_pylist(self) -> list[str | None]:
        """All strings."""
        return list(self.slice().to_pylist())

    def __arrow_array__(self, type: Any = None) -> pa.StringArray:
        """All strings, kept from then on: for callers that do not know `slice`."""
        if self._whole is None:
            self._whole = self.slice()
        return self._whole


def kept_strings(count: int, parts: Iterable[pa.StringArray]) -> pa.LargeStringArray:
    """`count` strings, given part by part and none of them null, in an array that lies in an unnamed file."""
    offsets, end = room(count + 1, np.int64), 0
    offsets[0] = 0
    with tempfile.TemporaryFile() as file:
        for part in parts:
            _, ends, data = part.cast(pa.large_string()).buffers()
            at = np.frombuffer(ends, np.int64)[part.offset : part.offset + len(part) + 1]
            offsets[end + 1 : end + len(part) + 1] = at[1:] - at[0] + offsets[end]
            end += len(part)
            if len(part):
                file.write(memoryview(data)[at[0] : at[-1]])
        data = np.memmap(file, np.uint8, "r") if offsets[end] else np.empty(0, np.uint8)
    return pa.LargeStringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(data))
