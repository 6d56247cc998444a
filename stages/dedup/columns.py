"""The small columns that decisions need, read part by part into arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stages.contract import Scores
from stages.dedup.joined import Joined
from stages.dedup.resolve import Bools, Floats, Ints


class Columns(NamedTuple):
    """Per row: 16-byte hash as two integers, whether there is one, characters, distinct shingles (0 where there are
    none), index of the source in `names`, and the score to prefer rows by (-inf where a row has none)."""

    hashes: npt.NDArray[np.uint64]
    comparable: Bools
    chars: npt.NDArray[np.int32]
    sizes: npt.NDArray[np.int32]
    sources: npt.NDArray[np.int32]
    names: list[str]
    best: Floats


def read_columns(rows: Joined, near: bool, best: str | None) -> Columns:
    """Read what `decide` needs; `best` names a score column of an earlier stage, which only the last pool has."""
    n, start = len(rows), 0
    names: dict[str, int] = {}
    chars, sizes, sources = (np.zeros(n, np.int32) for _ in range(3))
    hashes, comparable = np.zeros((n, 2), np.uint64), np.zeros(n, np.bool_)
    scores = np.full(n if best else 0, -np.inf)
    for batch in _batches(rows, ["exact_hash", "n_chars", "source", *(["n_shingles"] if near else [])], best):
        part = slice(start, start + batch.num_rows)
        hashes[part] = _halves(batch["exact_hash"])
        comparable[part] = np.asarray(batch["exact_hash"].is_valid())
        chars[part] = _integers(batch["n_chars"])
        sizes[part] = _integers(batch["n_shingles"]) if near else 0
        sources[part] = _codes(batch["source"], names)
        if best and best in batch.schema.names:
            scores[part] = pc.fill_null(batch[best].cast(pa.float64()), -np.inf).to_numpy(zero_copy_only=False)
        start = part.stop
    return Columns(hashes, comparable, chars, sizes, sources, list(names), scores)


def _batches(rows: Joined, columns: list[str], best: str | None) -> Iterator[pa.RecordBatch]:
    *earlier, pool = rows.pools
    for other in earlier:
        if len(other):
            yield from other.scores(columns)
    yield from _own(pool, [*columns, *([best] if best else [])])


def _own(pool: Scores, columns: list[str]) -> Iterator[pa.RecordBatch]:
    if len(pool):
        yield from pool.scores(columns)


def _integers(column: pa.Array) -> Ints:
    return np.asarray(pc.fill_null(column.cast(pa.int64()), 0).to_numpy(zero_copy_only=False))


def _halves(column: pa.FixedSizeBinaryArray) -> npt.NDArray[np.uint64]:
    data = np.frombuffer(column.buffers()[1], dtype=np.uint8, count=len(column) * 16, offset=column.offset * 16)
    return data.view(np.uint64).reshape(-1, 2)


def _codes(column: pa.StringArray, names: dict[str, int]) -> Ints:
    encoded = column.dictionary_encode()
    codes = np.array([names.setdefault(name, len(names)) for name in encoded.dictionary.to_pylist()], dtype=np.int64)
    return np.asarray(codes[encoded.indices.to_numpy()])
