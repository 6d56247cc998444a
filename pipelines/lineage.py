"""Writing decisions: one Parquet file per stage, every record that reached it, with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.files import table_writer
from pipelines.ids import Ids, marked, to_hex
from pipelines.pool import RunPool
from schemas.errors import RunError
from schemas.lineage import DECISION, INGEST
from stages.contract import BoolArray, Decisions

_FINGERPRINT = b"curatrix.fingerprint"
_WARNINGS = b"curatrix.warnings"


@dataclass(frozen=True)
class Tally:
    """Rows of a stage by outcome, in total and per source; reasons without their particulars."""

    rows_in: int = 0
    kept: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    by_source: dict[str, tuple[int, int]] = field(default_factory=dict)  # source -> (rows in, kept)


def decisions_file(position: int, label: str) -> str:
    """File name of a stage's decisions."""
    return f"{position:02d}-{label.replace('#', '-')}.parquet"


def write_decisions(path: Path, pool: RunPool, label: str, position: int, decisions: Decisions, name: str) -> None:
    """Write what a stage decided about the living records of `pool`; `name` fingerprints the decision.

    Raises:
        RunError: if the stage did not decide about every row.
    """
    _check_lengths(decisions, len(pool), label)
    notes = {_FINGERPRINT: name.encode(), _WARNINGS: orjson.dumps(list(decisions.warnings))}
    with table_writer(path, DECISION.with_metadata(notes), bloom="record_id") as writer:
        start, ids = 0, marked(pool.record_ids, pool.alive)
        for records in pool.tables(["record_id", "content_hash", "source", "source_id"]):
            rows = slice(start, start + records.num_rows)
            outcome = _outcome(decisions, ids, rows)
            writer.write(_decision_table(records, label, position, outcome).replace_schema_metadata(notes))
            start = rows.stop


def write_ingest(path: Path, pool: RunPool, gone: BoolArray, name: str) -> None:
    """Write the first decision about every record: that it was read, and from where, or that it is `gone`."""
    notes = {_FINGERPRINT: name.encode(), _WARNINGS: b"[]"}
    with table_writer(path, DECISION.with_metadata(notes), bloom="record_id") as writer:
        for number, part in enumerate(pool.parts):
            records = part.read(["record_id", "content_hash", "source", "source_id", "origin"])
            n = records.num_rows
            away = pa.array(gone[pool.starts[number] : pool.starts[number + 1]])
            origin = pc.binary_join_element_wise('{"origin": ', _quoted(records["origin"]), "}", "")
            outcome = {
                "keep": pc.invert(away), "reason": pc.if_else(away, "forgotten", "read"),
                "score": pa.nulls(n, pa.float64()), "related_id": pa.nulls(n, pa.string()), "detail": origin,
            }  # fmt: skip
            writer.write(_decision_table(records, INGEST, 0, outcome).replace_schema_metadata(notes))


def stored_fingerprint(path: Path) -> str | None:
    """Fingerprint of the decisions in a file, None where there is no such file."""
    if not path.exists():
        return None
    name: bytes = (pq.read_schema(path).metadata or {}).get(_FINGERPRINT, b"")
    return name.decode()


def stored_warnings(path: Path) -> list[str]:
    """Warnings that came with the decisions in a file."""
    found: list[str] = orjson.loads((pq.read_schema(path).metadata or {}).get(_WARNINGS, b"[]"))
    return found


def read_keep(path: Path) -> BoolArray:
    """The `keep` column, shape (rows,)."""
    return np.asarray(pq.read_table(path, columns=["keep"])["keep"].to_numpy(), np.bool_)


def tally(path: Path) -> Tally:
    """Count the decisions in a file."""
    counts = Counter[tuple[str, bool, str]]()
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=["keep", "reason", "source"]):
            counts.update(_counted(batch))
    by_source, reasons = dict[str, tuple[int, int]](), Counter[str]()
    for (source, keep, kind), count in counts.items():
        rows, kept = by_source.get(source, (0, 0))
        by_source[source] = (rows + count, kept + count * keep)
        reasons.update({} if keep else {kind: count})
    ordered = dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))
    kept = sum(kept for _, kept in by_source.values())
    return Tally(counts.total(), kept, ordered, dict(sorted(by_source.items())))


