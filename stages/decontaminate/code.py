"""Code as tokens in which names count by where they repeat, not by how they are spelled.

Two runs of tokens are the same if one turns into the other by renaming variables consistently: a name counts as the
distance to its last occurrence within the run (Baker, "Parameterized Pattern Matching", 1996). Keywords, common
builtins, names after a dot, numbers and operators count as they are; strings by their content unless they hold braces
(interpolation); comments and triple-quoted strings do not count. The lexer knows no language: `#` begins a comment,
`//` does where it begins a line, `/* */` encloses one, so that what it makes of a text is the same wherever it stands.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stages.decontaminate.grams import lookup, slots_of
from stages.decontaminate.keywords import KEPT
from stages.decontaminate.tokens import BASE, Bytes, Hashes, Ints, place
from stages.dedup.chars import LETTER, SPACE, tables
from stages.dedup.jitted import decode, jit, mix
from stages.dedup.texts import buffers

Bools = npt.NDArray[np.bool_]

_OFFSET: Final = np.uint64(0xCBF29CE484222325)
_PRIME: Final = np.uint64(0x100000001B3)
_NAME: Final = np.uint64(0xC4CEB9FE1A85EC53)
_STRING: Final = np.uint64(0xFF51AFD7ED558CCD)
_DOT, _HASH, _SLASH, _STAR, _NEWLINE, _QUOTE, _APOSTROPHE, _BACKSLASH = 46, 35, 47, 42, 10, 34, 39, 92
_BRACE: Final = 123
OTHER, NAME, SKIPPED = 0, 1, 2


class Code(NamedTuple):
    """Tokens of several texts: those of text `i` are number `ends[i]` to `ends[i + 1]`. `values` are their hashes,
    `names` tells variables, `stream` is the running hash in which all variables are alike."""

    stream: Hashes
    ends: Ints
    values: Hashes
    names: Bools


def lex(strings: pa.StringArray) -> Code:
    """The code tokens of texts (no nulls), which should be `composed`."""
    data, offsets = buffers(strings)
    return Code(*_lex(data, offsets, tables().classes, *_kept()))


def code_spans(strings: pa.StringArray, first: Ints, last: Ints) -> Ints:
    """Where in each text its code tokens `first` to `last` (included) stand, as `word_spans` answers."""
    data, offsets = buffers(strings)
    return _code_spans(data, offsets, first, last, tables().classes, *_kept())


@lru_cache(maxsize=1)
def _kept() -> tuple[Hashes, npt.NDArray[np.int32]]:
    keys = np.unique(np.array([_spelled(name.encode()) for name in KEPT], dtype=np.uint64))
    return keys, slots_of(keys)


def _spelled(name: bytes) -> int:
    value = int(_OFFSET)
    for code in name:
        value = ((value ^ code) * int(_PRIME)) & 0xFFFFFFFFFFFFFFFF
    return value


@jit
def renamed(values: Hashes, names: Bools, start: int, size: int) -> np.uint64:
    """Hash of a run of tokens that consistent renaming does not change."""
    total = np.uint64(size)
    for k in range(start, start + size):
        value = values[k]
        if names[k]:
            back = k - 1
            while back >= start and not (names[back] and values[back] == values[k]):
                back -= 1
            value = mix(_NAME ^ np.uint64(k - back if back >= start else 0))
        total = total * BASE + value
    return mix(total)


@jit
def _string_end(data: Bytes, at: int, end: int) -> tuple[int, bool]:
    """Byte after the string literal that begins at `at`, -1 if its line ends first; whether it is triple-quoted."""
    quote = data[at]
    if at + 2 < end and data[at + 1] == quote and data[at + 2] == quote:
        for k in range(at + 3, end - 2):
            if data[k] == quote and data[k + 1] == quote and data[k + 2] == quote:
                return k + 3, True
        return -1, True
    k = at + 1
    while k < end and data[k] != _NEWLINE:
        if data[k] == quote:
            return k + 1, False
        k += 2 if data[k] == _BACKSLASH else 1
    return -1, False


@jit
def _comment_end(data: Bytes, at: int, end: int, fresh: bool) -> int:
    """Byte after the comment that begins at `at`, -1 if none does; `fresh`: nothing but space before it on its line."""
    slash = data[at] == _SLASH and at + 1 < end
    if slash and data[at + 1] == _STAR:
        for k in range(at + 2, end - 1):
            if data[k] == _STAR and data[k + 1] == _SLASH:
                return k + 2
        return -1
    if data[at] == _HASH or (slash and fresh and data[at + 1] == _SLASH):
        k = at
        while k < end and data[k] != _NEWLINE:
            k += 1
        return k
    return -1


@jit
def _literal(data: Bytes, start: int, stop: int) -> np.uint64:
    """Hash of a string's content, whatever its quotes; all strings with a brace are alike."""
    value = _STRING
    for k in range(start + 1, stop - 1):
        if data[k] == _BRACE:
            return _STRING
        value = (value ^ np.uint64(data[k])) * _PRIME
    return mix(value)


