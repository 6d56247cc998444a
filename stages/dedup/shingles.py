"""Shingle sets: for each text the distinct 64-bit hashes of its runs of `size` words or characters.

A text with fewer tokens than `size`, but at least one, has a single shingle of all of them. Two different shingles
share a hash with a probability of 2^-64, which this package treats as never.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from stages.dedup import kernels
from stages.dedup.chars import tables
from stages.dedup.kernels import Hashes, Offsets
from stages.dedup.texts import Texts

Unit = Literal["word", "char", "code"]
UNITS: Final[tuple[Unit, ...]] = get_args(Unit)
DEFAULT_SIZE: Final[dict[Unit, int]] = {"word": 5, "char": 9, "code": 5}


class Sets(NamedTuple):
    """Set `i` is `values[offsets[i]:offsets[i + 1]]`, distinct, in no particular order."""

    values: Hashes
    offsets: Offsets

    def sizes(self) -> npt.NDArray[np.int64]:
        """Number of elements of each set."""
        return np.diff(self.offsets)


def shingle(texts: Texts, unit: Unit, size: int) -> Sets:
    """The shingle set of every text, each shingle where it first occurs."""
    return Sets(*kernels.shingles(texts.data, texts.offsets, tables().classes, UNITS.index(unit), size))


def ascending(sets: Sets) -> Sets:
    """The same sets, each in ascending order, sorted in place."""
    kernels.sort_sets(sets.values, sets.offsets)
    return sets


def concatenate(parts: list[Sets]) -> Sets:
    """All sets of all parts, in order."""
    offsets = np.zeros(sum(len(part.offsets) - 1 for part in parts) + 1, dtype=np.int64)
    np.cumsum(np.concatenate([part.sizes() for part in parts]), out=offsets[1:])
    return Sets(np.concatenate([part.values for part in parts]), offsets)
