"""Real similarity of candidate pairs. Tasks: the shingle sets of some texts, and the similarities of a run of pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from stages.contract import View
from stages.dedup import kernels
from stages.dedup.items import Item
from stages.dedup.kernels import Floats, Hashes, Ints, Numbers, pack, unpack
from stages.dedup.shingles import Sets

FETCHED: Final = 1_000_000
"""Shingles that are made at once."""

Similarity = Literal["jaccard", "containment"]
Shingler = Callable[[pa.RecordBatch], Sets]
"""The shingle set of every row of a batch, each in ascending order. It travels to where the texts are read."""
Piece = tuple[View, Ints, Numbers]
"""Some rows of a view, and a number for each."""


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


@dataclass(frozen=True)
class Shingling:
    """Texts (views, rows, sizes of their shingle sets), whose sets go to `values` from `start` on, end to end."""

    pieces: tuple[Piece, ...]
    shingler: Shingler
    values: Item
    start: int


def write_sets(task: Shingling) -> None:
    """Read the texts of a task, and write their shingle sets end to end."""
    start = task.start
    for view, rows, sizes in task.pieces:
        texts = view.read(rows)
        for part in _parts(sizes):
            (batch,) = texts.slice(part.start, part.stop - part.start).combine_chunks().to_batches()
            found = task.shingler(batch).values
            task.values.write(start, found)
            start += len(found)


def _parts(sizes: Numbers) -> Iterator[slice]:
    """Rows that together have about `FETCHED` shingles."""
    cuts = np.flatnonzero(np.diff(np.cumsum(sizes, dtype=np.int64) // FETCHED)) + 1
    ends = [0, *cuts.tolist(), len(sizes)]
    return (slice(a, b) for a, b in pairwise(ends) if a < b)


@dataclass(frozen=True)
class Comparing:
    """The pairs from `low` to below `high` of each ascending array of `pairs`, packed (worse, better).

    The shingle set of document `i` is `values[starts[i]:][:sizes[i]]`.
    """

    pairs: tuple[Item, ...]
    low: np.uint64
    high: np.uint64
    values: Item
    starts: Item
    sizes: Item
    similarity: Similarity


def compared(task: Comparing) -> tuple[Hashes, Floats]:
    """The distinct pairs of a task, ascending, with their real similarity."""
    parts = []
    for pairs in (item.open() for item in task.pairs):
        first, last = np.searchsorted(pairs, np.array([task.low, task.high]))
        parts.append(pairs[first:last])
    keys = np.unique(np.concatenate(parts))
    worse, better = unpack(keys)
    sets = task.values.open(), task.starts.open(), task.sizes.open()
    return keys, kernels.similarities(*sets, pack(better, worse), task.similarity == "containment")
