"""The small columns that decisions need, read part by part into arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stages.dedup.arrays import full
from stages.dedup.joined import Joined
from stages.dedup.kernels import Bools, Floats, Numbers


class Sources(NamedTuple):
    """Per row the index of its source in `names`."""

    codes: Numbers
    names: list[str]


def numbers(rows: Joined, name: str) -> Numbers:
    """A column of small integers, 0 where there is none."""
    out = full(len(rows), 0, np.int32)
    for part, column in _placed(rows.column(name)):
        out[part] = pc.fill_null(column.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
    return out


def present(rows: Joined, name: str) -> Bools:
    """Whether a row has a value in the column."""
    out = full(len(rows), 0, np.bool_)
    for part, column in _placed(rows.column(name)):
        out[part] = np.asarray(column.is_valid())
    return out


def best_scores(rows: Joined, name: str) -> Floats:
    """A score of an earlier stage, which only the last pool has; -inf where a row has none."""
    out = full(len(rows), -np.inf, np.float64)
    pool, start = rows.pools[-1], int(rows.starts[-2])
    for part, column in _placed((batch[name] for batch in pool.scores([name])), start):
        out[part] = pc.fill_null(column.cast(pa.float64()), -np.inf).to_numpy(zero_copy_only=False)
    return out


def sources(rows: Joined) -> Sources:
    """The source of every row."""
    known: dict[str, int] = {}
    codes = full(len(rows), 0, np.int32)
    for part, column in _placed(rows.column("source")):
        codes[part] = _codes(column, known)
    return Sources(codes, list(known))


def _placed(columns: Iterable[pa.Array], start: int = 0) -> Iterator[tuple[slice, pa.Array]]:
    """Arrays end to end, each with the rows it is about."""
    for column in columns:
        yield slice(start, start + len(column)), column
        start += len(column)


def _codes(column: pa.StringArray, known: dict[str, int]) -> npt.NDArray[Any]:
    encoded = column.dictionary_encode()
    codes = np.array([known.setdefault(name, len(known)) for name in encoded.dictionary.to_pylist()], dtype=np.int32)
    return np.asarray(codes[encoded.indices.to_numpy()])
