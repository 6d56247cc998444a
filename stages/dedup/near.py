"""Near copies: band the signatures, compare what shares a bucket for real, resolve around the survivors.

Documents are numbered by survivor rank, 0 the most wanted. Memory: `BAND_MEMORY` bytes of band hashes (the signatures
are streamed once per group of bands), the pairs, and what `verify` holds.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa

from stages.contract import Scores
from stages.dedup.lsh import Bools, Ints, band_hashes, pairs_of_band, unpack
from stages.dedup.resolve import NO_EDGES, Edges, Floats, resolve
from stages.dedup.shingles import Hashes
from stages.dedup.sketch import Signatures
from stages.dedup.texts import jit
from stages.dedup.verify import Load, verify

BAND_MEMORY: Final = 256 << 20
PAIR_ROOM: Final = 4_000_000
ROUNDS: Final = 16
"""How often large buckets get new leaders; only buckets full of documents that differ need more than two."""


class Plan(NamedTuple):
    """What near copies depend on: bands, rows per band, similarity threshold, and how to load shingle sets."""

    bands: int
    rows: int
    threshold: float
    load: Load


def near_survivors(scores: Scores, documents: Ints, sizes: Ints, plan: Plan) -> tuple[Ints, Floats]:
    """`resolve` for the pool rows `documents`, given best first, with `sizes` distinct shingles each."""
    n = len(documents)
    place = np.full(len(scores), -1, dtype=np.int64)
    place[documents] = np.arange(n)
    finder = _Finder(scores, place, sizes, plan)
    edges, survivor, similarity = NO_EDGES, np.arange(n), np.zeros(n)
    active = np.ones(n, dtype=np.bool_)
    known = np.empty(0, dtype=np.uint64)
    for _ in range(ROUNDS):
        pairs, more = finder.pairs(active)
        pairs = np.setdiff1d(pairs, known, assume_unique=True)
        known = np.union1d(known, pairs)
        edges = edges.and_more(_compare(pairs, documents, sizes, plan))
        survivor, similarity = resolve(edges, n, plan.threshold)
        active = finder.large & (survivor == np.arange(n))
        if not more or not active.any():
            break
    return survivor, similarity


class _Finder:
    """Finds candidate pairs round by round; remembers who has led which large bucket."""

    def __init__(self, scores: Scores, place: Ints, sizes: Ints, plan: Plan) -> None:
        self._scores, self._place, self._sizes, self._plan = scores, place, sizes, plan
        self._leaders: list[Ints] = [np.empty(0, dtype=np.int64)] * plan.bands
        self.large = np.zeros(len(sizes), dtype=np.bool_)

    def pairs(self, active: Bools) -> tuple[Hashes, bool]:
        """New packed pairs among the active documents, ascending, and whether a large bucket got new leaders."""
        numbers = np.flatnonzero(active)
        found, parts, more = 0, [np.empty(0, dtype=np.uint64)], 0
        group = max(1, BAND_MEMORY // (8 * max(len(numbers), 1)))
        for first in range(0, self._plan.bands, group):
            hashes = self._hashes(numbers, first, min(group, self._plan.bands - first))
            for band in range(len(hashes)):
                pairs, leaders = self._band(first + band, hashes[band], numbers)
                more += leaders
                parts, found = [*parts, pairs], found + len(pairs)
                if found > PAIR_ROOM:
                    parts = [np.unique(np.concatenate(parts))]
                    found = 0
        return np.unique(np.concatenate(parts)), more > 0

    def _band(self, band: int, hashes: Hashes, numbers: Ints) -> tuple[Hashes, int]:
        """Pairs within one band, and how many leaders are new."""
        served = np.isin(numbers, self._leaders[band])
        before = int(served.sum())
        large = np.zeros(len(numbers), dtype=np.bool_)
        better, worse = unpack(pairs_of_band(hashes, served, large))
        self._leaders[band] = np.union1d(self._leaders[band], numbers[served])
        self.large[numbers[large]] = True
        better, worse = numbers[better], numbers[worse]
        keep = self._similar_sizes(better, worse)
        return (better[keep].astype(np.uint64) << np.uint64(32)) | worse[keep].astype(np.uint64), int(
            served.sum()
        ) - before

    def _similar_sizes(self, better: Ints, worse: Ints) -> Bools:
        """Pairs that can reach the threshold at all: the Jaccard similarity is at most the ratio of the sizes."""
        a, b = self._sizes[better], self._sizes[worse]
        return np.asarray(np.minimum(a, b) >= self._plan.threshold * np.maximum(a, b) - 1e-9)

    def _hashes(self, numbers: Ints, first: int, count: int) -> Hashes:
        """Band hashes, shape (count, len(numbers))."""
        out = np.zeros((count, len(numbers)), dtype=np.uint64)
        index = np.full(len(self._sizes), -1, dtype=np.int64)
        index[numbers] = np.arange(len(numbers))
        start = 0
        for batch in self._scores.scores(["signature"]):
            place = self._place[start : start + batch.num_rows]
            start += batch.num_rows
            local = np.where(place >= 0, index[place], -1)
            band_hashes(signature_values(batch["signature"]), first, out, local, self._plan.rows)
        return out


def signature_values(column: pa.FixedSizeBinaryArray) -> Signatures:
    """A column of fixed-size signatures as an array of shape (rows, hashes)."""
    width = column.type.byte_width
    data = np.frombuffer(column.buffers()[1], dtype=np.uint8, count=len(column) * width, offset=column.offset * width)
    return data.view(np.uint32).reshape(len(column), width // 4)


def _compare(pairs: Hashes, documents: Ints, sizes: Ints, plan: Plan) -> Edges:
    better, worse = unpack(pairs)
    component = components(better, worse, len(documents))
    order = np.lexsort((worse, better, component[better]))
    return verify(better[order], worse[order], documents, sizes, plan.load)


@jit
def components(left: Ints, right: Ints, n: int) -> Ints:
    """The smallest member of each number's connected component (union by smaller root, path halving)."""
    parent = np.arange(n)
    for p in range(len(left)):
        a, b = left[p], right[p]
        while parent[a] != a:
            parent[a] = parent[parent[a]]
            a = parent[a]
        while parent[b] != b:
            parent[b] = parent[parent[b]]
            b = parent[b]
        parent[max(a, b)] = min(a, b)
    for i in range(n):
        parent[i] = parent[parent[i]]
    return parent
