"""Who survives: the order of preference, groups of exact copies, and stars of near copies around their survivor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from stages.dedup import kernels
from stages.dedup.kernels import Floats, Hashes, Ints, Numbers
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
        return cls(np.arange(n, dtype=np.int32), np.full(n, -1, np.int32), np.zeros(n))

    def of_rows(self, documents: Numbers, n_rows: int) -> Outcome:
        """The same for the pool's rows, where document `i` is row `documents[i]`; other rows were not compared."""
        out = Outcome.alone(n_rows)
        out.survivor[documents], out.similarity[documents] = documents[self.survivor], self.similarity
        out.nearest[documents] = np.where(self.nearest < 0, -1, documents[self.nearest])
        return out

    def spread(self, leader: Numbers) -> Outcome:
        """What became of leaders, for every row: an exact copy of a survivor has a similarity of 1 to it."""
        survivor, rows = self.survivor[leader], np.arange(len(leader), dtype=np.int32)
        similarity = np.where((survivor == leader) & (survivor != rows), 1.0, self.similarity[leader])
        return Outcome(survivor, np.where(survivor == rows, self.nearest, -1).astype(np.int32), similarity)


def exact_leaders(hashes: Iterable[pa.FixedSizeBinaryArray], order: Numbers, memory: int) -> Numbers:
    """For each row the best row with the same 16-byte hash; itself if it has no hash (null) or is alone.

    `order` lists the rows, the best first. Hashes are grouped in as many parts as fit in `memory` bytes each, kept in
    temporary files.
    """
    n = len(order)
    rank, leader = np.empty(n, np.int32), np.arange(n, dtype=np.int32)
    rank[order] = np.arange(n, dtype=np.int32)
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


def best_first(keys: Floats | Ints | Numbers | None, fixed: int, n_rows: int) -> Numbers:
    """Rows by preference: the first `fixed`, then the others, each group ascending by the key, then in run order."""
    order = np.arange(n_rows, dtype=np.int32)
    if keys is not None:
        order[:fixed] = np.argsort(keys[:fixed], kind="stable")
        order[fixed:] = fixed + np.argsort(keys[fixed:], kind="stable")
    return order


def resolve(edges: Edges, n: int, threshold: float) -> Outcome:
    """Who survives among `n` documents, given the pairs that were compared.

    Documents are visited from the most to the least wanted; one is dropped if and only if it is at least `threshold`
    similar to a document already kept, the most similar of which is its survivor. So a chain A ~ B ~ C where A and C
    differ loses B alone, and every drop names a kept twin of real similarity.
    """
    return Outcome(*kernels.resolve(edges.keys, edges.similarity, edges.bounds, threshold, n))
