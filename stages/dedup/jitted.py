"""The kernels in Python that numba compiles, for where the C ones (`_text.c`, `_pairs.c`) could not be built."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

from stages.dedup.chars import LETTER, PUNCTUATION, SPACE
from stages.dedup.kernels import Bools, Bytes, Floats, Hashes, Ints, Numbers, Offsets, Signatures

Kernel = TypeVar("Kernel", bound=Callable[..., Any])

_WORD, _CHAR = 0, 1
_BASIS: Final = np.uint64(0xCBF29CE484222325)
_PRIME: Final = np.uint64(0x100000001B3)
_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_M1: Final = np.uint64(0xFF51AFD7ED558CCD)
_M2: Final = np.uint64(0xC4CEB9FE1A85EC53)
_BASE: Final = np.uint64(0xD1342543DE82EF95)
_ONE: Final = np.uint64(1)
_S32, _S33 = np.uint64(32), np.uint64(33)
_LOW: Final = np.uint64(0xFFFFFFFF)
_MOST: Final = np.uint32(0xFFFFFFFF)


def jit(function: Kernel) -> Kernel:
    """Compile on first use, keep the machine code on disk, run without the GIL."""
    return cast(Kernel, numba.njit(cache=True, nogil=True)(function))


@jit
def decode(data: Bytes, at: int) -> tuple[int, int]:
    """The code point at byte `at` of valid UTF-8, and its length in bytes."""
    first = int(data[at])
    if first < 0x80:
        return first, 1
    if first < 0xE0:
        return ((first & 0x1F) << 6) | (data[at + 1] & 0x3F), 2
    if first < 0xF0:
        return ((first & 0x0F) << 12) | ((data[at + 1] & 0x3F) << 6) | (data[at + 2] & 0x3F), 3
    high = ((first & 0x07) << 18) | ((data[at + 1] & 0x3F) << 12)
    return high | ((data[at + 2] & 0x3F) << 6) | (data[at + 3] & 0x3F), 4


@jit
def doubtful(data: Bytes, offsets: Offsets, composed: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which texts have a character that may not be in normal form C."""
    out = np.zeros(len(offsets) - 1, dtype=np.bool_)
    for row in range(len(out)):
        at = offsets[row]
        while at < offsets[row + 1]:
            if data[at] < 0x80:
                at += 1
                continue
            code, length = decode(data, at)
            at += length
            if not composed[code]:
                out[row] = True
                break
    return out


@jit
def _encode(code: int, out: Bytes, at: int) -> int:
    """Write a code point as UTF-8 at byte `at`; the position after it."""
    if code < 0x80:
        out[at] = code
        return at + 1
    if code < 0x800:
        out[at] = 0xC0 | (code >> 6)
        out[at + 1] = 0x80 | (code & 0x3F)
        return at + 2
    if code < 0x10000:
        out[at] = 0xE0 | (code >> 12)
        out[at + 1] = 0x80 | ((code >> 6) & 0x3F)
        out[at + 2] = 0x80 | (code & 0x3F)
        return at + 3
    out[at] = 0xF0 | (code >> 18)
    out[at + 1] = 0x80 | ((code >> 12) & 0x3F)
    out[at + 2] = 0x80 | ((code >> 6) & 0x3F)
    out[at + 3] = 0x80 | (code & 0x3F)
    return at + 4


