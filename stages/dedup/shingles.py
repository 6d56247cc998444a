"""Shingle sets: for each text the distinct 64-bit hashes of its runs of `size` words or characters.

A text with fewer tokens than `size`, but at least one, has a single shingle of all of them. Two different shingles
share a hash with a probability of 2^-64, which this package treats as never.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from stages.dedup.chars import LETTER, PUNCTUATION, SPACE, tables
from stages.dedup.texts import Bytes, Offsets, Texts, decode, jit

Unit = Literal["word", "char", "code"]
UNITS: Final[tuple[Unit, ...]] = get_args(Unit)
DEFAULT_SIZE: Final[dict[Unit, int]] = {"word": 5, "char": 9, "code": 5}

Hashes = npt.NDArray[np.uint64]
_WORD, _CHAR, _CODE = 0, 1, 2
_BASIS: Final = np.uint64(0xCBF29CE484222325)
_PRIME: Final = np.uint64(0x100000001B3)
_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_M1: Final = np.uint64(0xFF51AFD7ED558CCD)
_M2: Final = np.uint64(0xC4CEB9FE1A85EC53)
_S33: Final = np.uint64(33)
_ONE: Final = np.uint64(1)
_BASE: Final = np.uint64(0xD1342543DE82EF95)


class Sets(NamedTuple):
    """Set `i` is `values[offsets[i]:offsets[i + 1]]`, distinct, in no particular order."""

    values: Hashes
    offsets: Offsets

    def sizes(self) -> npt.NDArray[np.int64]:
        """Number of elements of each set."""
        return np.diff(self.offsets)


def shingle(texts: Texts, unit: Unit, size: int) -> Sets:
    """The shingle set of every text, each shingle where it first occurs."""
    return Sets(*_distinct(*_shingle(texts.data, texts.offsets, tables().classes, UNITS.index(unit), size)))


def ascending(sets: Sets) -> Sets:
    """The same sets, each in ascending order, sorted in place."""
    _sort(sets.values, sets.offsets)
    return sets


def concatenate(parts: list[Sets]) -> Sets:
    """All sets of all parts, in order."""
    offsets = np.zeros(sum(len(part.offsets) - 1 for part in parts) + 1, dtype=np.int64)
    np.cumsum(np.concatenate([part.sizes() for part in parts]), out=offsets[1:])
    return Sets(np.concatenate([part.values for part in parts]), offsets)


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
def _shingle(data: Bytes, offsets: Offsets, classes: Bytes, kind: int, size: int) -> tuple[Hashes, Offsets]:
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
def _distinct(values: Hashes, offsets: Offsets) -> tuple[Hashes, Offsets]:
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
def _sort(values: Hashes, offsets: Offsets) -> None:
    for row in range(len(offsets) - 1):
        values[offsets[row] : offsets[row + 1]].sort()
