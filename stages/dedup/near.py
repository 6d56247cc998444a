"""Near copies: band the signatures, compare what shares a bucket for real, resolve around the survivors.

Documents are numbered by survivor rank, 0 the most wanted; those of earlier releases come first. Memory: half of
`Plan.memory` for band keys (the signatures are streamed once per group of bands), half for shingle sets, and
beside them the pairs and a few integers per document.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa

from stages.dedup.joined import Joined
from stages.dedup.lsh import LEADERS, Bools, Ints, band_keys, number_bits, pairs_of_band, unpack
from stages.dedup.resolve import NO_EDGES, Edges, Outcome, resolve
from stages.dedup.shingles import Hashes
from stages.dedup.sketch import Signatures
from stages.dedup.texts import jit
from stages.dedup.verify import Load, Similarity, load_sets, similarities, threads

PAIR_ROOM: Final = 4_000_000
ROUNDS: Final = 16
"""How often large buckets get new leaders; only buckets full of documents that differ need more than two."""


class Plan(NamedTuple):
    """What near copies depend on: bands, rows per band, the similarity and its threshold, how many documents (the
    first) are kept whatever they resemble, how to load shingle sets, and how many bytes to work in."""

    bands: int
    rows: int
    similarity: Similarity
    threshold: float
    fixed: int
    load: Load
    memory: int


def near_survivors(rows: Joined, documents: Ints, sizes: Ints, plan: Plan) -> Outcome:
    """`resolve` for the rows `documents`, given best first, with `sizes` distinct shingles each."""
    n = len(documents)
    finder = _Finder(rows, index_of(documents, len(rows)), sizes, plan)
    edges, outcome = NO_EDGES, resolve(NO_EDGES, n, plan.threshold)
    active = np.ones(n, dtype=np.bool_)
    known = np.empty(0, dtype=np.uint64)
    for _ in range(ROUNDS):
        pairs, more = finder.pairs(active)
        if len(known):
            pairs = np.setdiff1d(pairs, known, assume_unique=True)
        edges = edges.and_more(_compare(pairs, documents, sizes, plan))
        outcome = resolve(edges, n, plan.threshold)
        active = finder.large & (outcome.survivor == np.arange(n))
        if not more or not active.any():
            break
        known = np.union1d(known, pairs)
    return outcome


class _Finder:
    """Finds candidate pairs round by round; remembers who has led which large bucket."""

    def __init__(self, rows: Joined, place: Ints, sizes: Ints, plan: Plan) -> None:
        self._rows, self._place, self._sizes, self._plan = rows, place, sizes, plan
        self._leaders: list[Ints] = [np.empty(0, dtype=np.int64)] * plan.bands
        self.large = np.zeros(len(sizes), dtype=np.bool_)
        self._most = 1  # one leader is enough where all are alike; who differs from it meets more

    def pairs(self, active: Bools) -> tuple[Hashes, bool]:
        """New packed pairs among the active documents, ascending, and whether a large bucket got new leaders."""
        numbers = np.flatnonzero(active)
        found, parts, more = 0, [np.empty(0, dtype=np.uint64)], 0
        group = max(1, self._plan.memory // 2 // (8 * max(len(numbers), 1)))
        with ThreadPoolExecutor(threads()) as pool:
            for first in range(0, self._plan.bands, group):
                keys = self._keys(numbers, first, min(group, self._plan.bands - first))
                bands = range(first, first + len(keys))
                for pairs, leaders in pool.map(self._band, bands, keys, [numbers] * len(keys)):
                    more += leaders
                    parts, found = [*parts, pairs], found + len(pairs)
                    if found > PAIR_ROOM:
                        parts = [np.unique(np.concatenate(parts))]
                        found = 0
        self._most = LEADERS
        return np.unique(np.concatenate(parts)), more > 0

    def _band(self, band: int, keys: Hashes, numbers: Ints) -> tuple[Hashes, int]:
        """Pairs within one band, and how many leaders are new."""
        served = np.isin(numbers, self._leaders[band]) if len(self._leaders[band]) else np.zeros(len(numbers), np.bool_)
        before = int(served.sum())
        large = np.zeros(len(numbers), dtype=np.bool_)
        fixed = int(np.searchsorted(numbers, self._plan.fixed))
        better, worse = unpack(pairs_of_band(keys, fixed, served, large, self._most))
        self._leaders[band] = np.union1d(self._leaders[band], numbers[served])
        self.large[numbers[large]] = True
        better, worse = numbers[better], numbers[worse]
        keep = self._similar_sizes(better, worse)
        pairs = (better[keep].astype(np.uint64) << np.uint64(32)) | worse[keep].astype(np.uint64)
        return pairs, int(served.sum()) - before

    def _similar_sizes(self, better: Ints, worse: Ints) -> Bools:
        """Pairs that can reach the threshold at all: what both have in common is at most all of the smaller set."""
        a, b = self._sizes[better], self._sizes[worse]
        most = b if self._plan.similarity == "containment" else np.maximum(a, b)
        return np.asarray(np.minimum(a, b) >= self._plan.threshold * most - 1e-9)

    def _keys(self, numbers: Ints, first: int, count: int) -> Hashes:
        """Band keys, shape (count, len(numbers))."""
        out = np.zeros((count, len(numbers)), dtype=np.uint64)
        index = index_of(numbers, len(self._sizes))
        wanted = self._place >= 0
        wanted[wanted] = index[self._place[wanted]] >= 0
        places = index[self._place[wanted]]
        start, bits = 0, number_bits(len(numbers))
        for batch in self._rows.scores(["signature"], wanted):
            local = places[start : start + batch.num_rows]
            start += batch.num_rows
            band_keys(signature_values(batch["signature"]), first, out, local, self._plan.rows, bits)
        return out


def index_of(numbers: Ints, n: int) -> Ints:
    """For each of `n` numbers its position in `numbers`, -1 for those that are not there."""
    out = np.full(n, -1, dtype=np.int64)
    out[numbers] = np.arange(len(numbers))
    return out


def signature_values(column: pa.FixedSizeBinaryArray) -> Signatures:
    """A column of fixed-size signatures as an array of shape (rows, hashes)."""
    width = column.type.byte_width
    data = np.frombuffer(column.buffers()[1], dtype=np.uint8, count=len(column) * width, offset=column.offset * width)
    return data.view(np.uint32).reshape(len(column), width // 4)


def _compare(pairs: Hashes, documents: Ints, sizes: Ints, plan: Plan) -> Edges:
    """The pairs with their real similarity. Connected documents lie side by side, so that memory is used in turn."""
    better, worse = unpack(pairs)
    component = components(better, worse, len(documents))
    order = np.lexsort((worse, better, component[better]))
    better, worse = better[order], worse[order]
    wanted = np.unique(np.concatenate([better, worse]))
    wanted = wanted[np.argsort(component[wanted], kind="stable")]
    sets = load_sets(wanted, documents, sizes, plan.load, plan.memory // 2)
    return Edges(better, worse, similarities(sets, better, worse, plan.similarity))


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
