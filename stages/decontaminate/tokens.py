"""Texts as running hashes of their tokens, so that the hash of any run of tokens costs one multiplication.

The stream of a batch is the polynomial hash of all tokens so far, over all its texts: the run of tokens `a` to `b` has
the hash `stream[b] - stream[a] * BASE ** (b - a)`, modulo 2^64. Words are the words of `dedup`: runs of letters,
digits and marks, unspaced characters and symbols one by one, without punctuation and regardless of case.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stages.dedup.chars import LETTER, PUNCTUATION, SPACE, tables
from stages.dedup.jitted import decode, jit, mix
from stages.dedup.texts import buffers

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

BASE: Final = np.uint64(0x9E3779B97F4A7C15)
_OFFSET: Final = np.uint64(0xCBF29CE484222325)
_PRIME: Final = np.uint64(0x100000001B3)
_NEWLINE: Final = 10


class Words(NamedTuple):
    """Words of several texts: those of text `i` are number `ends[i]` to `ends[i + 1]` of the stream, whose hash before
    word `k` is `stream[k]`; `breaks[k]` says whether word `k` begins a line, `letters[k]` whether with a letter."""

    stream: Hashes
    ends: Ints
    breaks: npt.NDArray[np.bool_]
    letters: npt.NDArray[np.bool_]


def words(strings: pa.StringArray) -> Words:
    """The words of texts (no nulls), which should be `composed`."""
    data, offsets = buffers(strings)
    known = tables()
    return Words(*_words(data, offsets, known.classes, known.lower))


def word_spans(strings: pa.StringArray, first: Ints, last: Ints) -> Ints:
    """Where in each text its words `first` to `last` (included) stand: shape (4, rows) with the first and one past the
    last character, and the same in bytes of the array's buffer.

    Words are counted as `words` counts them: composing characters changes no number of words.
    """
    data, offsets = buffers(strings)
    known = tables()
    return _word_spans(data, offsets, first, last, known.classes, known.lower)


@jit
def window(stream: Hashes, start: int, size: int, power: np.uint64) -> np.uint64:
    """Hash of `size` tokens from `start`; `power` is `BASE ** size`."""
    return mix((stream[start + size] - stream[start] * power) ^ np.uint64(size))


@jit
def power_of(size: int) -> np.uint64:
    """`BASE ** size` modulo 2^64."""
    value = np.uint64(1)
    for _ in range(size):
        value *= BASE
    return value


@jit
def _next(
    data: Bytes, at: int, end: int, classes: Bytes, lower: npt.NDArray[np.uint32]
) -> tuple[int, int, np.uint64, int]:
    """The next word at or after byte `at`: where it starts and stops, its hash, newlines passed; start -1: none."""
    newlines = 0
    while at < end:
        code, length = decode(data, at)
        group = classes[code]
        if group in (SPACE, PUNCTUATION):
            newlines += code == _NEWLINE
            at += length
            continue
        start = at
        value = (_OFFSET ^ np.uint64(lower[code])) * _PRIME
        at += length
        if group == LETTER:
            while at < end:
                code, length = decode(data, at)
                if classes[code] != LETTER:
                    break
                value = (value ^ np.uint64(lower[code])) * _PRIME
                at += length
        return start, at, value, newlines
    return -1, at, np.uint64(0), newlines


@jit
def _lettered(data: Bytes, at: int) -> bool:
    """Whether a word begins with a letter: no digit, no mathematical or other symbol (which end at U+2BFF)."""
    code, _ = decode(data, at)
    if code < 128:
        return 65 <= code <= 90 or 97 <= code <= 122 or code == 95
    return not 0x2000 <= code < 0x2C00


@jit
def _words(
    data: Bytes, offsets: Ints, classes: Bytes, lower: npt.NDArray[np.uint32]
) -> tuple[Hashes, Ints, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    rows = len(offsets) - 1
    room = offsets[rows] - offsets[0] + 1  # a word has at least a byte; pages not written cost nothing
    stream = np.empty(room, dtype=np.uint64)
    breaks, letters = np.empty(room, dtype=np.bool_), np.empty(room, dtype=np.bool_)
    ends = np.zeros(rows + 1, dtype=np.int64)
    used, running = 0, np.uint64(0)
    stream[0] = running
    for row in range(rows):
        start, at, value, newlines = _next(data, offsets[row], offsets[row + 1], classes, lower)
        while start >= 0:
            breaks[used] = newlines > 0 or used == ends[row]
            letters[used] = _lettered(data, start)
            running = running * BASE + mix(value)
            used += 1
            stream[used] = running
            start, at, value, newlines = _next(data, at, offsets[row + 1], classes, lower)
        ends[row + 1] = used
    return stream[: used + 1], ends, breaks[:used], letters[:used]


@jit
def _word_spans(
    data: Bytes, offsets: Ints, first: Ints, last: Ints, classes: Bytes, lower: npt.NDArray[np.uint32]
) -> Ints:
    out = np.zeros((4, len(first)), dtype=np.int64)
    for row in range(len(first)):
        at, begin = offsets[row], offsets[row]
        for k in range(last[row] + 1):
            start, at, _, _ = _next(data, at, offsets[row + 1], classes, lower)
            if k == first[row]:
                begin = start
        place(data, offsets[row], begin, at, out[:, row])
    return out


@jit
def place(data: Bytes, origin: int, begin: int, end: int, out: Ints) -> None:
    """Write characters between `origin` and `begin`, and `end`, and these two themselves."""
    chars = 0
    for at in range(origin, end):
        if at == begin:
            out[0] = chars
        chars += (data[at] & 0xC0) != 0x80
    out[1], out[2], out[3] = chars, begin, end
