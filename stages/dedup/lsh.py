"""Locality-sensitive hashing: which pairs of signatures are worth a real comparison.

Documents whose signatures agree in all `rows` values of at least one of `bands` bands share a bucket. In a bucket of
up to `SMALL_BUCKET` documents everyone meets everyone; in a larger one everyone meets a few leaders, the documents of
the best survivor rank, so that a million near-identical documents cost a few million comparisons.

A band's hash and a document's number share one 64-bit key, the number in the low bits: sorting the keys sorts the
buckets. The 32 bits or more that are left to the hash can only put too many documents into a bucket, never too few.
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
_ONE: Final = np.uint64(1)
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


def number_bits(n: int) -> int:
    """Bits that the numbers of `n` documents take."""
    return max(n - 1, 1).bit_length()


@jit
def band_keys(signatures: Signatures, first: int, out: Hashes, places: Ints, rows: int, bits: int) -> None:
    """Keys of bands `first`, `first` + 1, ... of signature `i` into `out[:, places[i]]`, but for places below 0."""
    low = (_ONE << np.uint64(bits)) - _ONE
    for i in range(len(signatures)):
        if places[i] < 0:
            continue
        for band in range(len(out)):
            value = np.uint64(first + band)
            for k in range((first + band) * rows, (first + band + 1) * rows):
                value = mix((value << _S32) ^ (value >> _S32) ^ np.uint64(signatures[i, k]))
            out[band, places[i]] = (value & ~low) | np.uint64(places[i])


@jit
def bucket_pairs(keys: Hashes, bits: int, fixed: int, served: Bools, large: Bools, most: int, out: Hashes) -> int:
    """Pairs (smaller number in the high half) of documents that share a bucket, written to `out` as far as it is long.

    `keys` ascend. The first `fixed` documents are not compared with each other. In large buckets only the `most`
    first that are not `served` yet meet the others; they become `served`, and all members become `large`. Returns
    the number of pairs. With an empty `out` nothing is marked, so that a first call can count.
    """
    shift, low = np.uint64(bits), (_ONE << np.uint64(bits)) - _ONE
    found, start = 0, 0
    while start < len(keys):
        stop = start + 1
        while stop < len(keys) and keys[stop] >> shift == keys[start] >> shift:
            stop += 1
        fresh = start
        while fresh < stop and keys[fresh] & low < np.uint64(fixed):
            fresh += 1
        small = stop - start <= SMALL_BUCKET
        leaders = 0
        for p in range(start, stop if fresh < stop and stop - start > 1 else start):
            i = np.int64(keys[p] & low)
            if not small:
                large[i] = large[i] or len(out) > 0
                if leaders == most or served[i]:
                    continue
                leaders += 1
                served[i] = len(out) > 0
            for q in range(max(p + 1, fresh), stop):
                if len(out) > 0:
                    out[found] = (keys[p] & low) << _S32 | (keys[q] & low)
                found += 1
        start = stop
    return found


def pairs_of_band(keys: Hashes, fixed: int, served: Bools, large: Bools, most: int = LEADERS) -> Hashes:
    """The pairs to compare within one band, packed as by `bucket_pairs`; sorts `keys`, marks `served` and `large`."""
    keys.sort()
    bits = number_bits(len(keys))
    room = bucket_pairs(keys, bits, fixed, served, large, most, np.empty(0, dtype=np.uint64))
    out = np.empty(room, dtype=np.uint64)
    if room:
        bucket_pairs(keys, bits, fixed, served, large, most, out)
    return out


def unpack(pairs: Hashes) -> tuple[Ints, Ints]:
    """The two halves of packed pairs."""
    return (pairs >> _S32).astype(np.int64), (pairs & np.uint64(0xFFFFFFFF)).astype(np.int64)
