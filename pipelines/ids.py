"""128-bit ids between hex strings in files and compact arrays in memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ids = npt.NDArray[np.void]
"""Array of 16-byte ids as two big-endian integers each, so that they sort as their hex strings do."""

ID = np.dtype([("hi", ">u8"), ("lo", ">u8")])


def join(parts: Sequence[Ids]) -> Ids:
    """All ids in one array; `np.concatenate` would turn their byte order round."""
    return np.concatenate(parts, dtype=ID) if parts else np.empty(0, ID)


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


def order(ids: Ids) -> npt.NDArray[np.int64]:
    """Indices that sort ids; stable, so equal ids stay in input order."""
    return np.lexsort((ids["lo"], ids["hi"]))


class Index:
    """Where each id is first found in a sequence of ids."""

    def __init__(self, ids: Ids) -> None:
        by_id = order(ids)
        ordered = ids[by_id]
        first = np.ones(len(ids), np.bool_)
        first[1:] = ordered[1:] != ordered[:-1]
        self._at = by_id[first].astype(np.int32 if len(ids) < 1 << 31 else np.int64)
        self._hi, self._lo = (ordered[name][first].astype(np.uint64) for name in ("hi", "lo"))

    def __len__(self) -> int:
        return len(self._at)

    def find(self, wanted: Ids) -> npt.NDArray[np.int64]:
        """Position of each wanted id in the original sequence, -1 where it is absent."""
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
