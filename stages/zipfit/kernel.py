"""Gzip lengths of many texts against many targets: the compiled kernel, or zlib where it could not be built."""

from __future__ import annotations

import ctypes
import os
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from stages.zipfit.native import arguments, checked, native, pointer
from stages.zipfit.packed import Ints, Packed

Lengths = npt.NDArray[np.int32]
LEVELS: Final = range(1, 10)
ORDERS: Final = (1, 2, 3, 4, 8)
"""Bytes of the n-grams that `overlap` counts."""

_CHUNK: Final = 64
_TABLE_BITS: Final = 16


class GzipLengths(NamedTuple):
    """Bytes after compression: of each text, of each target, and of text k followed by target j at [k, j]."""

    texts: Lengths
    targets: Lengths
    pairs: Lengths


def zlib_is_classic() -> bool:
    """Whether Python's zlib compresses like the classic one; zlib-ng and others give other lengths."""
    probe = b"".join(b"%d %x;" % (n * n % 977, n * 7919) for n in range(700))
    return [len(zlib.compress(probe, level, 31)) for level in (1, 6, 9)] == [4235, 4118, 4118]


def gzip_lengths(texts: Packed, targets: Packed, level: int, threads: int = 1) -> GzipLengths:
    """Exact gzip lengths at `level` (1 to 9), `[texts, targets]` for the pairs. The GIL is free meanwhile.

    The header counts 18 bytes, as with an empty file name. Raises RunError for a text too long for the kernel.
    """
    library = native()
    run: Callable[[Packed], GzipLengths] = (
        (lambda part: _compiled(library, part, targets, level))
        if library is not None
        else (lambda part: _with_zlib(part, targets, level))
    )
    if threads <= 1 or len(texts) <= _CHUNK:
        return run(texts)
    parts = [texts.part(start, min(start + _CHUNK, len(texts))) for start in range(0, len(texts), _CHUNK)]
    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(run, parts))
    return GzipLengths(
        np.concatenate([item.texts for item in found]), found[0].targets, np.concatenate([item.pairs for item in found])
    )


def overlap(texts: Packed, targets: Packed) -> Ints:
    """A column per item of `ORDERS`: in how many targets the distinct n-grams of each text occur, summed. Then a column
    per item again: how many distinct n-grams there are.
    """
    library = native()
    if library is None:
        return _overlap_numpy(texts, targets)
    out = np.zeros((len(texts), 2 * len(ORDERS)), np.int64)
    checked(library.zipfit_overlap(*arguments(texts), *arguments(targets), pointer(out)))
    return out


def cores() -> int:
    """Threads worth starting in this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _compiled(library: ctypes.CDLL, texts: Packed, targets: Packed, level: int) -> GzipLengths:
    n, m = len(texts), len(targets)
    found = GzipLengths(np.zeros(n, np.int32), np.zeros(m, np.int32), np.zeros((n, m), np.int32))
    out = [pointer(array) for array in found]
    checked(library.zipfit_lengths(ctypes.c_int(level), *arguments(texts), *arguments(targets), *out))
    return found


def _with_zlib(texts: Packed, targets: Packed, level: int) -> GzipLengths:
    xs, ts = list(texts), list(targets)

    def one(data: bytes) -> int:
        return len(zlib.compress(data, level, 31))

    pairs = np.array([[one(x + t) for t in ts] for x in xs], np.int32).reshape(len(xs), len(ts))
    return GzipLengths(np.array([one(x) for x in xs], np.int32), np.array([one(t) for t in ts], np.int32), pairs)


def _overlap_numpy(texts: Packed, targets: Packed) -> Ints:
    out = np.zeros((len(texts), 2, len(ORDERS)), np.int64)
    for column, order in enumerate(ORDERS):
        counts = np.zeros(1 << _TABLE_BITS, np.int64)
        for text in targets:
            counts[_slots(text, order)] += 1
        for row, text in enumerate(texts):
            slots = _slots(text, order)
            out[row, :, column] = counts[slots].sum(), len(slots)
    return out.reshape(len(texts), 2 * len(ORDERS))


def _slots(text: bytes, order: int) -> npt.NDArray[np.uint32]:
    """Distinct table slots of the n-grams of one text: FNV-1a, then a multiplicative mix, as in the kernel."""
    data = np.frombuffer(text, np.uint8).astype(np.uint32)
    count = max(0, len(data) - order + 1)
    hashes = np.full(count, 0x811C9DC5, np.uint32)
    for k in range(order):
        hashes = (hashes ^ data[k : k + count]) * np.uint32(0x01000193)
    return np.unique((hashes * np.uint32(0x9E3779B1)) >> np.uint32(32 - _TABLE_BITS))