@jit
def normalise(
    data: Bytes, offsets: Offsets, lower: npt.NDArray[np.uint32], classes: Bytes, whitespace: bool
) -> tuple[Bytes, Offsets, npt.NDArray[np.int64]]:
    rows = len(offsets) - 1
    size = offsets[rows] - offsets[0]
    out = np.empty(size + size // 2 + 4, dtype=np.uint8)  # lower case turns two bytes into three at the most
    ends = np.zeros(rows + 1, dtype=np.int64)
    chars = np.zeros(rows, dtype=np.int64)
    small, spaces = lower[:128].astype(np.uint8), (classes[:128] == SPACE) & whitespace
    small[spaces] = 32
    used = 0
    for row in range(rows):
        at, start, more, spaced = offsets[row], used, 0, whitespace
        while at < offsets[row + 1]:
            byte = data[at]
            if byte < 0x80:  # most text by far; no branch on white space, which comes at random
                at += 1
                out[used] = small[byte]
                space = spaces[byte]
                used += 1 - (space & spaced)
                spaced = space
                continue
            code, length = decode(data, at)
            at += length
            if whitespace and classes[code] == SPACE:
                out[used] = 32
                used += 1 - spaced
                spaced = True
                continue
            after = _encode(int(lower[code]), out, used)
            used, more, spaced = after, more + after - used - 1, False
        used -= spaced & (used > start)
        ends[row + 1] = used
        chars[row] = used - start - more
    return out[:used].copy(), ends, chars


@jit
def mix(x: np.uint64) -> np.uint64:
    """The 64-bit finaliser of MurmurHash3: a bijection that spreads every bit."""
    x ^= x >> _S33
    x *= _M1
    x ^= x >> _S33
    x *= _M2
    return x ^ (x >> _S33)


@jit
def _token(data: Bytes, at: int, end: int, classes: Bytes, kind: int) -> tuple[int, np.uint64]:
    """The next token at or after byte `at`: the position behind it and its hash; position -1 where none is left."""
    while at < end:
        code, length = decode(data, at)
        at += length
        value = (_BASIS ^ np.uint64(code)) * _PRIME
        group = classes[code]
        if kind == _CHAR:
            return at, mix(value)
        if group == SPACE or (group == PUNCTUATION and kind == _WORD):
            continue
        if group == LETTER:
            while at < end:
                if data[at] < 0x80:  # most text by far
                    code, length = int(data[at]), 1
                else:
                    code, length = decode(data, at)
                if classes[code] != LETTER:
                    break
                value = (value ^ np.uint64(code)) * _PRIME
                at += length
        return at, mix(value)
    return -1, np.uint64(0)


@jit
def shingle(data: Bytes, offsets: Offsets, classes: Bytes, kind: int, size: int) -> tuple[Hashes, Offsets]:
    """Hashes of all shingles in order, repeats included, and where those of each text begin.

    A run's hash is a polynomial in its tokens' hashes, which rolls: one step per token whatever the size.
    """
    ring = np.zeros(size, dtype=np.uint64)
    values = np.empty(len(data), dtype=np.uint64)  # a token has at least a byte; pages not written cost nothing
    ends = np.zeros_like(offsets)
    leaving = _ONE
    for _ in range(size):
        leaving *= _BASE
    used = 0
    for row in range(len(offsets) - 1):
        ring[:] = 0
        seen, slot, rolled = 0, 0, np.uint64(0)
        at, token = _token(data, offsets[row], offsets[row + 1], classes, kind)
        while at >= 0:
            rolled = rolled * _BASE + token - ring[slot] * leaving
            ring[slot] = token
            slot = slot + 1 if slot + 1 < size else 0
            seen += 1
            if seen >= size:
                values[used] = mix(rolled ^ _GOLDEN)
                used += 1
            at, token = _token(data, at, offsets[row + 1], classes, kind)
        if 0 < seen < size:
            values[used] = mix(rolled ^ np.uint64(seen))
            used += 1
        ends[row + 1] = used
    return values, ends


@jit
def distinct(values: Hashes, offsets: Offsets) -> tuple[Hashes, Offsets]:
    """Drop repeats within each set, in place, by a hash table of at least twice as many slots as values."""
    ends = np.zeros_like(offsets)
    table = np.zeros(16, dtype=np.uint64)
    used = 0
    for row in range(len(offsets) - 1):
        slots = 16
        while slots < 2 * (offsets[row + 1] - offsets[row]):
            slots *= 2
        if slots > len(table):
            table = np.zeros(slots, dtype=np.uint64)
        table[:slots] = 0
        last = np.uint64(slots - 1)
        for k in range(offsets[row], offsets[row + 1]):
            value = values[k] if values[k] != 0 else _ONE  # 0 marks a free slot
            slot = value & last
            while table[slot] != 0 and table[slot] != value:
                slot = (slot + _ONE) & last
            if table[slot] == 0:
                table[slot] = value
                values[used] = value
                used += 1
        ends[row + 1] = used
    return values[:used].copy(), ends


@jit
def sort(values: Hashes, offsets: Offsets) -> None:
    for row in range(len(offsets) - 1):
        values[offsets[row] : offsets[row + 1]].sort()


@jit
def one_permutation(values: Hashes, offsets: Offsets, num_hashes: int, seed: np.uint64) -> Signatures:
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
def k_permutation(values: Hashes, offsets: Offsets, a: Signatures, b: Signatures) -> Signatures:
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


@jit
def band_keys(signatures: Signatures, numbers: Numbers, rows: int, bits: int, out: Hashes, used: int) -> int:
    """Keys of bands 0, 1, ... of every signature with a number, into `out[:, used:]`; the columns then used."""
    low = (_ONE << np.uint64(bits)) - _ONE
    for i in range(len(signatures)):
        if numbers[i] < 0:
            continue
        for band in range(len(out)):
            value = np.uint64(band)
            for k in range(band * rows, (band + 1) * rows):
                value = mix((value << _S32) ^ (value >> _S32) ^ np.uint64(signatures[i, k]))
            out[band, used] = (value & ~low) | np.uint64(numbers[i])
        used += 1
    return used


@jit
def bucket_pairs(
    keys: Hashes, bits: int, fixed: int, small_bucket: int, most: int, served: Bools, large: Bools, out: Hashes
) -> int:
    """See `kernels.bucket_pairs`; with an empty `out` nothing is marked, so that a first call can count."""
    shift, low = np.uint64(bits), (_ONE << np.uint64(bits)) - _ONE
    found, start = 0, 0
    while start < len(keys):
        stop = start + 1
        while stop < len(keys) and keys[stop] >> shift == keys[start] >> shift:
            stop += 1
        fresh = start
        while fresh < stop and keys[fresh] & low < np.uint64(fixed):
            fresh += 1
        small = stop - start <= small_bucket
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


@jit
def join(pairs: Hashes, parent: Numbers) -> None:
    """Union of packed pairs into `parent`, by smaller root, with path halving."""
    for pair in pairs:
        a, b = np.int64(pair >> _S32), np.int64(pair & _LOW)
        while parent[a] != a:
            parent[a] = parent[parent[a]]
            a = np.int64(parent[a])
        while parent[b] != b:
            parent[b] = parent[parent[b]]
            b = np.int64(parent[b])
        parent[max(a, b)] = min(a, b)


@jit
def similarities(values: Hashes, starts: Ints, sizes: Numbers, pairs: Hashes, contained: bool) -> Floats:
    """See `kernels.similarities`."""
    out = np.zeros(len(pairs), dtype=np.float64)
    for p in range(len(pairs)):
        one, two = np.int64(pairs[p] >> _S32), np.int64(pairs[p] & _LOW)
        a, b = starts[one], starts[two]
        a_end, b_end = a + sizes[one], b + sizes[two]
        union = b_end - b if contained else (a_end - a) + (b_end - b)
        common = 0
        while a < a_end and b < b_end:
            x, y = values[a], values[b]
            common += x == y
            a += x <= y
            b += y <= x
        if union > 0:
            out[p] = common / (union if contained else union - common)
    return out


@jit
def resolve(
    edges: Hashes, similarity: Floats, order: Ints, threshold: float, survivor: Numbers, nearest: Numbers, best: Floats
) -> None:
    """See `kernels.resolve`; `order` sorts the edges."""
    for e in order:
        j, i = np.int64(edges[e] >> _S32), np.int64(edges[e] & _LOW)
        if similarity[e] >= threshold and survivor[i] == i and similarity[e] > best[j]:
            survivor[j], best[j] = i, similarity[e]
    for e in order:
        j, i = np.int64(edges[e] >> _S32), np.int64(edges[e] & _LOW)
        if survivor[i] != i or survivor[j] != j:
            continue
        if similarity[e] > best[i]:
            best[i], nearest[i] = similarity[e], j
        if similarity[e] > best[j]:
            best[j], nearest[j] = similarity[e], i
