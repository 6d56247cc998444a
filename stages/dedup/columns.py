"""The small columns that decisions need, read part by part into arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

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
    n = len(rows)
    names: dict[str, int] = {}
    hashes, comparable = np.zeros((n, 2), np.uint64), np.zeros(n, np.bool_)
    for part, column in _placed(rows.column("exact_hash")):
        hashes[part], comparable[part] = _halves(column), np.asarray(column.is_valid())
    sources = np.zeros(n, np.int32)
    for part, column in _placed(batch["source"] for batch in rows.scores(["source"])):
        sources[part] = _codes(column, names)
    sizes = _numbers(rows, "n_shingles") if near else np.zeros(n, np.int32)
    scores = np.full(n if best else 0, -np.inf)
    if best:
        pool, start = rows.pools[-1], int(rows.starts[-2])
        for part, column in _placed((batch[best] for batch in pool.scores([best])), start):
            scores[part] = pc.fill_null(column.cast(pa.float64()), -np.inf).to_numpy(zero_copy_only=False)
    return Columns(hashes, comparable, _numbers(rows, "n_chars"), sizes, sources, list(names), scores)


def _placed(columns: Iterable[pa.Array], start: int = 0) -> Iterator[tuple[slice, pa.Array]]:
    """Arrays end to end, each with the rows it is about."""
    for column in columns:
        yield slice(start, start + len(column)), column
        start += len(column)


def _numbers(rows: Joined, name: str) -> npt.NDArray[np.int32]:
    out = np.zeros(len(rows), np.int32)
    for part, column in _placed(rows.column(name)):
        out[part] = _integers(column)
    return out


def _integers(column: pa.Array) -> Ints:
    return np.asarray(pc.fill_null(column.cast(pa.int64()), 0).to_numpy(zero_copy_only=False))


def _halves(column: pa.FixedSizeBinaryArray) -> npt.NDArray[np.uint64]:
    data = np.frombuffer(column.buffers()[1], dtype=np.uint8, count=len(column) * 16, offset=column.offset * 16)
    return data.view(np.uint64).reshape(-1, 2)


def _codes(column: pa.StringArray, names: dict[str, int]) -> Ints:
    encoded = column.dictionary_encode()
    codes = np.array([names.setdefault(name, len(names)) for name in encoded.dictionary.to_pylist()], dtype=np.int64)
    return np.asarray(codes[encoded.indices.to_numpy()])
