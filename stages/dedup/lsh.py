"""Locality-sensitive hashing: which pairs of signatures are worth a real comparison.

Documents whose signatures agree in all `rows` values of at least one of `bands` bands share a bucket. In a bucket of
up to `SMALL_BUCKET` documents everyone meets everyone; in a larger one everyone meets a few leaders, the documents of
the best survivor rank, so that a million near-identical documents cost a few million comparisons.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from stages.dedup.shingles import Hashes, mix
from stages.dedup.sketch import Signatures
from stages.dedup.texts import jit

SMALL_BUCKET: Final = 32
LEADERS: Final = 8
RECALL: Final = 0.98
"""Probability of finding a pair exactly at the threshold; pairs above it are found with a higher one."""

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
_S32: Final = np.uint64(32)


def best_bands(threshold: float, num_hashes: int, recall: float = RECALL) -> tuple[int, int]:
    """Bands and rows: the longest rows with which a pair exactly at `threshold` is found with probability `recall`.

    Long rows mean few false candidates, which cost time but never a wrong drop; a pair above the threshold is found
    with a higher probability. Falls back on rows of one value where no choice reaches `recall`.
    """
    for rows in range(num_hashes, 1, -1):
        bands = num_hashes // rows
        if 1.0 - (1.0 - threshold**rows) ** bands >= recall:
            return bands, rows
    return num_hashes, 1


@jit
def band_hashes(signatures: Signatures, first: int, out: Hashes, places: Ints, rows: int) -> None:
    """Hash bands `first`, `first` + 1, ... of each signature `i` into `out[:, places[i]]`, skipping places below 0."""
    for i in range(len(signatures)):
        if places[i] < 0:
            continue
        for band in range(len(out)):
            value = np.uint64(first + band)
            for k in range((first + band) * rows, (first + band + 1) * rows):
                value = mix((value << _S32) ^ (value >> _S32) ^ np.uint64(signatures[i, k]))
            out[band, places[i]] = value


@jit
def bucket_pairs(hashes: Hashes, order: Ints, served: Bools, large: Bools, out: Hashes) -> int:
    """Pairs (smaller index in the high half) of documents that share a bucket, written to `out` as far as it is long.

    `order` sorts `hashes` and keeps equal ones ascending. In large buckets only the first leaders that are not
    `served` yet meet the others; they become `served`, and all members become `large`. Returns the number of pairs.
    With an empty `out` nothing is marked, so that a first call can count.
    """
    found, start = 0, 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and hashes[order[stop]] == hashes[order[start]]:
            stop += 1
        small = stop - start <= SMALL_BUCKET
        leaders = 0
        for p in range(start, stop):
            i = order[p]
            if not small:
                large[i] = large[i] or len(out) > 0
                if leaders == LEADERS or served[i]:
                    continue
                leaders += 1
                served[i] = len(out) > 0
            for q in range(p + 1, stop):
                if len(out) > 0:
                    out[found] = (np.uint64(i) << _S32) | np.uint64(order[q])
                found += 1
        start = stop
    return found


def pairs_of_band(hashes: Hashes, served: Bools, large: Bools) -> Hashes:
    """The pairs to compare within one band, packed as by `bucket_pairs`; marks `served` and `large`."""
    order = np.argsort(hashes, kind="stable")
    room = bucket_pairs(hashes, order, served, large, np.empty(0, dtype=np.uint64))
    out = np.empty(room, dtype=np.uint64)
    if room:
        bucket_pairs(hashes, order, served, large, out)
    return out


def unpack(pairs: Hashes) -> tuple[Ints, Ints]:
    """The two halves of packed pairs."""
    return (pairs >> _S32).astype(np.int64), (pairs & np.uint64(0xFFFFFFFF)).astype(np.int64)
