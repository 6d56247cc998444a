"""Token shards as trainers memory-map them: Megatron's indexed datasets and datatrove's `.ds` files (nanotron).

Megatron (`tokens`): NAME.bin holds the token ids one after another, NAME.idx their lengths; NAME-mask.bin and .idx are
a second indexed dataset of the same shape with 1 where a token has a loss. Ids are uint16 for vocabularies below 65,500
tokens, int32 from there on (the same bytes as uint32), as Megatron chooses itself.

nanoset: NAME.ds holds the ids (uint16; uint32 for more than 65,536 tokens), NAME.ds.index the end of each document
(uint64, in tokens), NAME.ds.loss one boolean byte per token, NAME.ds.metadata tokenizer and size.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Layout = Literal["tokens", "nanoset"]
LAYOUTS: Final[tuple[Layout, ...]] = ("tokens", "nanoset")
_MAGIC: Final = b"MMIDIDX\x00\x00"
_VERSION: Final = 1
_HEADER: Final = struct.Struct("<9sQBQQ")
_CODES: Final[dict[np.dtype[Any], int]] = {np.dtype(np.uint8): 1, np.dtype(np.int32): 4, np.dtype(np.uint16): 8}
_SEQUENCE: Final = np.dtype(np.int32)
_MEGATRON_SMALL: Final = 65_500
Ids = npt.NDArray[np.int32]


@dataclass
class ShardWriter:
    """Appends sequences to an open shard; `lengths` are those of all sequences so far."""

    ids: IO[bytes]
    mask: IO[bytes]
    dtype: np.dtype[Any]
    lengths: list[int] = field(default_factory=list)

    def write(self, table: pa.Table) -> None:
        """Append the sequences of a table with list columns `ids` and `mask`."""
        for batch in table.select(["ids", "mask"]).to_batches():
            self.ids.write(batch["ids"].flatten().to_numpy().astype(self.dtype).tobytes())
            self.mask.write(batch["mask"].flatten().to_numpy(zero_copy_only=False).astype(np.uint8).tobytes())
            self.lengths += batch["ids"].value_lengths().to_pylist()


@contextmanager
def shard_writer(layout: Layout, prefix: Path, vocabulary: int, tokenizer: str) -> Iterator[ShardWriter]:
    """Write one shard, `prefix` plus the endings of its layout. The index is written last.

    Args:
        prefix: path without ending.
        vocabulary: number of token ids, which decides their width.
        tokenizer: what nanoset's metadata names.
    """
    prefix.parent.mkdir(parents=True, exist_ok=True)
    ids, mask = (_beside(prefix, ending) for ending in _ENDINGS[layout])
    with ids.open("wb") as first, mask.open("wb") as second:
        writer = ShardWriter(first, second, _dtype(layout, vocabulary))
        yield writer
    _FINISH[layout](prefix, writer, tokenizer)


def _dtype(layout: Layout, vocabulary: int) -> np.dtype[Any]:
    if layout == "tokens":
        return np.dtype(np.uint16 if vocabulary < _MEGATRON_SMALL else np.int32)
    return np.dtype(np.uint16 if vocabulary <= 1 << 16 else np.uint32)


def _beside(prefix: Path, ending: str) -> Path:
    return prefix.with_name(prefix.name + ending)


def _finish_megatron(prefix: Path, writer: ShardWriter, tokenizer: str) -> None:
    _beside(prefix, ".idx").write_bytes(megatron_index(writer.lengths, writer.dtype))
    _beside(prefix, "-mask.idx").write_bytes(megatron_index(writer.lengths, np.dtype(np.uint8)))


def _finish_nanoset(prefix: Path, writer: ShardWriter, tokenizer: str) -> None:
    ends = np.cumsum(writer.lengths, dtype=np.uint64)
    _beside(prefix, ".ds.index").write_bytes(ends.astype("<u8").tobytes())
    total = int(sum(writer.lengths))
    described = f"{tokenizer}|{writer.dtype.itemsize}\n{total}\n{total:,} tokens"
    _beside(prefix, ".ds.metadata").write_text(described, encoding="utf-8")


_ENDINGS: Final[dict[Layout, tuple[str, str]]] = {"tokens": (".bin", "-mask.bin"), "nanoset": (".ds", ".ds.loss")}
_FINISH: Final[dict[Layout, Callable[[Path, ShardWriter, str], None]]] = {
    "tokens": _finish_megatron,
    "nanoset": _finish_nanoset,
}


def megatron_index(lengths: list[int], dtype: np.dtype[Any]) -> bytes:
    """The bytes of an .idx file for sequences of these lengths, each a document of its own."""
    sizes = np.array(lengths, np.int64)
    pointers = (np.cumsum(sizes) - sizes) * dtype.itemsize
    documents = np.arange(len(lengths) + 1, dtype=np.int64)
    header = _HEADER.pack(_MAGIC, _VERSION, _CODES[dtype], len(lengths), len(documents))
    return header + sizes.astype(np.int32).tobytes() + pointers.tobytes() + documents.tobytes()


def read_shard(layout: Layout, prefix: Path) -> Iterator[tuple[Ids, npt.NDArray[np.uint8]]]:
    """The sequences of a shard in order: ids (int32) and mask (uint8), each of shape [tokens]."""
    ids_path, mask_path = (_beside(prefix, ending) for ending in _ENDINGS[layout])
    read = _read_megatron if layout == "tokens" else _read_nanoset
    dtype, ends = read(prefix, ids_path.stat().st_size)
    if not len(ends):
        return
    ids, mask = np.memmap(ids_path, dtype, "r"), np.memmap(mask_path, np.uint8, "r")
    start = 0
    for end in ends.tolist():
        yield np.array(ids[start:end], np.int32), np.array(mask[start:end], np.uint8)
        start = end


def _read_megatron(prefix: Path, size: int) -> tuple[np.dtype[Any], npt.NDArray[np.int64]]:
    data = _beside(prefix, ".idx").read_bytes()
    magic, version, code, count, _ = _HEADER.unpack_from(data)
    if (magic, version) != (_MAGIC, _VERSION):
        raise ValueError(f"{prefix}.idx is no index of an indexed dataset")
    dtype = next(dtype for dtype, known in _CODES.items() if known == code)
    lengths = np.frombuffer(data, _SEQUENCE, count, _HEADER.size)
    return dtype, np.cumsum(lengths, dtype=np.int64)


def _read_nanoset(prefix: Path, size: int) -> tuple[np.dtype[Any], npt.NDArray[np.int64]]:
    ends = np.frombuffer(_beside(prefix, ".ds.index").read_bytes(), "<u8").astype(np.int64)
    width = size // int(ends[-1]) if len(ends) else 2
    return np.dtype(np.uint16 if width == 2 else np.uint32), ends
