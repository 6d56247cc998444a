"""A few records of each file, for estimates before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import pyarrow as pa

from pipelines.ingest import Reading, drafts_of
from pipelines.intake import Unit
from pipelines.readers import decode, read_chunks, sniff
from pipelines.readers.rows import RawRow
from schemas.adapters import detect
from schemas.batch import Placed, check, to_batch
from schemas.errors import BadRow
from schemas.record import RECORD

_SAMPLE_BYTES = 1 << 20
_FILES = 20


def sample_records(units: Sequence[Unit], rows: int) -> pa.Table:
    """Up to `rows` records from the beginnings of up to 20 files, equally many of each; unusable rows are left out."""
    files = [unit for unit in units if unit.file is not None][:_FILES]
    share = -(-rows // max(1, len(files)))
    batches = [to_batch(placed, unit.source.name, unit.path) for unit in files if (placed := _first(unit, share))]
    return pa.Table.from_batches(batches, RECORD).slice(0, rows)


def _first(unit: Unit, rows: int) -> list[Placed]:
    assert unit.file is not None
    sniffed = sniff(unit.file.url, unit.source.format)
    chunk = next(iter(read_chunks(unit.file.url, sniffed, chunk_bytes=_SAMPLE_BYTES)), None)
    seen = [] if chunk is None else [row for row in islice(decode(chunk), 2 * rows) if isinstance(row, RawRow)]
    found = detect([row.value for row in seen]).adapter if unit.source.adapter == "auto" else unit.source.adapter
    reading = Reading(unit.source.name, unit.path, found, unit.source.mapping, 0)
    placed = (item for row in seen for item in _records(row, reading))
    return list(islice((item for item in placed if check(item, reading.source, reading.file) is None), rows))


def _records(row: RawRow, reading: Reading) -> Iterator[Placed]:
    try:
        drafts = drafts_of(row.value, reading)
    except BadRow:
        return
    for number, draft in enumerate(drafts):
        yield Placed(f"{row.row}.{number}", draft)
