"""Large arrays: in memory while they are small, in unnamed temporary files (`TMPDIR`) beyond that.

The system writes such a file's pages out whenever it needs their memory, so a pool of any size can be worked on.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from math import prod
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

LARGE: Final = 4 << 20
"""Bytes from which on an array lives in a file."""
SLICE: Final = 1 << 18
"""Elements that are worked on at a time; a multiple of 8."""


def room(shape: int | tuple[int, ...], dtype: npt.DTypeLike, memory: int | None = None) -> npt.NDArray[Any]:
    """An array of undefined content; in a file if it takes more than `memory` bytes (`LARGE` by default).

    Raises OSError where the disk has no room for it: better now than when a page is written.
    """
    sizes = (shape,) if isinstance(shape, int) else shape
    size = prod(sizes) * np.dtype(dtype).itemsize
    if size <= (LARGE if memory is None else memory):
        return np.empty(sizes, dtype)
    with tempfile.TemporaryFile() as file:
        _reserve(file, size)
        return np.asarray(np.memmap(file, dtype=dtype, mode="r+", shape=sizes))


def slices(length: int) -> Iterator[slice]:
    """`length` elements, some at a time: what is made of a large array is made slice by slice."""
    return (slice(start, min(start + SLICE, length)) for start in range(0, length, SLICE))


def computed(length: int, dtype: npt.DTypeLike, make: Callable[[slice], npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """An array whose slices `make` makes."""
    return filled(length, dtype, map(make, slices(length)))


def filled(length: int, dtype: npt.DTypeLike, parts: Iterable[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """`parts` end to end, `length` numbers in all. Raises ValueError if they are more or fewer."""
    out, start = room(length, dtype), 0
    for part in parts:
        out[start : start + len(part)] = part
        start += len(part)
    if start != length:
        raise ValueError(f"{start} numbers where {length} were expected")
    return out


def _reserve(file: IO[bytes], size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
    else:
        file.truncate(size)
