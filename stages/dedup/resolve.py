"""Who survives: the order of preference, groups of exact copies, and stars of near copies around their survivor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from schemas.room import room, slices
from stages.dedup import kernels
from stages.dedup.arrays import full, identity, index_of, span
from stages.dedup.kernels import Floats, Hashes, Numbers
from stages.dedup.spool import Edges, Spool

_PER_ROW = 96
"""Bytes that grouping takes for a row."""


class Outcome(NamedTuple):
    """Per document: its survivor (itself, if kept), the most similar other document that both survived and was
    compared (-1 for none, and for the dropped), and the similarity to the one or the other (0 for none)."""

    survivor: Numbers
    nearest: Numbers
    similarity: Floats

    @classmethod
    def alone(cls, n: int) -> Outcome:
        """Of `n` documents that were not compared."""
        return cls(identity(n), full(n, -1, np.int32), full(n, 0, np.float64))

    def of_rows(self, documents: Numbers, n_rows: int) -> Outcome:
        """The same for the pool's rows, where document `i` is row `documents[i]`; other rows were not compared."""
        out = Outcome.alone(n_rows)
        for part in slices(len(documents)):
            rows, nearest = documents[part], self.nearest[part]
            out.survivor[rows], out.similarity[rows] = documents[self.survivor[part]], self.similarity[part]
            out.nearest[rows] = np.where(nearest < 0, -1, documents[nearest])
        return out

    def spread(self, leader: Numbers) -> Outcome:
        """What became of leaders, now for every row: an exact copy of a survivor has a similarity of 1 to it."""
        for part in slices(len(leader)):  # in place: what is read of other rows is about leaders, which stay the same
            leaders, rows = leader[part], span(part)
            survivor = self.survivor[leaders]
            copies = (survivor == leaders) & (survivor != rows)
            self.similarity[part] = np.where(copies, 1.0, self.similarity[leaders])
            self.nearest[part] = np.where(survivor == rows, self.nearest[part], -1)
            self.survivor[part] = survivor
        return self


def exact_leaders(hashes: Iterable[pa.FixedSizeBinaryArray], order: Numbers, memory: int) -> Numbers:
    """For each row the best row with the same 16-byte hash; itself if it has no hash (null) or is alone.

    `order` lists the rows, the best first. Hashes are grouped in as many parts as fit in `memory` bytes each, kept in
    temporary files.
    """
    n = len(order)
    rank, leader = index_of(order, n), identity(n)
    for part in _parts(hashes, n * _PER_ROW // max(memory, 1) + 1, memory):
        rows = part[:, 2].astype(np.int64)
        by_hash = np.argsort(part[:, 0], kind="stable")
        if _collide(part[:, 0][by_hash], part[:, 1][by_hash]):
            by_hash = np.lexsort((part[:, 1], part[:, 0]))
        found = part[by_hash]
        fresh = np.ones(len(found), dtype=np.bool_)
        fresh[1:] = (found[1:, 0] != found[:-1, 0]) | (found[1:, 1] != found[:-1, 1])
        starts, rows = np.flatnonzero(fresh), rows[by_hash]
        if len(starts) < len(rows):
            best = order[np.minimum.reduceat(rank[rows], starts)]
            leader[rows] = best[np.cumsum(fresh) - 1]
    return leader


def _collide(first: Hashes, second: Hashes) -> bool:
    """Whether two hashes share their first half only: of 10 million, once in 300,000 times."""
    return bool(((first[1:] == first[:-1]) & (second[1:] != second[:-1])).any())


def _parts(hashes: Iterable[pa.FixedSizeBinaryArray], parts: int, memory: int) -> Iterator[Hashes]:
    """Hashes as two integers each, with their rows, shape (rows, 3); equal hashes are in the same part."""
    spools, start = [Spool(memory if parts == 1 else 0) for _ in range(parts)], 0
    for column in hashes:
        rows = np.flatnonzero(column.is_valid()).astype(np.uint64)
        marked = np.column_stack([_halves(column)[rows.astype(np.int64)], rows + np.uint64(start)])
        part = marked[:, 1] % np.uint64(parts)
        for k in range(parts):
            spools[k].append(marked[part == k].ravel() if parts > 1 else marked.ravel())
        start += len(column)
    for spool in spools:
        yield spool.all().reshape(-1, 3)
        spool.close()


def _halves(column: pa.FixedSizeBinaryArray) -> Hashes:
    data = np.frombuffer(column.buffers()[1], dtype=np.uint8, count=len(column) * 16, offset=column.offset * 16)
    return data.view(np.uint64).reshape(-1, 2)


def best_first(keys: Floats | Numbers | None, fixed: int, n_rows: int) -> Numbers:
    """Rows by preference: the first `fixed`, then the others, each group ascending by the key, then in run order."""
    order = identity(n_rows)
    if keys is not None:
        for group in (slice(0, fixed), slice(fixed, n_rows)):
            _sort(order[group], keys)
    return order


def _sort(order: Numbers, keys: Floats | Numbers) -> None:
    """Sort rows by their keys in place, stably: by the low halves of long keys, then by the high ones."""
    found, by_half = room(len(order), np.int32), room(len(order), np.uint64)
    for shift in range(0, keys.itemsize * 8, 32):
        for part in slices(len(order)):
            half = _sortable(keys[order[part]]) >> np.uint64(shift)
            by_half[part] = half << np.uint64(32) | span(part).astype(np.uint64)
        by_half.sort()
        for part in slices(len(order)):
            found[part] = order[(by_half[part] & np.uint64(0xFFFFFFFF)).astype(np.int64)]
        order[:] = found


def _sortable(keys: Floats | Numbers) -> Hashes:
    """Integers in the order of the keys; NaN is the last, and there is one zero."""
    if keys.dtype == np.int32:
        return (keys.astype(np.int64) + (1 << 31)).astype(np.uint64)
    bits = np.where(np.isnan(keys), np.nan, keys + 0.0).view(np.uint64)
    return np.where(bits >> np.uint64(63), ~bits, bits | np.uint64(1 << 63))


def resolve(edges: Edges, n: int, threshold: float) -> Outcome:
    """Who survives among `n` documents, given the pairs that were compared.

    Documents are visited from the most to the least wanted; one is dropped if and only if it is at least `threshold`
    similar to a document already kept, the most similar of which is its survivor. So a chain A ~ B ~ C where A and C
    differ loses B alone, and every drop names a kept twin of real similarity.
    """
    outcome = Outcome.alone(n)
    kernels.resolve(edges.keys, edges.similarity, edges.bounds, threshold, *outcome)
    return outcome
