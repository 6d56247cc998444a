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
from typing import Literal

import numpy as np

from stages.dedup import kernels
from stages.dedup.chars import CODE, WORDS
from stages.dedup.kernels import Signatures
from stages.dedup.shingles import Sets, Unit
from stages.dedup.texts import Texts, strings_of

Backend = Literal["one-permutation", "k-permutation", "datasketch"]


def one_permutation(sets: Sets, num_hashes: int, seed: int) -> Signatures:
    """Signatures, shape (sets, num_hashes); those of empty sets are all ones and mean nothing."""
    salt = np.uint64(kernels.mix(seed))
    return kernels.one_permutation(sets.values, sets.offsets, num_hashes, salt)


def k_permutation(sets: Sets, num_hashes: int, seed: int) -> Signatures:
    """Signatures, shape (sets, num_hashes), with datasketch's permutations for `seed` over the hashes' low halves."""
    draw = np.random.RandomState(seed & 0xFFFFFFFF)
    a = draw.randint(0, 1 << 31, num_hashes, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    b = draw.randint(0, 1 << 32, num_hashes, dtype=np.uint32)
    return kernels.k_permutation(sets.values, sets.offsets, a, b)


def with_datasketch(texts: Texts, unit: Unit, size: int, num_hashes: int, seed: int) -> Signatures:
    """Signatures, shape (texts, num_hashes), computed by `datasketch.MinHash` over Python strings."""
    from datasketch import MinHash  # takes a second to import, and only this path needs it

    tokens = (list(shingles_of(text, unit, size)) for text in strings_of(texts))
    hashes = MinHash.generator(tokens, num_perm=num_hashes, seed=seed & 0xFFFFFFFF)
    rows = [minhash.hashvalues for minhash in hashes]
    return np.array(rows, dtype=np.uint32).reshape(len(texts.chars), num_hashes)


def shingles_of(text: str, unit: Unit, size: int) -> Iterator[bytes]:
    """The shingles of one normalised text as bytes, by regular expression: what the kernels hash, spelled out."""
    import regex  # only needed where Python strings are

    tokens = list(text) if unit == "char" else regex.findall(WORDS if unit == "word" else CODE, text)
    for start in range(max(len(tokens) - size, 0) + 1 if tokens else 0):
        yield "\x1f".join(tokens[start : start + size]).encode()
