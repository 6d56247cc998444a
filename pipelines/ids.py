"""128-bit ids between hex strings in files and compact arrays in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from schemas.room import filled, room

Ids = npt.NDArray[np.void]
"""Array of 16-byte ids as two big-endian integers each, so that they sort as their hex strings do."""

ID = np.dtype([("hi", ">u8"), ("lo", ">u8")])
_PIECE: Final = 1 << 20
"""Ids that are worked on at a time: what is made of them is several times as large."""


def join(parts: Sequence[Ids]) -> Ids:
    """All ids in one array; `np.concatenate` would turn their byte order round."""
    return filled(sum(map(len, parts)), ID, parts)


_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)
_VALUES = np.zeros(256, np.uint8)
_VALUES[_HEX] = np.arange(16, dtype=np.uint8)


def from_hex(strings: pa.Array | pa.ChunkedArray) -> Ids:
    """Ids of an Arrow array of 32-digit hex strings, shape (n,)."""
    if isinstance(strings, pa.ChunkedArray):
        strings = strings.combine_chunks()
    if len(strings) == 0:
        return np.empty(0, ID)
    text = strings.cast(pa.string()).buffers()[2]
    start = strings.offset * 32
    digits = _VALUES[np.frombuffer(text, np.uint8)[start : start + 32 * len(strings)]].reshape(-1, 2)
    return np.ascontiguousarray(digits[:, 0] << 4 | digits[:, 1]).view(ID).reshape(-1)


def to_hex(ids: Ids) -> pa.Array:
    """Arrow string array of 32 hex digits each."""
    raw = np.ascontiguousarray(ids).view(np.uint8)
    digits = np.empty((raw.size, 2), np.uint8)
    digits[:, 0], digits[:, 1] = _HEX[raw >> 4], _HEX[raw & 15]
    offsets = np.arange(0, 32 * len(ids) + 1, 32, dtype=np.int64)
    return pa.LargeStringArray.from_buffers(len(ids), pa.py_buffer(offsets), pa.py_buffer(digits)).cast(pa.string())


class Index:
    """Where each id is first found in a sequence of ids."""

    def __init__(self, ids: Ids) -> None:
        self._hi, self._lo = room(len(ids), np.uint64), room(len(ids), np.uint64)
        self._at = room(len(ids), np.int32 if len(ids) < 1 << 31 else np.int64)
        end = 0
        for rows in _by_first_bits(ids):
            found = _distinct(ids, rows)
            part = slice(end, end + len(found))
            self._at[part], self._hi[part], self._lo[part] = found, ids["hi"][found], ids["lo"][found]
            end = part.stop
        self._at, self._hi, self._lo = self._at[:end], self._hi[:end], self._lo[:end]

    def __len__(self) -> int:
        return len(self._at)

    def firsts(self) -> npt.NDArray[np.int64]:
        """Positions where an id is found for the first time, ascending."""
        return np.sort(self._at).astype(np.int64)

    def find(self, wanted: Ids) -> npt.NDArray[np.int64]:
        """Position of each wanted id in the original sequence, -1 where it is absent."""
        pieces = (wanted[start : start + _PIECE] for start in range(0, len(wanted), _PIECE))
        return filled(len(wanted), np.int64, map(self._find, pieces))

    def _find(self, wanted: Ids) -> npt.NDArray[np.int64]:
        if len(self) == 0:
            return np.full(len(wanted), -1, np.int64)
        hi, lo = wanted["hi"].astype(np.uint64), wanted["lo"].astype(np.uint64)
        at = np.minimum(np.searchsorted(self._hi, hi), len(self) - 1)
        # Two different ids sharing 64 bits are next to impossible, but step over them rather than be wrong.
        while True:
            move = (self._hi[at] == hi) & (self._lo[at] < lo) & (at + 1 < len(self))
            move &= self._hi[np.minimum(at + 1, len(self) - 1)] == hi
            if not move.any():
                break
            at = at + move
        found = (self._hi[at] == hi) & (self._lo[at] == lo)
        return np.where(found, self._at[at], -1).astype(np.int64)


def digest_ids(*sequences: Ids) -> bytes:
    """A digest of sequences of ids, end to end."""
    hasher = xxhash.xxh3_128()
    for ids in sequences:
        for start in range(0, len(ids), _PIECE):
            hasher.update(ids[start : start + _PIECE].tobytes())
    return hasher.digest()


def marked(ids: Ids, rows: npt.NDArray[np.bool_]) -> Ids:
    """The ids that `rows` marks."""
    starts = range(0, len(ids), _PIECE)
    pieces = (ids[start : start + _PIECE][rows[start : start + _PIECE]] for start in starts)
    return filled(int(np.count_nonzero(rows)), ID, pieces)


def _by_first_bits(ids: Ids) -> Iterator[npt.NDArray[np.int64]]:
    """Positions in groups of about a million, so that the groups' ids ascend; within a group in their order."""
    bits = max(0, (len(ids) // _PIECE).bit_length())
    if not bits:
        yield np.arange(len(ids))
        return
    shift, group = np.uint64(64 - bits), room(len(ids), np.uint16)
    for start in range(0, len(ids), _PIECE):
        group[start : start + _PIECE] = ids["hi"][start : start + _PIECE].astype(np.uint64) >> shift
    for number in range(1 << bits):
        yield np.flatnonzero(group == number)


def _distinct(ids: Ids, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Those of `rows` that hold an id first, in the order of the ids."""
    some = ids[rows]
    by_id = np.lexsort((some["lo"], some["hi"]))
    ordered = some[by_id]
    first = np.ones(len(rows), np.bool_)
    first[1:] = ordered[1:] != ordered[:-1]
    return np.asarray(rows[by_id[first]])
