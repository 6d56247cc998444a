"""Who survives: the order of preference, groups of exact copies, and stars of near copies around their survivor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stages.dedup.texts import jit

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


class Edges(NamedTuple):
    """Compared pairs: better document, worse document (numbers follow survivor rank), real similarity."""

    better: Ints
    worse: Ints
    similarity: Floats

    def ordered(self) -> Edges:
        """The edges by worse, then better document, each pair once."""
        order = np.lexsort((self.better, self.worse))
        return Edges(self.better[order], self.worse[order], self.similarity[order])

    def and_more(self, other: Edges) -> Edges:
        """Both sets of edges."""
        parts = (np.concatenate(pair) for pair in zip(self, other, strict=True))
        return Edges(*parts).ordered()


class Outcome(NamedTuple):
    """Per document: its survivor (itself, if kept), the most similar other document that both survived and was
    compared (-1 for none, and for the dropped), and the similarity to the one or the other (0 for none)."""

    survivor: Ints
    nearest: Ints
    similarity: Floats


NO_EDGES = Edges(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float64))


def exact_leaders(hashes: npt.NDArray[np.uint64], rank: Ints, comparable: Bools) -> Ints:
    """For each row the best-ranked row with the same 16-byte hash (`hashes`, shape (rows, 2)); itself if alone."""
    leader = np.arange(len(rank))
    rows = np.flatnonzero(comparable)
    order = rows[np.lexsort((rank[rows], hashes[rows, 1], hashes[rows, 0]))]
    fresh = np.ones(len(order), dtype=np.bool_)
    fresh[1:] = np.any(hashes[order[1:]] != hashes[order[:-1]], axis=1)
    leader[order] = order[np.flatnonzero(fresh)[np.cumsum(fresh) - 1]]
    return leader


def survivor_ranks(keys: Sequence[npt.NDArray[np.generic]], n_rows: int) -> Ints:
    """Rank of each row, 0 the most wanted: ascending by the keys, most important first, then by run order."""
    order = np.lexsort([np.arange(n_rows), *reversed(keys)])
    rank = np.empty(n_rows, dtype=np.int64)
    rank[order] = np.arange(n_rows)
    return rank


def resolve(edges: Edges, n: int, threshold: float) -> Outcome:
    """Who survives among `n` documents, given the pairs that were compared.

    Documents are visited from the most to the least wanted; one is dropped if and only if it is at least `threshold`
    similar to a document already kept, the most similar of which is its survivor. So a chain A ~ B ~ C where A and C
    differ loses B alone, and every drop names a kept twin of real similarity.
    """
    return Outcome(*_resolve(edges.better, edges.worse, edges.similarity, n, threshold))


@jit
def _resolve(better: Ints, worse: Ints, similarity: Floats, n: int, threshold: float) -> tuple[Ints, Ints, Floats]:
    survivor, nearest = np.arange(n), np.full(n, -1)
    best = np.zeros(n)
    for e in range(len(worse)):
        i, j = better[e], worse[e]
        if similarity[e] >= threshold and survivor[i] == i and similarity[e] > best[j]:
            survivor[j], best[j] = i, similarity[e]
    for e in range(len(worse)):
        i, j = better[e], worse[e]
        if survivor[i] != i or survivor[j] != j:
            continue
        if similarity[e] > best[i]:
            best[i], nearest[i] = similarity[e], j
        if similarity[e] > best[j]:
            best[j], nearest[j] = similarity[e], i
    return survivor, nearest, best
