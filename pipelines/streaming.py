"""Scoring by stages that see the whole stream of records: a language model's server, or one model on one device."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from pipelines.files import write_table
from pipelines.ids import from_hex
from pipelines.pool import RunPool
from pipelines.progress import Reporter
from pipelines.store import ScoreTable
from schemas.errors import CuratrixError
from schemas.hashing import digest
from stages.contract import IntArray, Stage, State


def stream_rows(
    stage: Stage, pool: RunPool, rows: IntArray, state: State, table: ScoreTable, folder: Path, reporter: Reporter
) -> int:
    """Score `rows` (run positions) in one stream, storing each batch of results as it comes; returns their number."""
    waiting: list[pa.Array] = []
    done = 0
    for result in stage.stream(_batches(stage, pool, rows, waiting), state, folder):
        hashes = waiting.pop(0)
        store_batch(stage, table, hashes, result)
        done += len(hashes)
        reporter.advance(len(hashes))
    if waiting:
        raise CuratrixError(f"stage '{stage.name}' left {len(waiting)} batches of its stream unanswered")
    return done


def store_batch(stage: Stage, table: ScoreTable, hashes: pa.Array, result: pa.RecordBatch) -> None:
    """Add a batch of scores to the store. Raises CuratrixError if the stage answered another number of rows."""
    if result.num_rows != len(hashes):
        raise CuratrixError(f"stage '{stage.name}' answered {result.num_rows} rows for {len(hashes)}")
    ids = from_hex(hashes)
    path = table.folder / f"{digest(ids.tobytes()).hex()}.parquet"
    write_table(path, pa.Table.from_batches([result]).append_column("content_hash", hashes))
    table.add(path, ids)


def _batches(stage: Stage, pool: RunPool, rows: IntArray, waiting: list[pa.Array]) -> Iterator[pa.RecordBatch]:
    """Batches of `reads` columns; the content hashes of every batch handed out go to `waiting`."""
    columns = list(dict.fromkeys([*stage.reads, "content_hash"]))
    for table in pool.tables_at(rows, columns):
        for start in range(0, table.num_rows, stage.task_rows()):
            batch = table.slice(start, stage.task_rows()).combine_chunks().to_batches()[0]
            waiting.append(batch.column(batch.schema.get_field_index("content_hash")))
            yield batch.select(list(stage.reads))
