"""Arrays that the tasks of a decision share, wherever these run."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.room import room

PAGE: Final = 4_096
"""Bytes. What a task writes into an array that others write into begins at a multiple: no two nodes share a page."""


@dataclass(frozen=True)
class Item:
    """An array of one dimension, as something to send to a task: itself, or the file that it is in."""

    where: npt.NDArray[Any] | Path
    dtype: str
    length: int

    def open(self) -> npt.NDArray[Any]:
        """The array, not to be written to."""
        if not isinstance(self.where, Path):
            return self.where
        if not self.length:
            return np.empty(0, self.dtype)
        return np.asarray(np.memmap(self.where, self.dtype, "r", shape=(self.length,)))

    def write(self, start: int, values: npt.NDArray[Any]) -> None:
        """Put values at `start` and behind it."""
        if not isinstance(self.where, Path):
            self.where[start : start + len(values)] = values
            return
        with self.where.open("r+b") as file:
            file.seek(start * values.itemsize)
            file.write(np.ascontiguousarray(values).data)

    def drop(self) -> None:
        """Give the room back: nobody opens it any more."""
        if isinstance(self.where, Path):
            self.where.unlink(missing_ok=True)


class Desk(NamedTuple):
    """Where shared arrays are: in this process (large ones in unnamed files), or in `folder`, which every node sees."""

    folder: Path | None

    def empty(self, length: int, dtype: npt.DTypeLike) -> Item:
        """An array to write to, undefined until then."""
        name = np.dtype(dtype).str
        if self.folder is None:
            return Item(room(length, dtype), name, length)
        path = self.folder / uuid.uuid4().hex
        with path.open("wb") as file:
            file.truncate(length * np.dtype(dtype).itemsize)
        return Item(path, name, length)

    def put(self, values: npt.NDArray[Any]) -> Item:
        """An array that is done."""
        if self.folder is None:
            return Item(values, values.dtype.str, len(values))
        path = self.folder / uuid.uuid4().hex  # a task that runs twice writes two files, and only one is read
        values.tofile(path)
        return Item(path, values.dtype.str, len(values))


def aligned(start: int) -> int:
    """The first position from `start` on in an array of 64-bit integers that begins a page."""
    return -(-start * 8 // PAGE) * (PAGE // 8)
