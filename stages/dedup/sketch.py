"""MinHash sketches of shingle sets: `num_hashes` 32-bit values per set, of which a share equal to the sets' Jaccard
similarity agrees between two sets (in expectation).

`one-permutation` hashes each element once into `num_hashes` bins and keeps each bin's minimum; bins left empty are
filled from further rounds of hashing as in Dahlgaard, Knudsen and Thorup, "Fast Similarity Sketching" (FOCS 2017),
which, unlike copying from other bins, stays unbiased and as concentrated as classic MinHash for small sets too.
`k-permutation` is the classic scheme, value for value datasketch's `affine32`. `datasketch` is that library itself
over the bytes of each shingle (its SHA-1 hash function), the reference both are tested against.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import regex

from stages.dedup.chars import CODE, WORDS
from stages.dedup.shingles import Hashes, Sets, Unit, mix
from stages.dedup.texts import Offsets, Texts, jit, strings_of

Backend = Literal["one-permutation", "k-permutation", "datasketch"]
Signatures = npt.NDArray[np.uint32]

_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_LOW: Final = np.uint64(0xFFFFFFFF)
_S32: Final = np.uint64(32)
_MOST: Final = np.uint32(0xFFFFFFFF)


def one_permutation(sets: Sets, num_hashes: int, seed: int) -> Signatures:
    """Signatures, shape (sets, num_hashes); those of empty sets are all ones and mean nothing."""
    salt = np.uint64(mix(np.uint64(seed & 0xFFFFFFFFFFFFFFFF)))
    return _one_permutation(sets.values, sets.offsets, num_hashes, salt)


def k_permutation(sets: Sets, num_hashes: int, seed: int) -> Signatures:
    """Signatures, shape (sets, num_hashes), with datasketch's permutations for `seed` over the hashes' low halves."""
    draw = np.random.RandomState(seed & 0xFFFFFFFF)
    a = draw.randint(0, 1 << 31, num_hashes, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    b = draw.randint(0, 1 << 32, num_hashes, dtype=np.uint32)
    return _k_permutation(sets.values, sets.offsets, a, b)


def with_datasketch(texts: Texts, unit: Unit, size: int, num_hashes: int, seed: int) -> Signatures:
    """Signatures, shape (texts, num_hashes), computed by `datasketch.MinHash` over Python strings."""
    from datasketch import MinHash  # takes a second to import, and only this path needs it

    tokens = (list(shingles_of(text, unit, size)) for text in strings_of(texts))
    hashes = MinHash.generator(tokens, num_perm=num_hashes, seed=seed & 0xFFFFFFFF)
    rows = [minhash.hashvalues for minhash in hashes]
    return np.array(rows, dtype=np.uint32).reshape(len(texts.chars), num_hashes)


def shingles_of(text: str, unit: Unit, size: int) -> Iterator[bytes]:
    """The shingles of one normalised text as bytes, by regular expression: what the kernels hash, spelled out."""
    tokens = list(text) if unit == "char" else regex.findall(WORDS if unit == "word" else CODE, text)
    for start in range(max(len(tokens) - size, 0) + 1 if tokens else 0):
        yield "\x1f".join(tokens[start : start + size]).encode()


@jit
def _one_permutation(values: Hashes, offsets: Offsets, num_hashes: int, seed: np.uint64) -> Signatures:
    rows = len(offsets) - 1
    out = np.full((rows, num_hashes), _MOST, dtype=np.uint32)
    settled = np.zeros(num_hashes, dtype=np.bool_)
    for row in range(rows):
        part = values[offsets[row] : offsets[row + 1]]
        if len(part) == 0:
            continue
        settled[:] = False
        left, turn, salt = num_hashes, 0, seed
        while left > 0:
            salt += _GOLDEN
            left -= _round(part, salt, turn - num_hashes, settled, out[row])
            turn += 1
    return out


@jit
def _round(part: Hashes, salt: np.uint64, fixed: int, settled: npt.NDArray[np.bool_], out: Signatures) -> int:
    """Hash every element once into the bins that no earlier round has filled; how many it filled.

    From round `num_hashes` on (`fixed` >= 0) everything goes to bin `fixed`, so that all are filled in the end.
    """
    bins = np.uint64(len(out))
    fresh = np.zeros(len(out), dtype=np.bool_)
    filled = 0
    for value in part:
        hashed = mix(value ^ salt)
        slot = np.int64(((hashed >> _S32) * bins) >> _S32) if fixed < 0 else np.int64(fixed)
        if settled[slot] and not fresh[slot]:
            continue
        low = np.uint32(hashed & _LOW)
        if not fresh[slot]:
            fresh[slot] = settled[slot] = True
            out[slot] = low
            filled += 1
        elif low < out[slot]:
            out[slot] = low
    return filled


@jit
def _k_permutation(values: Hashes, offsets: Offsets, a: Signatures, b: Signatures) -> Signatures:
    rows = len(offsets) - 1
    out = np.full((rows, len(a)), _MOST, dtype=np.uint32)
    for row in range(rows):
        best = out[row]
        for value in values[offsets[row] : offsets[row + 1]]:
            x = _mix32(np.uint32(value & _LOW))
            for k in range(len(a)):
                best[k] = min(best[k], np.uint32(a[k] * x + b[k]))
    return out


@jit
def _mix32(x: np.uint32) -> np.uint32:
    """The 32-bit finaliser of MurmurHash3, the pre-mix of `affine32`."""
    x = np.uint32(x ^ (x >> np.uint32(16)))
    x = np.uint32(x * np.uint32(0x85EBCA6B))
    x = np.uint32(x ^ (x >> np.uint32(13)))
    x = np.uint32(x * np.uint32(0xC2B2AE35))
    return np.uint32(x ^ (x >> np.uint32(16)))
