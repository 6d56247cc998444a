"""The records of a run while it runs: a list of Parquet parts and a mask of who is still in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.ids import ID, Ids, from_hex, marked
from pipelines.store import Numbers, Places, ScoreTable
from schemas.errors import RunError
from schemas.record import RECORD
from schemas.room import filled
from stages.contract import BoolArray, IntArray, R, T

_BATCH = 8_192
_AT_ONCE = 16 << 20
"""Bytes of scores looked up at a time: many parts share a lookup of a narrow column, since copies refer to any file."""
_MOST = 1 << 19
_HEX = 40
_ANY = 1_024


@dataclass(frozen=True)
class Part:
    """A Parquet file of canonical records and the number of its rows; `key` names its content."""

    path: Path
    rows: int
    source: str
    key: str

    def read(self, columns: Sequence[str], rows: npt.NDArray[np.integer] | None = None) -> pa.Table:
        """Columns of the part, of all rows or of those at the given positions."""
        table = pq.read_table(self.path, columns=list(columns))
        return table if rows is None else table.take(pa.array(rows))


@dataclass
class RunPool:
    """All records of a run, in run order. `alive` marks those that no stage has dropped yet."""

    parts: list[Part]
    alive: BoolArray
    record_ids: Ids
    content_hashes: Ids
    starts: IntArray = field(init=False)
    scratch: Path = field(init=False, default=Path())  # given by the runner while a stage fits, as is:
    progress: Callable[[str, int, int], None] = field(
        init=False, default_factory=lambda: lambda doing, done, total: None
    )

    def __post_init__(self) -> None:
        self.starts = np.concatenate([[0], np.cumsum([part.rows for part in self.parts], dtype=np.int64)])

    @classmethod
    def open(cls, parts: list[Part]) -> RunPool:
        """Load the ids of every part (32 bytes per record); everybody is alive."""
        rows = sum(part.rows for part in parts)
        return cls(parts, np.ones(rows, np.bool_), *(_ids(parts, rows, name) for name in ("record_id", "content_hash")))

    def __len__(self) -> int:
        return int(self.alive.sum())

    def living(self, part: int) -> IntArray:
        """Positions within a part of the records still in."""
        return np.flatnonzero(self.alive[self.starts[part] : self.starts[part + 1]])

    def global_rows(self) -> IntArray:
        """Run positions of the records still in; a stage's row k is the k-th of them."""
        return np.flatnonzero(self.alive)

    def tables(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """One table per part that has living records, with those."""
        for number, part in enumerate(self.parts):
            rows = self.living(number)
            if len(rows):
                yield part.read(columns, rows if len(rows) < part.rows else None)

    def tables_at(self, rows: IntArray, columns: Sequence[str]) -> Iterator[pa.Table]:
        """One table per part that has any of `rows` (run positions, ascending), with those."""
        for number, piece in self.by_part(rows):
            yield self.parts[number].read(columns, piece)

    def by_part(self, rows: IntArray) -> Iterator[tuple[int, IntArray]]:
        """The parts that have any of `rows` (run positions, ascending), with the positions within the part."""
        cuts = np.searchsorted(rows, self.starts)
        for number in np.flatnonzero(np.diff(cuts)).tolist():
            yield number, rows[cuts[number] : cuts[number + 1]] - self.starts[number]

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Record columns of the living records, in order, a few thousand rows at a time."""
        _check_columns(columns)
        for table in self.tables(columns):
            yield from table.combine_chunks().to_batches(max_chunksize=_BATCH)

    def fetch(self, rows: IntArray, columns: Sequence[str]) -> pa.Table:
        """Record columns of named rows, counted among the living, in the order asked for."""
        _check_columns(columns)
        if len(rows) == 0:
            return pa.schema([RECORD.field(name) for name in columns]).empty_table()
        before = np.concatenate([[0], np.cumsum(self._living_counts())])
        part_of = np.searchsorted(before, rows, side="right") - 1
        by_part = np.argsort(part_of, kind="stable")
        numbers, firsts = np.unique(part_of[by_part], return_index=True)
        groups = np.split(by_part, firsts[1:])
        found = [
            self.parts[number].read(columns, self.living(number)[rows[group] - before[number]])
            for number, group in zip(numbers.tolist(), groups, strict=True)
        ]
        back = np.empty(len(rows), np.int64)
        back[by_part] = np.arange(len(rows))
        return pa.concat_tables(found).take(pa.array(back))

    def _living_counts(self) -> list[int]:
        return [int(np.count_nonzero(self.alive[start:stop])) for start, stop in pairwise(self.starts.tolist())]

    def replace(self, number: int, part: Part) -> None:
        """Put a rewritten part in the place of part `number`; same rows, new content hashes."""
        hashes = self.content_hashes.copy()  # finished stages keep the old array
        hashes[self.starts[number] : self.starts[number + 1]] = from_hex(part.read(["content_hash"])["content_hash"])
        self.content_hashes = hashes
        self.parts[number] = part

    def living_hashes(self) -> Ids:
        """Content hashes of the living records: what a fit or a decision over the whole pool depends on."""
        return marked(self.content_hashes, self.alive)


@dataclass(frozen=True)
class Scored:
    """A finished stage whose scores later stages may ask for."""

    table: ScoreTable
    columns: tuple[str, ...]
    hashes: Ids  # of every record of the run, as they were when the stage saw them


@dataclass(frozen=True)
class PartView:
    """Rows of one part (at those positions, None for all) by the names of files: any node can read them."""

    columns: tuple[str, ...]
    part: Part
    at: Numbers | None
    places: Places | None  # of the rows' scores, if a column is a score

    def __len__(self) -> int:
        return self.part.rows if self.at is None else len(self.at)

    def read(self, rows: IntArray) -> pa.Table:
        """The view's columns of the named rows."""
        if self.places is not None:
            return self.places.of(rows).read(self.columns, _read_columns)
        return self.part.read(self.columns, rows if self.at is None else self.at[rows])


Mapper = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]


