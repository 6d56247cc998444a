"""Which rows of a pool are target rows, word for word or nearly, and which target rows are copies of each other.

Near means: the Jaccard similarity of the sets of word 5-grams reaches a threshold. The search is exact: two sets that
similar share one of the rarest few 5-grams of either, so only those are looked up, and every candidate is compared.
"""

from __future__ import annotations

from math import ceil
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stages.dedup.shingles import DEFAULT_SIZE, Sets, ascending, shingle
from stages.dedup.texts import Texts, content_hashes, normalise

Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
_PIECE: Final = 512  # texts looked up at a time: bounds the pairs in memory


class Prepared(NamedTuple):
    """Texts without regard to case and white space: a hash of each, and its sorted set of word 5-grams."""

    exact: list[bytes]
    sets: Sets


class Index(NamedTuple):
    """Fixed texts, findable: `keys` are sorted 5-grams, `holders` the text each is from."""

    texts: Prepared
    first: dict[bytes, int]
    keys: Hashes
    holders: Ints
    threshold: float


class Match(NamedTuple):
    """Text `row` and fixed text `fixed`; equal ones have similarity 1 and `same`."""

    row: int
    fixed: int
    similarity: float
    same: bool


def prepare(strings: pa.StringArray) -> Prepared:
    """Hash and 5-grams of every text."""
    texts: Texts = normalise(strings, lowercase=True, whitespace=True)
    sets = ascending(shingle(texts, "word", DEFAULT_SIZE["word"]))
    return Prepared(content_hashes(texts).to_pylist(), sets)


def build(texts: Prepared, threshold: float) -> Index:
    """An index that finds every text with a similarity of `threshold` or more."""
    first: dict[bytes, int] = {}
    for row, key in enumerate(texts.exact):
        first.setdefault(key, row)
    rarity = dict(zip(*(part.tolist() for part in np.unique(texts.sets.values, return_counts=True)), strict=True))
    parts = [_rarest(grams, rarity, threshold) for grams in _each(texts.sets)]
    holders = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    keys = np.concatenate([np.empty(0, np.uint64), *parts])
    order = np.argsort(keys, kind="stable")
    return Index(texts, first, keys[order], holders[order], threshold)


def matches(texts: Prepared, index: Index) -> list[Match]:
    """All near matches of each text among the fixed ones, and of the equal ones the first."""
    same = [Match(row, index.first[key], 1.0, True) for row, key in enumerate(texts.exact) if key in index.first]
    near = [match for row, fixed in _candidates(texts.sets, index) if (match := _compare(texts, index, row, fixed))]
    return sorted([*same, *near])


def twins(texts: Prepared, threshold: float) -> list[Match]:
    """Pairs of different texts of one collection with at least this similarity, each once (`row` before `fixed`)."""
    found = matches(texts, build(texts, threshold))
    return [match for match in found if match.row < match.fixed and not match.same]


def _rarest(grams: Hashes, rarity: dict[int, int], threshold: float) -> Hashes:
    # Of a set of n, at most n - ceil(t n) elements are missing from a set with similarity t: one more meets it.
    needed = len(grams) - ceil(threshold * len(grams) - 1e-9) + 1 if len(grams) else 0
    count = np.array([rarity[gram] for gram in grams.tolist()], np.int64)
    return grams[np.lexsort((grams, count))[:needed]]


def _each(sets: Sets) -> list[Hashes]:
    return [sets.values[a:b] for a, b in zip(sets.offsets[:-1], sets.offsets[1:], strict=True)]


def _candidates(sets: Sets, index: Index) -> list[tuple[int, int]]:
    """Pairs that share a key."""
    found: list[tuple[int, int]] = []
    for start in range(0, len(sets.offsets) - 1, _PIECE):
        offsets = sets.offsets[start : start + _PIECE + 1]
        values = sets.values[offsets[0] : offsets[-1]]
        rows = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        low, high = np.searchsorted(index.keys, values, "left"), np.searchsorted(index.keys, values, "right")
        counts = high - low
        at = np.repeat(low - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        pairs = np.unique(np.column_stack([np.repeat(rows, counts), index.holders[at]]), axis=0)
        found.extend((row + start, fixed) for row, fixed in pairs.tolist())
    return found


def _compare(texts: Prepared, index: Index, row: int, fixed: int) -> Match | None:
    if texts.exact[row] == index.texts.exact[fixed]:
        return None
    mine, theirs = _set(texts.sets, row), _set(index.texts.sets, fixed)
    both = len(np.intersect1d(mine, theirs, assume_unique=True))
    similarity = both / (len(mine) + len(theirs) - both)
    return Match(row, fixed, similarity, False) if similarity >= index.threshold else None


def _set(sets: Sets, row: int) -> Hashes:
    return sets.values[sets.offsets[row] : sets.offsets[row + 1]]
