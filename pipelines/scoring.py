"""Scoring: one task reads some rows of one part, scores them, and adds them to the store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa

from pipelines.files import replacing, write_table
from pipelines.pool import Part
from schemas.errors import BadRow, CuratrixError
from schemas.record import CONTENT_COLUMNS
from stages.contract import IntArray, Stage, State

_BATCH = 2_048


@dataclass(frozen=True)
class ScoreTask:
    """Score `rows` of `part` into `out`; `start` is the part's first run position, `state` the fitted state's file."""

    stage: Stage
    part: Part
    start: int
    rows: IntArray
    state: Path | None
    out: Path


@dataclass(frozen=True)
class Failure:
    """A row that could not be scored: its position in the part, the error, and the record as JSON."""

    row: int
    kind: str
    field: str | None
    error: str
    raw: bytes


@dataclass(frozen=True)
class ScoreReport:
    """How many rows were scored, and which failed."""

    part: Part
    scored: int
    failures: tuple[Failure, ...]


def score_task(task: ScoreTask) -> ScoreReport:
    """Score the rows of a task and store the scores; rows that fail are reported, the others kept."""
    state = load_state(task.state)
    columns = list(dict.fromkeys([*task.stage.reads, "content_hash"]))
    table = task.part.read(columns, task.rows).combine_chunks()
    tables: list[pa.Table] = []
    failures: list[Failure] = []
    for start in range(0, table.num_rows, _BATCH):
        batch = table.slice(start, _BATCH).combine_chunks().to_batches()[0]
        for result in attempt(task.stage, batch, state, start):
            if isinstance(result, pa.Table):
                tables.append(result)
            else:
                failures.append(_failure(task, result[0], result[1]))
    if tables:
        write_table(task.out, pa.concat_tables(tables))
    return ScoreReport(task.part, sum(table.num_rows for table in tables), tuple(failures))


def attempt(
    stage: Stage, batch: pa.RecordBatch, state: State, start: int
) -> Iterator[pa.Table | tuple[int, Exception]]:
    """Scores of a batch; if it fails it is halved until the rows at fault stand alone."""
    try:
        yield _scored(stage, batch, state)
    except CuratrixError as error:
        if not isinstance(error, BadRow):
            raise
        yield from _halves(stage, batch, state, start, error)
    except MemoryError:
        raise
    except Exception as error:
        yield from _halves(stage, batch, state, start, error)


def _halves(
    stage: Stage, batch: pa.RecordBatch, state: State, start: int, error: Exception
) -> Iterator[pa.Table | tuple[int, Exception]]:
    if batch.num_rows == 1:
        yield start, error
        return
    middle = batch.num_rows // 2
    yield from attempt(stage, batch.slice(0, middle), state, start)
    yield from attempt(stage, batch.slice(middle), state, start + middle)


def _scored(stage: Stage, batch: pa.RecordBatch, state: State) -> pa.Table:
    visible = batch.select(list(stage.reads))
    result = stage.rewrite(visible, state) if stage.rewrites else stage.score(visible, state)
    if result.num_rows != batch.num_rows:
        raise CuratrixError(f"stage '{stage.name}' answered {result.num_rows} rows for {batch.num_rows}")
    hashes = batch.column(batch.schema.get_field_index("content_hash"))
    return pa.Table.from_batches([result]).append_column("content_hash", hashes)


def _failure(task: ScoreTask, at: int, error: Exception) -> Failure:
    row = int(task.rows[at])
    record = task.part.read(["record_id", *CONTENT_COLUMNS], np.array([row])).to_pylist()[0]
    raw = orjson.dumps({key: value for key, value in record.items() if value is not None})
    kind, field = (error.kind, error.field) if isinstance(error, BadRow) else (type(error).__name__, None)
    return Failure(row, kind, field, " ".join(str(error).split()) or type(error).__name__, raw)


def save_state(path: Path, state: State) -> None:
    """Write a fitted state atomically (npz, no pickles)."""
    with replacing(path) as temporary, temporary.open("wb") as handle:
        np.savez(handle, allow_pickle=False, **dict(state))


def load_state(path: Path | None) -> State:
    """A fitted state; empty for None."""
    if path is None:
        return {}
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}
