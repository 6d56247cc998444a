"""Real similarity of candidate pairs: every text that is part of one is read once, in pool order."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Literal, NamedTuple

import numpy as np

from stages.dedup import kernels
from stages.dedup.kernels import Floats, Hashes, Ints, Numbers, pack
from stages.dedup.shingles import Sets

FETCHED: Final = 1_000_000
"""Shingles whose text is fetched at once by a thread."""

Similarity = Literal["jaccard", "containment"]
Load = Callable[[Ints], Sets]
"""The shingle sets of the named rows (which ascend), each set in ascending order."""


class Loaded(NamedTuple):
    """Shingle sets of some documents: that of document `i` is `values[spans[i, 0]:spans[i, 1]]`."""

    values: Hashes
    spans: Ints


def similarities(sets: Loaded, better: Ints, worse: Ints, similarity: Similarity) -> Floats:
    """Real similarity of the sets of every pair of documents; 0 for two empty sets.

    `jaccard` is the share of their common shingles in all of both, `containment` that in the shingles of the worse.
    """
    starts, sizes = np.ascontiguousarray(sets.spans[:, 0]), np.diff(sets.spans, axis=1).ravel().astype(np.int32)
    return kernels.similarities(sets.values, starts, sizes, pack(better, worse), similarity == "containment")


def load_sets(rows: Ints | Numbers, sizes: Numbers, load: Load, memory: int) -> tuple[Hashes, Ints]:
    """The shingle sets of the pool's `rows`, end to end in that order, and where each starts.

    `sizes` holds the size of each set. Sets of more than `memory` bytes altogether live in an unnamed temporary file,
    of which the system keeps in memory what there is room for.
    """
    ends = np.cumsum(sizes, dtype=np.int64)
    starts, values = ends - sizes, scratch(int(ends[-1]) if len(ends) else 0, memory)
    by_row = np.argsort(rows, kind="stable")
    cuts = np.flatnonzero(np.diff(np.cumsum(sizes[by_row], dtype=np.int64) // FETCHED, prepend=0))

    def fill(part: Ints) -> None:
        if len(part):
            found = load(rows[part].astype(np.int64))
            kernels.place(found.values, found.offsets, starts[part], values)

    with ThreadPoolExecutor(threads()) as pool:
        list(pool.map(fill, np.split(by_row, cuts)))
    return values, starts


def scratch(count: int, memory: int) -> Hashes:
    """Room for `count` hashes: in memory, or where that would take more than `memory` bytes in a temporary file."""
    if count * 8 <= memory:
        return np.empty(count, dtype=np.uint64)
    with tempfile.TemporaryFile() as file:
        return np.asarray(np.memmap(file, dtype=np.uint64, mode="w+", shape=(count,)))


def threads() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