@jit
def _next(
    data: Bytes, at: int, end: int, dotted: bool, fresh: bool, classes: Bytes, keys: Hashes,
    slots: npt.NDArray[np.int32],
) -> tuple[int, int, np.uint64, int, bool]:  # fmt: skip
    """The next piece of code: where it starts and stops, its hash, what it is, and whether its line was still empty.

    Start -1: there is none. `dotted`: the token before is a dot.
    """
    while at < end:
        code, length = decode(data, at)
        if classes[code] == SPACE:
            fresh = fresh or code == _NEWLINE
            at += length
            continue
        start = at
        if classes[code] == LETTER:
            value = _OFFSET
            digit = 48 <= code <= 57
            while at < end:
                code, length = decode(data, at)
                if classes[code] != LETTER:
                    break
                value = (value ^ np.uint64(code)) * _PRIME
                at += length
            named = not digit and not dotted and lookup(value, keys, slots) < 0
            return start, at, mix(value), NAME if named else OTHER, fresh
        if code in (_HASH, _SLASH):
            stop = _comment_end(data, at, end, fresh)
            if stop >= 0:
                return start, stop, np.uint64(0), SKIPPED, fresh
        if code in (_QUOTE, _APOSTROPHE):
            stop, triple = _string_end(data, at, end)
            if stop >= 0:
                return start, stop, _literal(data, start, stop), SKIPPED if triple else OTHER, fresh
        return start, at + length, mix((_OFFSET ^ np.uint64(code)) * _PRIME), OTHER, fresh
    return -1, at, np.uint64(0), OTHER, fresh


@jit
def _lex(
    data: Bytes, offsets: Ints, classes: Bytes, keys: Hashes, slots: npt.NDArray[np.int32]
) -> tuple[Hashes, Ints, Hashes, Bools]:
    rows = len(offsets) - 1
    room = offsets[rows] - offsets[0] + 1
    stream, values = np.empty(room, dtype=np.uint64), np.empty(room, dtype=np.uint64)
    names = np.empty(room, dtype=np.bool_)
    ends = np.zeros(rows + 1, dtype=np.int64)
    used, running = 0, np.uint64(0)
    stream[0] = running
    for row in range(rows):
        at, dotted, fresh = offsets[row], False, True
        while True:
            start, at, value, what, fresh = _next(data, at, offsets[row + 1], dotted, fresh, classes, keys, slots)
            if start < 0:
                break
            if what == SKIPPED:
                continue
            fresh, dotted = False, data[start] == _DOT
            values[used], names[used] = value, what == NAME
            running = running * BASE + (_NAME if what == NAME else value)
            used += 1
            stream[used] = running
        ends[row + 1] = used
    return stream[: used + 1], ends, values[:used], names[:used]


@jit
def _code_spans(
    data: Bytes, offsets: Ints, first: Ints, last: Ints, classes: Bytes, keys: Hashes, slots: npt.NDArray[np.int32]
) -> Ints:
    out = np.zeros((4, len(first)), dtype=np.int64)
    for row in range(len(first)):
        at, begin, seen, dotted, fresh = offsets[row], offsets[row], 0, False, True
        while seen <= last[row]:
            start, at, _, what, fresh = _next(data, at, offsets[row + 1], dotted, fresh, classes, keys, slots)
            if start < 0:
                break
            if what == SKIPPED:
                continue
            fresh, dotted = False, data[start] == _DOT
            if seen == first[row]:
                begin = start
            seen += 1
        place(data, offsets[row], begin, at, out[:, row])
    return out
