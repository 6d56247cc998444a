"""Greedy diversity: going down the ranking, leave out rows too similar to one already taken."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import numpy.typing as npt

from stages.contract import IntArray, Scores
from stages.dedup.shingles import Sets, shingle
from stages.dedup.texts import normalise
from stages.text import On, columns_for, render

_CHUNK = 1_024
_WORDS = 5


def dissimilar(order: IntArray, scores: Scores, on: On, threshold: float, count: int) -> IntArray:
    """Up to `count` rows of `order`, in order, no two with a Jaccard similarity of word 5-grams of `threshold` or more.

    Exact: every row is compared with every row taken that shares a 5-gram with it.
    """
    taken: list[int] = []
    index = _Taken(threshold)
    for start in range(0, len(order), _CHUNK):
        rows = order[start : start + _CHUNK]
        table = scores.fetch(rows, columns_for(on)).combine_chunks()
        sets = shingle(normalise(render(table.to_batches()[0], on), True, True), "word", _WORDS)
        for row, grams in zip(rows.tolist(), _each(sets), strict=True):
            if len(taken) == count:
                return np.array(taken, np.int64)
            if index.admits(grams):
                taken.append(row)
    return np.array(taken, np.int64)


class _Taken:
    """Sets taken so far, by element."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.sizes: list[int] = []
        self.holders: dict[int, list[int]] = defaultdict(list)

    def admits(self, grams: npt.NDArray[np.uint64]) -> bool:
        """Take a set unless it is too similar to one taken before."""
        shared: dict[int, int] = defaultdict(int)
        for gram in grams.tolist():
            for holder in self.holders.get(gram, ()):
                shared[holder] += 1
        for holder, both in shared.items():
            if both >= self.threshold * (self.sizes[holder] + len(grams) - both):
                return False
        for gram in grams.tolist():
            self.holders[gram].append(len(self.sizes))
        self.sizes.append(len(grams))
        return True


def _each(sets: Sets) -> list[npt.NDArray[np.uint64]]:
    return [sets.values[a:b] for a, b in zip(sets.offsets[:-1], sets.offsets[1:], strict=True)]
