"""The kernels of `dedup` on arrays: compiled C where it was built, else numba. None of them holds the GIL.

Documents are numbered from 0 in 32 bits. A pair of documents is one 64-bit integer, the first in the high half.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from stages.dedup.native import native, pointer

Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]
Ints = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Hashes = npt.NDArray[np.uint64]
Signatures = npt.NDArray[np.uint32]

_LOW: Final = np.uint64(0xFFFFFFFF)
_S32: Final = np.uint64(32)


def doubtful(data: Bytes, offsets: Offsets, composed: Bools) -> Bools:
    """Which texts have a character that is not marked in `composed`, which is indexed by code point."""
    if native() is None:
        return np.asarray(_jitted().doubtful(data, offsets, composed))
    out = np.empty(len(offsets) - 1, np.bool_)
    _call("doubtful", data, offsets, len(out), composed, out)
    return out


def normalise(
    data: Bytes, offsets: Offsets, lower: npt.NDArray[np.uint32], classes: Bytes, whitespace: bool
) -> tuple[Bytes, Offsets, Ints]:
    """Each code point by `lower`; with `whitespace`, runs of it become one space and the ends none.

    Returns the texts' bytes, offsets and numbers of code points.
    """
    if native() is None:
        return _triple(_jitted().normalise(data, offsets, lower, classes, whitespace))
    rows = len(offsets) - 1
    size = int(offsets[rows] - offsets[0])
    out = np.empty(size + size // 2 + 4, np.uint8)  # lower case turns two bytes into three at the most
    ends, chars = np.empty(rows + 1, np.int64), np.empty(rows, np.int64)
    used = _call("normalise", data, offsets, rows, lower, classes, whitespace, out, ends, chars)
    return out[:used].copy(), ends, chars


def shingles(data: Bytes, offsets: Offsets, classes: Bytes, unit: int, size: int) -> tuple[Hashes, Offsets]:
    """Distinct hashes of the runs of `size` tokens of each text, where they first occur, and their offsets."""
    if native() is None:
        return _pair(_jitted().distinct(*_jitted().shingle(data, offsets, classes, unit, size)))
    rows = len(offsets) - 1
    values = np.empty(len(data) + 1, np.uint64)  # a token has at least a byte; pages not written cost nothing
    all_ends, ends = np.empty(rows + 1, np.int64), np.empty(rows + 1, np.int64)
    _call("shingle", data, offsets, rows, classes, unit, size, values, all_ends)
    used = _call("distinct", values, all_ends, rows, ends)
    return values[:used].copy(), ends


def sort_sets(values: Hashes, offsets: Offsets) -> None:
    """Sort each set in place."""
    if native() is None:
        _jitted().sort(values, offsets)
    else:
        _call("sort", values, offsets, len(offsets) - 1)


def one_permutation(values: Hashes, offsets: Offsets, num_hashes: int, seed: np.uint64) -> Signatures:
    """One-permutation MinHash with re-hashing of empty bins, shape (sets, num_hashes)."""
    if native() is None:
        return np.asarray(_jitted().one_permutation(values, offsets, num_hashes, seed))
    out = np.empty((len(offsets) - 1, num_hashes), np.uint32)
    _call("one_permutation", values, offsets, len(out), num_hashes, seed, out)
    return out


def k_permutation(values: Hashes, offsets: Offsets, a: Signatures, b: Signatures) -> Signatures:
    """Classic MinHash: the minimum of `a * x + b` over the mixed low halves, shape (sets, len(a))."""
    if native() is None:
        return np.asarray(_jitted().k_permutation(values, offsets, a, b))
    out = np.empty((len(offsets) - 1, len(a)), np.uint32)
    _call("k_permutation", values, offsets, len(out), a, b, len(a), out)
    return out


def mix(value: int) -> int:
    """The 64-bit finaliser of MurmurHash3: a bijection that spreads every bit."""
    value &= 0xFFFFFFFFFFFFFFFF
    value = (value ^ value >> 33) * 0xFF51AFD7ED558CCD & 0xFFFFFFFFFFFFFFFF
    value = (value ^ value >> 33) * 0xC4CEB9FE1A85EC53 & 0xFFFFFFFFFFFFFFFF
    return value ^ value >> 33


def band_keys(signatures: Signatures, numbers: Numbers, bands: int, rows: int, bits: int) -> Hashes:
    """A band's hash with the document's number in its `bits` low bits, shape (bands, documents).

    Documents whose number is below 0 are left out.
    """
    out = np.empty((bands, int((numbers >= 0).sum())), np.uint64)
    if native() is None:
        _jitted().band_keys(signatures, numbers, rows, bits, out, 0)
    else:
        _call("band_keys", signatures, *signatures.shape, numbers, bands, rows, bits, out, out.shape[1])
    return out


def bucket_pairs(
    keys: Hashes, bits: int, fixed: int, small_bucket: int, most: int, served: Bools, large: Bools
) -> Hashes:
    """Packed pairs (better, worse) of documents that share a bucket; `keys` ascend.

    The first `fixed` documents are not compared with each other. In buckets of more than `small_bucket` documents only
    the `most` first that are not `served` yet meet the others; they become `served`, and all members become `large`.
    """
    if native() is None:
        run = _jitted().bucket_pairs
        out = np.empty(run(keys, bits, fixed, small_bucket, most, served, large, np.empty(0, np.uint64)), np.uint64)
        if len(out):
            run(keys, bits, fixed, small_bucket, most, served, large, out)
        return out
    arguments = (keys, len(keys), bits, fixed, small_bucket, most, served, large)
    out = np.empty(_call("bucket_pairs", *arguments, None), np.uint64)
    if len(out):
        _call("bucket_pairs", *arguments, out)
    return out


def join(pairs: Hashes, parent: Numbers) -> None:
    """Union-find: unite the documents of packed pairs in `parent`, the smaller root on top."""
    if native() is None:
        _jitted().join(pairs, parent)
    else:
        _call("join", pairs, len(pairs), parent)


def components(pairs: Hashes, n: int) -> Numbers:
    """The smallest member of the connected component of each of `n` documents."""
    parent = np.arange(n, dtype=np.int32)
    join(pairs, parent)
    return roots(parent)


def roots(parent: Numbers) -> Numbers:
    """The root of every document, after `join`."""
    while not np.array_equal(parent, above := parent[parent]):
        parent = above
    return parent


def similarities(values: Hashes, starts: Ints, sizes: Numbers, pairs: Hashes, contained: bool) -> Floats:
    """Real similarity of packed pairs of documents; that of document `i` is `values[starts[i]:][:sizes[i]]`, ascending.

    Jaccard, or if `contained` the share of the second set that is in the first; 0 for two empty sets.
    """
    if native() is None:
        return np.asarray(_jitted().similarities(values, starts, sizes, pairs, contained))
    out = np.empty(len(pairs))
    _call("similarities", values, starts, sizes, pairs, len(pairs), contained, out)
    return out


def resolve(
    edges: Hashes, similarity: Floats, bounds: Ints, threshold: float, survivor: Numbers, nearest: Numbers, best: Floats
) -> None:
    """Find out the survivor of every document, the nearest kept document, and the similarity to the one or the other.

    `edges` are packed (worse, better), in ascending runs: run `r` is `bounds[r]` to `bounds[r + 1]`. The last three
    arrays are given as for documents that were not compared: themselves, -1 and 0.
    """
    if native() is None:
        order = np.argsort(edges, kind="stable")
        _jitted().resolve(edges, similarity, order, threshold, survivor, nearest, best)
    else:
        _call("resolve", edges, similarity, bounds, len(bounds) - 1, threshold, survivor, nearest, best)


def pack(high: npt.NDArray[np.integer], low: npt.NDArray[np.integer]) -> Hashes:
    """Two numbers of 32 bits in one of 64."""
    return np.asarray(high.astype(np.uint64) << _S32 | low.astype(np.uint64))


def unpack(pairs: Hashes) -> tuple[Ints, Ints]:
    """The high and the low half of packed pairs."""
    return (pairs >> _S32).astype(np.int64), (pairs & _LOW).astype(np.int64)


def _call(name: str, *arguments: Any) -> int:
    """Call a kernel: arrays by address, None as no address. Raises MemoryError where it could not get room."""
    library = native()
    assert library is not None
    function = getattr(library, f"dedup_{name}")
    function.restype = ctypes.c_int64
    status = int(function(*map(_argument, arguments)))
    if status < 0:
        raise MemoryError(f"dedup: no memory for '{name}'")
    return status


def _argument(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        assert value.flags.c_contiguous
        return pointer(value)
    if value is None:
        return ctypes.c_void_p()
    return ctypes.c_double(value) if isinstance(value, float) else ctypes.c_int64(int(value))


def _jitted() -> Any:
    from stages.dedup import jitted  # numba takes half a second to import, and most installations do not need it

    return jitted


def _pair(found: Any) -> tuple[Hashes, Offsets]:
    return found[0], found[1]


def _triple(found: Any) -> tuple[Bytes, Offsets, Ints]:
    return found[0], found[1], found[2]
