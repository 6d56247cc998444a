"""Ingest one chunk of one file: decode, adapt, and write canonical records and quarantine as Parquet."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from pipelines.files import read_json, write_json, write_table
from pipelines.readers import decode
from pipelines.readers.rows import Chunk, RawRow, Unreadable
from schemas.adapters import UNKNOWN, adapt, adapter, detect, mapped
from schemas.batch import Placed, check, to_batch
from schemas.errors import BadRow
from schemas.record import QUARANTINE, Draft


@dataclass(frozen=True)
class Reading:
    """How the rows of one file are understood."""

    source: str
    file: str
    adapter: str
    mapping: dict[str, str]
    max_row_bytes: int


@dataclass(frozen=True)
class IngestTask:
    """One chunk to ingest into `folder`, as part number `index`; only its first `limit` rows where set."""

    reading: Reading
    chunk: Chunk
    index: int
    folder: Path
    limit: int | None = None


@dataclass(frozen=True)
class ChunkReport:
    """What became of a chunk: source rows read, records made, rows quarantined by kind."""

    index: int
    rows_read: int
    records: int
    quarantined: dict[str, int]


def part_path(folder: Path, index: int) -> Path:
    """The records of a chunk."""
    return folder / f"part-{index:05d}.parquet"


def bad_path(folder: Path, index: int) -> Path:
    """The quarantined rows of a chunk."""
    return folder / f"bad-{index:05d}.parquet"


def report_path(folder: Path, index: int) -> Path:
    """The report of a chunk; its presence means that the chunk is done."""
    return folder / f"chunk-{index:05d}.json"


def load_report(folder: Path, index: int) -> ChunkReport | None:
    """The report of a finished chunk, or None."""
    path = report_path(folder, index)
    return ChunkReport(**read_json(path)) if path.exists() else None


def ingest_chunk(task: IngestTask) -> ChunkReport:
    """Write a chunk's records, its quarantine and, last, its report."""
    with _no_collection():
        return _ingest(task)


@contextmanager
def _no_collection() -> Iterator[None]:
    """No search for cycles meanwhile: rows have none, and looking for them costs a tenth of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _ingest(task: IngestTask) -> ChunkReport:
    placed: list[Placed] = []
    origins: list[RawRow] = []
    bad: list[dict[str, Any]] = []
    rows_read = 0
    to_drafts = _reader(task.reading)
    for row in _limited(decode(task.chunk, max_row_bytes=task.reading.max_row_bytes), task.limit):
        rows_read += 1
        if isinstance(row, Unreadable):
            bad.append(_unreadable(row, task.reading))
            continue
        try:
            drafts = to_drafts(row.value)
        except BadRow as error:
            bad.append(_rejected(row, error, task.reading))
            continue
        if len(drafts) == 1:
            placed.append(Placed(str(row.row), drafts[0]))
            origins.append(row)
        else:
            placed.extend(Placed(f"{row.row}.{number}", draft) for number, draft in enumerate(drafts))
            origins.extend([row] * len(drafts))
    batch, failures = _batch(placed, task.reading)
    bad.extend(_rejected(origins[index], error, task.reading) for index, error in failures)
    return _write(task, rows_read, batch, bad)


def _limited(rows: Iterator[RawRow | Unreadable], limit: int | None) -> Iterator[RawRow | Unreadable]:
    for number, row in enumerate(rows):
        if limit is not None and number >= limit:
            return
        yield row


def drafts_of(value: Any, reading: Reading) -> list[Draft]:
    """The drafts a decoded row holds, at least one. Raises BadRow."""
    return _reader(reading)(value)


def _reader(reading: Reading) -> Callable[[Any], list[Draft]]:
    """The function that makes drafts of a decoded row of this file."""
    if reading.mapping:
        return lambda value: [mapped(value, reading.mapping)]
    if reading.adapter == UNKNOWN:
        return _unknown
    primary = adapter(reading.adapter)
    return lambda value: adapt(value, primary)


def _unknown(value: Any) -> list[Draft]:
    """Drafts of a row in a file whose first rows were of no known format."""
    name = detect([value]).adapter
    if name == UNKNOWN:
        raise BadRow("unknown_format", f"no known format has {_fields(value)}; name the columns with `mapping:`")
    return adapt(value, adapter(name))


def _fields(value: Any) -> str:
    return (
        f"the fields {', '.join(map(str, value))}"
        if isinstance(value, dict)
        else f"rows of type {type(value).__name__}"
    )


def _batch(placed: list[Placed], reading: Reading) -> tuple[pa.RecordBatch | None, list[tuple[int, BadRow]]]:
    """Records of all drafts that can be records, and the others with their errors."""
    if not placed:
        return None, []
    try:
        return to_batch(placed, reading.source, reading.file), []
    except BadRow:
        verdicts = [check(item, reading.source, reading.file) for item in placed]
    good = [item for item, error in zip(placed, verdicts, strict=True) if error is None]
    failures = [(index, error) for index, error in enumerate(verdicts) if error is not None]
    return (to_batch(good, reading.source, reading.file) if good else None), failures


def _unreadable(row: Unreadable, reading: Reading) -> dict[str, Any]:
    return _quarantined(row.row, row.line, row.raw, row.kind, row.field, row.error, reading)


def _rejected(row: RawRow, error: BadRow, reading: Reading) -> dict[str, Any]:
    return _quarantined(row.row, row.line, row.raw, error.kind, error.field, str(error), reading)


def _quarantined(
    row: int, line: int | None, raw: bytes, kind: str, field: str | None, error: str, reading: Reading
) -> dict[str, Any]:
    readable = error.encode("utf-8", "backslashreplace").decode()
    return {
        "source": reading.source, "file": reading.file, "row": row, "line": line, "record_id": None,
        "stage": "ingest", "kind": kind, "field": field, "error": readable, "raw": raw,
    }  # fmt: skip


def _write(
    task: IngestTask, rows_read: int, batch: pa.RecordBatch | None, bad: Sequence[dict[str, Any]]
) -> ChunkReport:
    kinds = Counter(row["kind"] for row in bad)
    if batch is not None:
        write_table(part_path(task.folder, task.index), pa.Table.from_batches([batch]))
    if bad:
        write_table(bad_path(task.folder, task.index), pa.Table.from_pylist(list(bad), schema=QUARANTINE))
    report = ChunkReport(task.index, rows_read, batch.num_rows if batch is not None else 0, dict(sorted(kinds.items())))
    write_json(report_path(task.folder, task.index), orjson.loads(orjson.dumps(report)))
    return report
