"""Real similarity of candidate pairs: every text that is part of one is read once, in pool order."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Literal, NamedTuple

import numpy as np

from stages.dedup.resolve import Floats, Ints
from stages.dedup.shingles import Hashes, Sets
from stages.dedup.texts import Offsets, jit

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
    return np.asarray(_similarities(sets.values, sets.spans, better, worse, similarity == "containment"))


def load_sets(wanted: Ints, documents: Ints, sizes: Ints, load: Load, memory: int) -> Loaded:
    """The shingle sets of the documents `wanted` (those not wanted are empty), laid out in that order.

    `documents` holds the pool row of every document, `sizes` the size of its set. Sets of more than `memory` bytes
    altogether live in an unnamed temporary file, of which the system keeps in memory what there is room for.
    """
    ends = np.cumsum(sizes[wanted], dtype=np.int64)
    total = int(ends[-1]) if len(ends) else 0
    starts, values = np.zeros((len(documents), 2), np.int64), scratch(total, memory)
    starts[wanted] = np.stack([ends - sizes[wanted], ends], axis=1)
    by_row = wanted[np.argsort(documents[wanted])]
    cuts = np.flatnonzero(np.diff(np.cumsum(sizes[by_row], dtype=np.int64) // FETCHED, prepend=0))

    def fill(part: Ints) -> None:
        if len(part):
            found = load(documents[part])
            _place(found.values, found.offsets, starts[part, 0], values)

    with ThreadPoolExecutor(threads()) as pool:
        list(pool.map(fill, np.split(by_row, cuts)))
    return Loaded(values, starts)


def scratch(count: int, memory: int) -> Hashes:
    """Room for `count` hashes: in memory, or where that would take more than `memory` bytes in a temporary file."""
    if count * 8 <= memory:
        return np.empty(count, dtype=np.uint64)
    with tempfile.TemporaryFile() as file:
        return np.asarray(np.memmap(file, dtype=np.uint64, mode="w+", shape=(count,)))


def threads() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@jit
def _place(values: Hashes, offsets: Offsets, starts: Ints, out: Hashes) -> None:
    for k in range(len(starts)):
        for i in range(offsets[k], offsets[k + 1]):
            out[starts[k] + i - offsets[k]] = values[i]


@jit
def _similarities(values: Hashes, spans: Ints, better: Ints, worse: Ints, contained: bool) -> Floats:
    out = np.zeros(len(better), dtype=np.float64)
    for p in range(len(better)):
        a, a_end = spans[better[p], 0], spans[better[p], 1]
        b, b_end = spans[worse[p], 0], spans[worse[p], 1]
        union = b_end - b if contained else (a_end - a) + (b_end - b)
        common = 0
        while a < a_end and b < b_end:
            x, y = values[a], values[b]
            common += x == y
            a += x <= y
            b += y <= x
        if union > 0:
            out[p] = common / (union if contained else union - common)
    return out
