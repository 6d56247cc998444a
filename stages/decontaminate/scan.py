"""The scan: every run of tokens of a record that the index knows."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from stages.decontaminate.code import Bools, Code, renamed
from stages.decontaminate.grams import Grams, Int32s, filter_shift, lookup, maybe
from stages.decontaminate.tokens import Bytes, Hashes, Ints, Words, power_of, window
from stages.dedup.jitted import jit

SHORTEST_LINE: Final = 4
"""A line of fewer words is never taken for a short item; a whole text may be."""


class Found(NamedTuple):
    """Runs of tokens that a record shares with an item: text number, first token within the text, and the posting in
    the index."""

    piece: Ints
    token: Ints
    posting: Ints


def scan_words(words: Words, sizes: Ints, filter_: Bytes, grams: Grams) -> Found:
    """Runs of words of every length in `sizes` (ascending). `filter_` knows all runs of the items of the shortest
    length, common ones too: a longer run can only match where all the short ones in it do."""
    powers = np.array([power_of(int(size)) for size in sizes], dtype=np.uint64)
    return Found(*_scan_words(words.stream, words.ends, sizes, powers, filter_, *grams))


def scan_whole(words: Words, longest: int, grams: Grams) -> Found:
    """Texts and lines of up to `longest` words that are an item from end to end."""
    return Found(*_scan_whole(words.stream, words.ends, words.breaks, longest, *grams))


def scan_code(code: Code, size: int, filter_: Bytes, grams: Grams) -> Found:
    """Runs of `size` code tokens that consistent renaming makes equal. `filter_` knows the items' runs with all
    variables alike."""
    return Found(*_scan_code(code.stream, code.ends, code.values, code.names, size, filter_, *grams))


@jit
def _append(out: Ints, used: int, piece: int, token: int, key: int, starts: Ints) -> tuple[Ints, int]:
    """Add all postings of a key to the hits, shape (3, room); the room doubles where it is short."""
    for posting in range(starts[key], starts[key + 1]):
        if used == out.shape[1]:
            more = np.empty((3, 2 * used), dtype=np.int64)
            more[:, :used] = out
            out = more
        out[0, used], out[1, used], out[2, used] = piece, token, posting
        used += 1
    return out, used


@jit
def _scan_words(
    stream: Hashes, ends: Ints, sizes: Ints, powers: Hashes, filter_: Bytes,
    keys: Hashes, starts: Ints, targets: Int32s, places: Int32s, slots: Int32s,
) -> tuple[Ints, Ints, Ints]:  # fmt: skip
    out, used = np.empty((3, 1024), dtype=np.int64), 0
    shift, base = filter_shift(filter_), sizes[0]
    for piece in range(len(ends) - 1):
        run = 0
        for start in range(ends[piece], ends[piece + 1] - base + 1):
            if not maybe(window(stream, start, base, powers[0]), filter_, shift):
                run = 0
                continue
            run += 1
            for k in range(len(sizes)):
                size = sizes[k]
                if run < size - base + 1:
                    break
                first = start + base - size
                key = lookup(window(stream, first, size, powers[k]), keys, slots)
                if key >= 0:
                    out, used = _append(out, used, piece, first - ends[piece], key, starts)
    return out[0, :used], out[1, :used], out[2, :used]


@jit
def _scan_whole(
    stream: Hashes, ends: Ints, breaks: Bools, longest: int,
    keys: Hashes, starts: Ints, targets: Int32s, places: Int32s, slots: Int32s,
) -> tuple[Ints, Ints, Ints]:  # fmt: skip
    out, used = np.empty((3, 64), dtype=np.int64), 0
    for piece in range(len(ends) - 1):
        first, last = ends[piece], ends[piece + 1]
        size = last - first
        if 0 < size <= longest:
            key = lookup(window(stream, first, size, power_of(size)), keys, slots)
            if key >= 0:
                out, used = _append(out, used, piece, 0, key, starts)
        start = first
        for k in range(first + 1, last + 1):
            if k < last and not breaks[k]:
                continue
            if SHORTEST_LINE <= k - start <= longest and k - start < size:
                key = lookup(window(stream, start, k - start, power_of(k - start)), keys, slots)
                if key >= 0:
                    out, used = _append(out, used, piece, start - first, key, starts)
            start = k
    return out[0, :used], out[1, :used], out[2, :used]


@jit
def _scan_code(
    stream: Hashes, ends: Ints, values: Hashes, names: Bools, size: int, filter_: Bytes,
    keys: Hashes, starts: Ints, targets: Int32s, places: Int32s, slots: Int32s,
) -> tuple[Ints, Ints, Ints]:  # fmt: skip
    out, used = np.empty((3, 1024), dtype=np.int64), 0
    shift, power = filter_shift(filter_), power_of(size)
    for piece in range(len(ends) - 1):
        for start in range(ends[piece], ends[piece + 1] - size + 1):
            if maybe(window(stream, start, size, power), filter_, shift):
                key = lookup(renamed(values, names, start, size), keys, slots)
                if key >= 0:
                    out, used = _append(out, used, piece, start - ends[piece], key, starts)
    return out[0, :used], out[1, :used], out[2, :used]
