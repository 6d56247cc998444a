"""Applying rewrites: parts of records with the content columns that a stage changed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from pipelines.files import write_table
from pipelines.ids import from_hex
from pipelines.pool import Part
from pipelines.store import ScoreTable
from schemas.hashing import fingerprint
from schemas.lineage import REWRITE
from schemas.record import CONTENT_COLUMNS, RECORD, content_hash, content_of
from stages.contract import IntArray

_COST = ("model", "prompt_version", "tokens_in", "tokens_out", "cost")


@dataclass(frozen=True)
class Rewritten:
    """A part after a rewriting stage, and the lineage rows of the records that changed."""

    part: Part
    changes: pa.Table


def derived_key(part: Part, fingerprint_: str, rows: IntArray) -> str:
    """Key of a rewritten part: the part, what rewrote it, and which of its rows were in the run."""
    return fingerprint({"part": part.key, "rewrite": fingerprint_, "rows": rows.tobytes().hex()})


def rewrite_part(part: Part, rows: IntArray, table: ScoreTable, label: str, folder: Path) -> Rewritten:
    """Write a copy of `part` in which the given rows have their rewritten content."""
    records = part.read(RECORD.names)
    before = records.take(pa.array(rows))
    results = table.rows(from_hex(before["content_hash"]), table.schema().names)
    after = _replaced(before, results)
    changes = _changes(before, after, results, label)
    path = folder / "part.parquet"
    write_table(path, _scattered(records, rows, after))
    return Rewritten(Part(path, part.rows, part.source, folder.name), changes)


def _replaced(before: pa.Table, results: pa.Table) -> pa.Table:
    """`before` with the columns of `results` that are content, and ids of the new content."""
    after = before
    for name in results.column_names:
        if name in CONTENT_COLUMNS:
            column = results[name].cast(RECORD.field(name).type)
            after = after.set_column(RECORD.get_field_index(name), RECORD.field(name), column)
    hashes = [content_hash(content_of(row)).hex() for row in after.select(CONTENT_COLUMNS).to_pylist()]
    index = RECORD.get_field_index("content_hash")
    return after.set_column(index, RECORD.field(index), pa.array(hashes, pa.string())).cast(RECORD)


def _scattered(records: pa.Table, rows: IntArray, after: pa.Table) -> pa.Table:
    """All records, with `after` in place of the given rows."""
    order = list(range(records.num_rows))
    for position, row in enumerate(rows.tolist()):
        order[row] = records.num_rows + position
    return pa.concat_tables([records, after]).take(pa.array(order, pa.int64())).combine_chunks()


def _changes(before: pa.Table, after: pa.Table, results: pa.Table, label: str) -> pa.Table:
    names = [name for name in results.column_names if name in CONTENT_COLUMNS]
    rows: list[dict[str, Any]] = []
    columns = ["record_id", "content_hash", *names]
    pairs = zip(before.select(columns).to_pylist(), after.select(columns).to_pylist(), strict=True)
    for (old, new), result in zip(pairs, results.to_pylist(), strict=True):
        if old["content_hash"] != new["content_hash"]:
            rows.append(_change(old, new, result, names, label))
    return pa.Table.from_pylist(rows, schema=REWRITE)


def _change(
    old: dict[str, Any], new: dict[str, Any], result: dict[str, Any], names: list[str], label: str
) -> dict[str, Any]:
    changed = [name for name in names if old[name] != new[name]]
    return {
        "record_id": old["record_id"], "stage": label, "status": result.get("rewrite_status") or "changed",
        "content_hash_before": old["content_hash"], "content_hash_after": new["content_hash"],
        "before": orjson.dumps({name: old[name] for name in changed}).decode(),
        "after": orjson.dumps({name: new[name] for name in changed}).decode(),
        **{name: result.get(name) for name in _COST},
    }  # fmt: skip
