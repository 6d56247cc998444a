"""Real Jaccard similarity of candidate pairs, in memory bounded by the size of the shingle sets held at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Final

import numpy as np

from stages.dedup.resolve import Edges, Floats, Ints
from stages.dedup.shingles import Hashes, Sets, concatenate
from stages.dedup.texts import Offsets, jit

HELD: Final = 16_000_000
"""Shingles held at once (8 bytes each); a pair of larger sets is held alone."""
FETCHED: Final = 2_000_000
"""Shingles whose text is fetched at once."""

Load = Callable[[Ints], Sets]
"""The shingle sets of the named pool rows, in the order asked for."""


def verify(better: Ints, worse: Ints, documents: Ints, sizes: Ints, load: Load) -> Edges:
    """The pairs with the Jaccard similarity of their shingle sets.

    `documents` holds the pool row of every document, `sizes` the size of its set. Texts are read in pool order, once
    for every chunk of pairs they are part of: neighbouring pairs should share documents.
    """
    similarity = np.zeros(len(better), dtype=np.float64)
    for part in chunks(better, worse, sizes, HELD):
        rows, inverse = np.unique(np.concatenate([better[part], worse[part]]), return_inverse=True)
        order = np.argsort(documents[rows])
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        sets = _load(documents[rows[order]], sizes[rows[order]], load)
        left, right = np.split(place[inverse], 2)
        similarity[part] = jaccard(sets.values, sets.offsets, left, right)
    return Edges(better, worse, similarity)


def chunks(better: Ints, worse: Ints, sizes: Ints, budget: int) -> Iterator[slice]:
    """Consecutive pairs whose distinct documents have at most `budget` shingles together (or a single pair)."""
    cuts = _cuts(better, worse, sizes, budget)
    for start, stop in pairwise(cuts):
        yield slice(int(start), int(stop))


def _load(rows: Ints, sizes: Ints, load: Load) -> Sets:
    """Shingle sets of pool rows, fetched a bounded number of shingles at a time."""
    starts = np.flatnonzero(np.diff(np.cumsum(sizes) // FETCHED, prepend=-1))
    return concatenate([load(part) for part in np.split(rows, starts[1:])])


@jit
def _cuts(better: Ints, worse: Ints, sizes: Ints, budget: int) -> Ints:
    stamp = np.full(len(sizes), -1, dtype=np.int64)
    cuts = [0]
    held, chunk = 0, 0
    for p in range(len(better)):
        need = 0
        for row in (better[p], worse[p]):
            need += sizes[row] if stamp[row] != chunk else 0
        if held + need > budget and held > 0:
            chunk += 1
            cuts.append(p)
            held, need = 0, sizes[better[p]] + sizes[worse[p]]
        stamp[better[p]] = stamp[worse[p]] = chunk
        held += need
    if len(better) > 0:
        cuts.append(len(better))
    return np.array(cuts)


@jit
def jaccard(values: Hashes, offsets: Offsets, left: Ints, right: Ints) -> Floats:
    """Jaccard similarity of sets `left[p]` and `right[p]` for every pair `p`; 0 for two empty sets."""
    out = np.zeros(len(left), dtype=np.float64)
    for p in range(len(left)):
        a, a_end = offsets[left[p]], offsets[left[p] + 1]
        b, b_end = offsets[right[p]], offsets[right[p] + 1]
        union, common = (a_end - a) + (b_end - b), 0
        while a < a_end and b < b_end:
            x, y = values[a], values[b]
            common += x == y
            a += x <= y
            b += y <= x
        if union > 0:
            out[p] = common / (union - common)
    return out
