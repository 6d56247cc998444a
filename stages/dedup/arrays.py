"""Arrays with a number per row or document: in files once they are large, and worked on a slice at a time.

So nothing of the pool's size stays in memory, and no step makes such a thing in passing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.room import room, slices
from stages.dedup.kernels import Bools, Ints, Numbers


def span(part: slice) -> Ints:
    """The numbers of a slice."""
    return np.arange(part.start, part.stop)


def full(n: int, value: float, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """An array of `n` times the same value."""
    out = room(n, dtype)
    out.fill(value)
    return out


def identity(n: int) -> Numbers:
    """The numbers from 0 to `n` - 1."""
    out = room(n, np.int32)
    for part in slices(n):
        out[part] = span(part)
    return out


def taken(values: npt.NDArray[Any], at: npt.NDArray[np.integer]) -> npt.NDArray[Any]:
    """`values[at]`."""
    out = room(len(at), values.dtype)
    for part in slices(len(at)):
        out[part] = values[at[part]]
    return out


def where(n: int, marked: Callable[[slice], Bools]) -> Numbers:
    """The numbers below `n`, ascending, that `marked` marks in each slice."""
    out, end = room(n, np.int32), 0
    for part in slices(n):
        found = np.flatnonzero(marked(part)) + part.start
        out[end : end + len(found)] = found
        end += len(found)
    return np.asarray(out[:end])


def index_of(numbers: Numbers, n: int) -> Numbers:
    """For each of `n` numbers its position in `numbers`, -1 for those that are not there."""
    out = full(n, -1, np.int32)
    for part in slices(len(numbers)):
        out[numbers[part]] = span(part)
    return np.asarray(out)


def counts(values: Numbers, n: int) -> Numbers:
    """How often each number below `n` is among `values`."""
    out = full(n, 0, np.int32)
    for part in slices(len(values)):
        found, times = np.unique(values[part], return_counts=True)
        out[found] += times.astype(np.int32)
    return np.asarray(out)


def packed(marks: Bools) -> npt.NDArray[np.uint8]:
    """Marks as bits."""
    return np.packbits(marks)


def unpacked(bits: npt.NDArray[np.uint8], n: int) -> Bools:
    """The `n` marks that `packed` made bits of."""
    out = room(n, np.bool_)
    for part in slices(n):
        out[part] = np.unpackbits(bits[part.start // 8 : -(-part.stop // 8)], count=part.stop - part.start)
    return np.asarray(out)