class ScoredPool:
    """The pool as `decide` sees it: records by name, scores in bulk (the `Scores` protocol)."""

    def __init__(
        self,
        pool: RunPool,
        own: Scored,
        earlier: Mapping[str, Scored],
        inputs: Mapping[str, RunPool] | None = None,
        asker: Callable[[IntArray], pa.Table] | None = None,
        mapper: Mapper = map,
        shared: Path | None = None,
    ) -> None:
        self._pool = pool
        self._own = own
        self._earlier = earlier
        self._inputs = inputs or {}
        self._asker = asker
        self._mapper = mapper
        self._shared = shared

    def __len__(self) -> int:
        return len(self._pool)

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Record columns of every row, in order."""
        return self._pool.batches(columns)

    def fetch(self, rows: IntArray, columns: Sequence[str]) -> pa.Table:
        """Record columns of the named rows."""
        return self._pool.fetch(rows, columns)

    def scores(self, columns: Sequence[str], rows: BoolArray | None = None) -> Iterator[pa.RecordBatch]:
        """Score columns of every row (or of those that `rows` marks), part by part.

        Raises RunError for a column that does not exist.
        """
        start = 0
        for group in self._groups(columns):
            alive = self._pool.alive[self._pool.starts[group.start] : self._pool.starts[group.stop]]
            at = np.flatnonzero(alive) + self._pool.starts[group.start]
            wanted = at if rows is None else at[rows[start : start + len(at)]]
            start += len(at)
            if len(wanted):
                yield from self._score_table(wanted, columns).combine_chunks().to_batches(max_chunksize=_BATCH)

    def table(self, columns: Sequence[str]) -> pa.Table:
        """Score columns of every row in one table; every file of scores is read once, wherever its rows are."""
        if not len(self):
            return pa.table({name: pa.nulls(0) for name in columns})
        streamed = [name for name in columns if name not in self._own.columns]
        mine = [name for name in columns if name in self._own.columns]
        arrays: dict[str, pa.ChunkedArray] = {}
        if streamed:
            found = pa.Table.from_batches(self.scores(streamed))
            arrays.update({name: found[name] for name in streamed})
        if mine:
            found = self._own.table.rows(self._own.hashes[self._pool.alive], mine)
            arrays.update({name: found[name] for name in mine})
        return pa.table({name: arrays[name] for name in columns})

    @property
    def inputs(self) -> Mapping[str, ScoredPool]:
        """The records of the stage's own sources, by role."""
        return {
            role: ScoredPool(pool, Scored(self._own.table, self._own.columns, pool.content_hashes), {})
            for role, pool in self._inputs.items()
        }

    @property
    def scratch(self) -> Path:
        """The pool's."""
        return self._pool.scratch

    def progress(self, doing: str, done: int, total: int) -> None:
        """The pool's."""
        self._pool.progress(doing, done, total)

    def views(self, columns: Sequence[str]) -> Iterator[PartView]:
        """All rows in order, part by part, as views of the stage's own score columns or of the record's.

        Raises RunError for other columns.
        """
        if scores := any(name in self._own.columns for name in columns):
            self._check_own(columns)
        else:
            _check_columns(columns)
        for number, part in enumerate(self._pool.parts):
            at = self._pool.living(number)
            if len(at):
                places = self._own.table.places(self._own.hashes[at + self._pool.starts[number]]) if scores else None
                yield PartView(tuple(columns), part, at.astype(np.int32) if len(at) < part.rows else None, places)

    def map(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        """Results in the order of the tasks, by the run's executor."""
        return self._mapper(function, tasks)

    @property
    def shared(self) -> Path | None:
        """A folder in the store, where tasks run on other machines."""
        return self._shared

    def _check_own(self, columns: Sequence[str]) -> None:
        other = [name for name in columns if name not in self._own.columns]
        if other:
            raise RunError(f"'{other[0]}' is no score column of this stage")

    def ask(self, rows: IntArray) -> pa.Table:
        """What the stage's examiner says of the named rows. Raises RunError where there is nobody to ask."""
        if self._asker is None:
            raise RunError("only the pool's own records can be asked about")
        return self._asker(rows)

    def _groups(self, columns: Sequence[str]) -> Iterator[range]:
        """Parts that are looked up together."""
        limit = min(_MOST, _AT_ONCE // max(1, sum(self._width(name) for name in columns)))
        first, rows = 0, 0
        for number, part in enumerate(self._pool.parts):
            if rows and rows + part.rows > limit:
                yield range(first, number)
                first, rows = number, 0
            rows += part.rows
        yield range(first, len(self._pool.parts))

    def _width(self, name: str) -> int:
        return _width(self._own.table.schema().field(name).type) if name in self._own.columns else _HEX

    def _score_table(self, at: IntArray, columns: Sequence[str]) -> pa.Table:
        arrays: dict[str, pa.Array | pa.ChunkedArray] = {**self._records(at, columns)}
        mine = [name for name in columns if name in self._own.columns]
        if mine:
            table = self._own.table.rows(self._own.hashes[at], mine)
            arrays.update({name: table[name] for name in mine})
        for name in columns:
            if name not in arrays:
                arrays[name] = self._of_earlier(name, at)
        return pa.table({name: arrays[name] for name in columns})

    def _records(self, at: IntArray, columns: Sequence[str]) -> dict[str, pa.ChunkedArray]:
        wanted = [name for name in columns if name in ("record_id", "content_hash", "source")]
        if not wanted:
            return {}
        table = pa.concat_tables(self._pool.tables_at(at, wanted))
        return {name: table[name] for name in wanted}

    def _of_earlier(self, name: str, at: IntArray) -> pa.Array | pa.ChunkedArray:
        label, _, column = name.rpartition(".")
        if label not in self._earlier or column not in self._earlier[label].columns:
            known = [f"{key}.{item}" for key, stage in self._earlier.items() for item in stage.columns]
            raise RunError(f"no score column '{name}' here; there are: {', '.join([*self._own.columns, *known])}")
        stage = self._earlier[label]
        return stage.table.rows(stage.hashes[at], [column])[column]


def _ids(parts: Sequence[Part], rows: int, name: str) -> Ids:
    return filled(rows, ID, (from_hex(part.read([name])[name]) for part in parts))


def _width(type_: pa.DataType) -> int:
    """Bytes that a value takes, about; for values of any length a guess on the large side."""
    try:
        return max(1, int(type_.bit_width) // 8)
    except ValueError:
        return _HEX if pa.types.is_string(type_) else _ANY


def _read_columns(path: Path, columns: tuple[str, ...]) -> pa.Table:
    return pq.read_table(path, columns=list(columns))


def _check_columns(columns: Sequence[str]) -> None:
    unknown = [name for name in columns if name not in RECORD.names]
    if unknown:
        raise RunError(f"records have no column '{unknown[0]}'")
