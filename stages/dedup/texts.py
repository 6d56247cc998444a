"""Normalised text as Arrow-like buffers: lower case and white space, done by a kernel that releases the GIL."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from stages.dedup.chars import SPACE, tables

Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]
Kernel = TypeVar("Kernel", bound=Callable[..., Any])


class Texts(NamedTuple):
    """UTF-8 texts end to end: text `i` is `data[offsets[i]:offsets[i + 1]]`; `chars` counts its code points."""

    data: Bytes
    offsets: Offsets
    chars: npt.NDArray[np.int64]


def normalise(strings: pa.StringArray, lowercase: bool, whitespace: bool) -> Texts:
    """NFC; with `lowercase`, one-to-one lower case; with `whitespace`, runs become one space and the ends none.

    Null counts as empty: callers keep the nulls apart.
    """
    strings = pc.fill_null(strings, "")
    data, offsets = _buffers(strings)
    doubtful = _doubtful(data, offsets, tables().composed)
    if doubtful.any():
        mask = pa.array(doubtful)
        strings = pc.replace_with_mask(strings, mask, pc.utf8_normalize(strings.filter(mask), "NFC"))
        data, offsets = _buffers(strings)
    lower = tables().lower if lowercase else np.arange(0x110000, dtype=np.uint32)
    return Texts(*_normalise(data, offsets, lower, tables().classes, whitespace))


def content_hashes(texts: Texts) -> pa.FixedSizeBinaryArray:
    """The 16-byte xxh3-128 of each text."""
    view = texts.data.data
    ends = texts.offsets.tolist()
    hashes = [xxhash.xxh3_128_digest(view[a:b]) for a, b in pairwise(ends)]
    return pa.array(hashes, pa.binary(16))


def strings_of(texts: Texts) -> list[str]:
    """The texts as Python strings, for code that cannot read buffers."""
    view = texts.data.data
    ends = texts.offsets.tolist()
    return [str(view[a:b], "utf-8") for a, b in pairwise(ends)]


def _buffers(strings: pa.StringArray) -> tuple[Bytes, Offsets]:
    width = np.int64 if pa.types.is_large_string(strings.type) else np.int32
    _, offsets, data = strings.buffers()
    ends = np.frombuffer(offsets, dtype=width, count=len(strings) + 1, offset=strings.offset * width().itemsize)
    return np.frombuffer(data or b"", dtype=np.uint8), ends.astype(np.int64)


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
def _doubtful(data: Bytes, offsets: Offsets, composed: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
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
def _normalise(
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