def _counted(batch: pa.RecordBatch) -> dict[tuple[str, bool, str], int]:
    """Rows of a batch by source, whether they stay, and the kind of reason."""
    kinds = pc.replace_substring_regex(batch["reason"], "(?s);.*", "")
    table = pa.table({"source": batch["source"], "keep": batch["keep"], "kind": kinds})
    groups = table.group_by(["source", "keep", "kind"]).aggregate([([], "count_all")]).to_pylist()
    return {(group["source"], group["keep"], group["kind"]): group["count_all"] for group in groups}


def drops_only(folder: Path) -> None:
    """Leave only the decisions that dropped a record; a file without any goes."""
    for path in sorted(folder.glob("*.parquet")):
        keep = read_keep(path)
        if keep.all():
            path.unlink()
        elif keep.any():
            with pq.ParquetFile(path) as file:
                # without its fingerprint: a run that goes on after this decides again
                notes = {key: note for key, note in file.schema_arrow.metadata.items() if key != _FINGERPRINT}
                schema = file.schema_arrow.with_metadata(notes)
                with table_writer(path, schema, bloom="record_id") as writer:
                    for batch in file.iter_batches():
                        dropped = batch.filter(pc.invert(batch["keep"]))
                        writer.write(pa.Table.from_batches([dropped]).cast(schema))


def _outcome(decisions: Decisions, ids: Ids, rows: slice) -> dict[str, Any]:
    n = rows.stop - rows.start
    return {
        "keep": pa.array(decisions.keep[rows]),
        "reason": _strings(decisions.reason, rows),
        "score": _numbers(decisions.score, rows, n),
        "related_id": _related(decisions, ids, rows, n),
        "detail": _strings(decisions.detail, rows) if decisions.detail is not None else pa.nulls(n, pa.string()),
    }


def _decision_table(records: pa.Table, label: str, position: int, outcome: dict[str, Any]) -> pa.Table:
    n = records.num_rows
    columns = {
        **{name: records[name] for name in ("record_id", "content_hash", "source", "source_id")},
        "stage": pa.repeat(pa.scalar(label), n),
        "position": pa.repeat(pa.scalar(position, pa.int32()), n),
        **outcome,
    }
    return pa.table([columns[field.name] for field in DECISION], schema=DECISION)


def _strings(values: Sequence[str | None] | pa.Array, rows: slice) -> pa.Array:
    if isinstance(values, list | tuple):
        return pa.array(values[rows], pa.string())
    whole = values if hasattr(values, "slice") else pa.array(values)
    return whole.slice(rows.start, rows.stop - rows.start).cast(pa.string())


def _numbers(values: Any, rows: slice, n: int) -> pa.Array:
    return pa.nulls(n, pa.float64()) if values is None else pa.array(values[rows], pa.float64(), from_pandas=True)


def _related(decisions: Decisions, ids: Ids, rows: slice, n: int) -> pa.Array:
    names = pa.nulls(n, pa.string())
    if decisions.related is not None:
        related = decisions.related[rows]
        names = pc.if_else(pa.array(related >= 0), to_hex(ids[np.maximum(related, 0)]), names)
    if decisions.related_id is not None:
        names = pc.coalesce(_strings(decisions.related_id, rows), names)
    return names


def _quoted(strings: pa.ChunkedArray) -> pa.Array:
    return pa.array([orjson.dumps(text).decode() for text in strings.to_pylist()], pa.string())


def _check_lengths(decisions: Decisions, rows: int, label: str) -> None:
    for name, values in _columns(decisions):
        if len(values) != rows:
            raise RunError(f"stage '{label}' decided {name} for {len(values)} rows of {rows}")


def _columns(decisions: Decisions) -> Iterator[tuple[str, Any]]:
    for name in ("keep", "reason", "score", "related", "related_id", "detail"):
        values = getattr(decisions, name)
        if values is not None:
            yield name, values
