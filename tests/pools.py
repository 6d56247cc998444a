"""A pool and its scores in memory, and a run of one stage over it: what the runner does, without files."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from schemas.record import RECORD
from stages.contract import Decisions, Examiner, R, Stage, State, T

Row = Mapping[str, Any]


@dataclass
class MemoryView:
    """`View` of a table; rows of records that are read are counted in `pool.fetched`, of the same process."""

    table: pa.Table
    pool: MemoryPool | None

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __getstate__(self) -> dict[str, Any]:
        return {"table": self.table, "pool": None}

    def read(self, rows: npt.NDArray[np.int64]) -> pa.Table:
        if self.pool is not None:
            self.pool.fetched += len(rows)
        return self.table.take(pa.array(rows))


class MemoryPool:
    """`Scores` (and so `Pool`) over tables held in memory, handed out `batch_size` rows at a time."""

    shared: Path | None = None

    def __init__(self, records: pa.Table, scores: pa.Table | None = None, batch_size: int = 1000) -> None:
        self.records, self._scores, self.batch_size = records, scores, batch_size
        self.fetched = self.examined = 0
        self._examine: Examiner | None = None
        self._scratch: Path | None = None
        self.told: list[tuple[str, int, int]] = []

    def __len__(self) -> int:
        return int(self.records.num_rows)

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        yield from batches(self.records.select(list(columns)), self.batch_size)

    def fetch(self, rows: npt.NDArray[np.int64], columns: Sequence[str]) -> pa.Table:
        self.fetched += len(rows)
        return self.records.select(list(columns)).take(pa.array(rows))

    def scores(self, columns: Sequence[str], rows: npt.NDArray[np.bool_] | None = None) -> Iterator[pa.RecordBatch]:
        table = self.table(columns)
        yield from batches(table if rows is None else table.filter(pa.array(rows)), self.batch_size)

    def table(self, columns: Sequence[str]) -> pa.Table:
        assert self._scores is not None
        own = set(self._scores.column_names)
        return pa.table({name: (self._scores if name in own else self.records)[name] for name in columns})

    def views(self, columns: Sequence[str]) -> Iterator[MemoryView]:
        table = self.table(columns)
        records = all(name in self.records.column_names for name in columns)
        for start in range(0, table.num_rows, self.batch_size):
            yield MemoryView(table.slice(start, self.batch_size), self if records else None)

    def map(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        return map(function, tasks)

    def progress(self, doing: str, done: int, total: int) -> None:
        self.told.append((doing, done, total))

    @property
    def scratch(self) -> Path:
        self._scratch = self._scratch or Path(tempfile.mkdtemp(prefix="curatrix-"))
        return self._scratch

    def asking(self, stage: Stage, state: State) -> MemoryPool:
        """The same pool, with the stage's examiner to ask."""
        self._examine, self._examines = stage.examiner(state), list(stage.examines)
        return self

    def ask(self, rows: npt.NDArray[np.int64]) -> pa.Table:
        assert self._examine is not None
        self.examined += len(rows)
        batch = self.records.select(self._examines).take(pa.array(rows)).combine_chunks().to_batches()[0]
        return pa.Table.from_batches([self._examine(batch)])


def batches(table: pa.Table, size: int) -> Iterator[pa.RecordBatch]:
    """`table` as record batches of exactly `size` rows (the last one may be shorter)."""
    for start in range(0, table.num_rows, size):
        yield table.slice(start, size).combine_chunks().to_batches()[0]


def records(rows: Sequence[Row], source: str = "s") -> pa.Table:
    """Canonical records of `rows`; ids follow the position, content hashes the content, unless given."""
    full = []
    for position, row in enumerate(rows):
        content = repr(sorted((key, value) for key, value in row.items() if key not in ("record_id", "source")))
        base = {
            "record_id": f"{position:032x}",
            "content_hash": f"{hash_of(content):032x}",
            "source": source,
            "origin": f"memory:{position}",
            "kind": "text",
        }
        full.append({**base, **row})
    return pa.Table.from_pylist(full, schema=RECORD)


def hash_of(text: str) -> int:
    """A stable 128-bit integer."""
    return xxhash.xxh3_128_intdigest(text.encode())


def score(
    stage: Stage, table: pa.Table, batch_size: int = 1000, earlier: Mapping[str, pa.Array] | None = None
) -> MemoryPool:
    """Score every row of `table` and return the pool that `decide` gets. `earlier`: scores of earlier stages."""
    state = stage.fit(MemoryPool(table, batch_size=batch_size), {})
    read = table.select(list(stage.reads))
    parts = list(batches(read, batch_size)) or [pa.RecordBatch.from_pylist([], read.schema)]
    scores = pa.Table.from_batches([stage.score(batch, state) for batch in parts])
    assert scores.num_rows == table.num_rows
    for name, column in (earlier or {}).items():
        scores = scores.append_column(name, column)
    pool = MemoryPool(table, scores, batch_size)
    return pool.asking(stage, state) if stage.examines else pool


def run(
    stage: Stage, table: pa.Table, batch_size: int = 1000, earlier: Mapping[str, pa.Array] | None = None
) -> Decisions:
    """Score and decide, and check the shape of the answer."""
    decisions = stage.decide(score(stage, table, batch_size, earlier))
    for column in (decisions.keep, decisions.reason, decisions.score, decisions.related, decisions.detail):
        assert column is None or len(column) == table.num_rows
    return decisions
