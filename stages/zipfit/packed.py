"""Texts as one block of UTF-8 bytes and offsets: what the kernel reads and what a fitted state holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Packed:
    """Text k is `data[offsets[k]:offsets[k + 1]]`; `offsets` has one item more than there are texts."""

    data: Bytes
    offsets: Ints

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[bytes]:
        block = self.data.tobytes()
        for start, end in zip(self.offsets[:-1], self.offsets[1:], strict=True):
            yield block[start:end]

    @property
    def sizes(self) -> Ints:
        """Bytes of each text."""
        return np.diff(self.offsets)

    def take(self, rows: Ints) -> Packed:
        """The named texts, in the order asked for."""
        texts = list(self)
        return pack(texts[row] for row in rows)

    def part(self, start: int, end: int) -> Packed:
        """Texts `start` to `end`, without copying a byte of them."""
        return Packed(self.data, self.offsets[start : end + 1])


def pack(texts: Iterable[bytes]) -> Packed:
    """Pack byte strings."""
    items = list(texts)
    offsets = np.zeros(len(items) + 1, np.int64)
    np.cumsum([len(item) for item in items], out=offsets[1:])
    return Packed(np.frombuffer(b"".join(items), np.uint8), offsets)


def pack_strings(texts: Iterable[str]) -> Packed:
    """Pack strings as UTF-8; lone surrogates, which some JSON holds, are encoded like any other code point."""
    return pack(text.encode("utf-8", "surrogatepass") for text in texts)


def pack_arrow(texts: pa.StringArray) -> Packed:
    """Pack an Arrow column; null counts as empty."""
    column = pc.fill_null(texts, "").cast(pa.large_binary())
    _, offsets, data = column.buffers()
    at = np.frombuffer(offsets, np.int64, count=len(column) + 1, offset=8 * column.offset)
    block = np.frombuffer(data, np.uint8) if data is not None and data.size else np.empty(0, np.uint8)
    return Packed(block, at)
