"""Curatrix: Parquet in, Parquet out, every drop verified. Arguments: IN OUT THRESHOLD, or IN OUT exact."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from schemas.record import RECORD  # isort: skip  # first, as in every run of ours: it chooses Arrow's memory pool

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from stages.contract import IntArray
from stages.dedup import Dedup
from stages.text import columns_for

BATCH = 4096
EXACT = Dedup(mode="exact", keep="first", lowercase=False, whitespace=False)
"""Bytes are compared with bytes."""


@dataclass
class Slice:
    """A view of some rows of a table."""

    table: pa.Table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def read(self, rows: IntArray) -> pa.Table:
        """Rows by position."""
        return self.table.take(pa.array(rows))


class InMemory:
    """A table of texts and its scores as the pool that `decide` sees; its tasks run in the threads of `pool`."""

    shared = None

    def __init__(self, records: pa.Table, scores: pa.Table, pool: ThreadPoolExecutor) -> None:
        self.records, self.parts, self.map = records, scores, pool.map

    def __len__(self) -> int:
        return int(self.records.num_rows)

    def fetch(self, rows: IntArray, columns: Sequence[str]) -> pa.Table:
        """Records by position."""
        return self.records.select(columns).take(pa.array(rows))

    def scores(self, columns: Sequence[str], rows: npt.NDArray[np.bool_] | None = None) -> Iterator[pa.RecordBatch]:
        """Scores, all or those marked."""
        table = self.table(columns)
        yield from (table if rows is None else table.filter(pa.array(rows))).combine_chunks().to_batches()

    def views(self, columns: Sequence[str]) -> Iterator[Slice]:
        """Rows, some thousand at a time."""
        table = self.table(columns)
        return (Slice(table.slice(start, BATCH)) for start in range(0, len(self), BATCH))

    def table(self, columns: Sequence[str]) -> pa.Table:
        """Scores as one table."""
        own = set(self.parts.column_names)
        return pa.table({name: (self.parts if name in own else self.records)[name] for name in columns})


def main(path: str, out: str, what: str) -> None:
    """Read, score in threads, decide, write what is kept."""
    with pq.ParquetFile(path) as file:
        table = file.read()
    keep = kept(table["text"], EXACT if what == "exact" else Dedup(threshold=float(what), keep="first"))
    pq.write_table(table.filter(pa.array(keep)), out, use_dictionary=False)


def kept(texts: pa.ChunkedArray, stage: Dedup) -> npt.NDArray[np.bool_]:
    """Which texts stay."""
    n = len(texts)
    empty = {name: pa.nulls(n, RECORD.field(name).type) for name in columns_for("text")}
    records = pa.table({**empty, "text": texts})
    named = {"source": pa.repeat("bench", n), "record_id": pa.array(np.arange(n)).cast(pa.string())}
    with ThreadPoolExecutor(2) as pool:
        scores = pa.Table.from_batches(list(pool.map(lambda part: stage.score(part, {}), batches(records))))
        whole = pa.table({**dict(zip(records.column_names, records.columns, strict=True)), **named})
        return stage.decide(InMemory(whole, scores, pool)).keep  # type: ignore[arg-type]


def batches(records: pa.Table) -> Iterator[pa.RecordBatch]:
    """What `score` reads, some thousand rows at a time."""
    return (records.slice(k, BATCH).combine_chunks().to_batches()[0] for k in range(0, len(records), BATCH))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3])
