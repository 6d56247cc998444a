"""A column of strings that is made a slice at a time, so that it is never whole in memory."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from typing import Any, overload

import pyarrow as pa


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
