"""Locality-sensitive hashing: which pairs of signatures are worth a real comparison.

Documents whose signatures agree in all `rows` values of at least one of `bands` bands share a bucket. In a bucket of
up to `SMALL_BUCKET` documents everyone meets everyone; in a larger one everyone meets a few leaders, the documents of
the best survivor rank, so that a million near-identical documents cost a few million comparisons.

A band's hash and a document's number share one 64-bit key, the number in the low bits: sorting the keys sorts the
buckets. The 32 bits or more that are left to the hash can only put too many documents into a bucket, never too few.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from stages.dedup import kernels
from stages.dedup.kernels import Bools, Hashes

SMALL_BUCKET: Final = 32
LEADERS: Final = 8
RECALL: Final = 0.98
"""Probability of finding a pair exactly at the threshold; pairs above it are found with a higher one."""
PIECE: Final = 1 << 18
"""Keys whose pairs are listed at a time, but that a bucket is never cut."""


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


def pairs_of_band(
    keys: Hashes, bits: int, fixed: int, served: Bools, large: Bools, most: int = LEADERS
) -> Iterator[Hashes]:
    """The packed pairs (better, worse) to compare within one band, some at a time.

    Sorts `keys`, whose numbers take `bits` bits; marks `served` and `large`, which are indexed by number: see
    `kernels.bucket_pairs`.
    """
    keys.sort()
    start = 0
    while start < len(keys):
        stop = _end_of_bucket(keys, min(start + PIECE, len(keys)) - 1, bits)
        yield kernels.bucket_pairs(keys[start:stop], bits, fixed, SMALL_BUCKET, most, served, large)
        start = stop


def _end_of_bucket(keys: Hashes, at: int, bits: int) -> int:
    """Where the bucket of the key at `at` ends."""
    last = keys[at] | np.uint64((1 << bits) - 1)
    return int(np.searchsorted(keys, last, side="right"))
