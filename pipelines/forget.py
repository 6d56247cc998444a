"""Removing records for good: from datasets that were written, and from everything the store keeps of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.files import table_writer, write_bytes, write_json
from pipelines.ids import from_hex
from pipelines.lineage import decisions_file
from pipelines.manifest import file_entries
from pipelines.publish import finished_manifest, locked
from pipelines.run import Documents
from pipelines.store import Store, open_store
from pipelines.tombstones import REASON, add_tombstones, contained, read_tombstones
from schemas.lineage import (
    DATA,
    DECISION,
    DECISIONS_DIR,
    DELTA,
    EXPORTS,
    MANIFEST,
    QUARANTINE_DIR,
    REWRITES_DIR,
    SCORES_DIR,
)

_LABEL = "forget"
_KEPT_COLUMNS = ("record_id", "content_hash", "source", "kind", "origin")  # none of them may be null


@dataclass(frozen=True)
class Removal:
    """What is to be forgotten: content hashes, and the reason that people are told."""

    hashes: frozenset[str]
    reason: str


@dataclass(frozen=True)
class Removed:
    """What went: rows of each dataset, and rows of records, scores and journals in stores."""

    datasets: dict[str, int]
    records: int
    scores: int
    replies: int


def stores_of(directories: Sequence[Path]) -> list[Store]:
    """The stores that runs were made with, those that are on this machine; if none is, the one that is used without a
    recipe. Raises RecipeError if a directory is no finished run.
    """
    paths = dict.fromkeys(Path(finished_manifest(directory)["store"]) for directory in directories)
    return [Store(path) for path in paths if path.is_dir()] or [open_store(None, Path())]


def forget(removal: Removal, directories: Sequence[Path], stores: Sequence[Store], documents: Documents) -> Removed:
    """Remove contents from runs and from stores, and remember them so that no later run takes them in.

    The stores remember first, and all that they remember goes: an interrupted removal is finished by the next one, and
    a run that was not named in an earlier one catches up. Decisions stay, without their particulars; texts, rewrites
    and scores go, and what a stage that failed left of them in quarantine.

    Raises:
        RecipeError: if a directory is no finished run.
        RunError: if a run is writing there.
    """
    for directory in directories:
        finished_manifest(directory)
    for store in stores:
        add_tombstones(store.root, removal.hashes, removal.reason)
    known = removal.hashes.union(*(read_tombstones(store.root) for store in stores))
    removal = Removal(known, removal.reason)
    copies = [path.parent for store in stores for path in sorted(store.root.glob(f"outputs/*/{MANIFEST}"))]
    datasets = {str(each): _forget_run(each, removal, documents) for each in [*directories, *copies]}
    counts = [_forget_stored(store.root, removal) for store in stores]
    return Removed(datasets, *map(sum, zip(*counts, strict=True)))


def _forget_stored(store: Path, removal: Removal) -> tuple[int, int, int]:
    """Rows of records, scores and journals that went."""
    records = sum(_blank(path, removal) for path in sorted(store.glob("pool/*/part-*.parquet")))
    records += sum(_blank(path, removal) for path in sorted(store.glob("derived/*/*.parquet")))
    scores = sum(_without_rows(path, "content_hash", removal.hashes) for path in _score_files(store))
    replies = sum(_without_lines(path, removal) for path in sorted(store.glob("journals/*/*.jsonl")))
    return records, scores, replies


def _score_files(store: Path) -> list[Path]:
    return sorted(store.glob("scores/*/*.parquet"))


def _forget_run(directory: Path, removal: Removal, documents: Documents) -> int:
    """Returns how many rows of the dataset went."""
    with locked(directory):
        manifest = finished_manifest(directory)
        ids = _record_ids(directory, removal)
        if not ids:
            return 0
        gone = _decide(directory, manifest, ids, removal)
        for path in sorted(directory.glob(f"{QUARANTINE_DIR}/*.parquet")):
            _blank_failures(path, ids)
        for pattern in (
            f"{REWRITES_DIR}/*.parquet",
            f"{SCORES_DIR}/**/*.parquet",
            f"{DATA}/*.parquet",
            f"{DELTA}/*.parquet",
        ):
            for path in sorted(directory.glob(pattern)):
                _without_rows(path, "record_id", ids)
        shutil.rmtree(directory / EXPORTS, ignore_errors=True)  # copies; the next run of the recipe makes them anew
        manifest["files"] = file_entries(directory)
        manifest["splits"] = _splits(directory, manifest["splits"])
        for name, content in documents(directory, manifest).items():
            write_bytes(directory / name, content)
        write_json(directory / MANIFEST, manifest)
    return gone


def _record_ids(directory: Path, removal: Removal) -> frozenset[str]:
    """Ids of records that had one of the contents at any stage."""
    found: set[str] = set()  # runs with `lineage: drops` know kept records by their data only
    for path in (file for folder in (DECISIONS_DIR, DATA) for file in directory.glob(f"{folder}/*.parquet")):
        table = pq.read_table(path, columns=["record_id", "content_hash"])
        mask = contained(from_hex(table["content_hash"]), removal.hashes)
        found.update(table.filter(pa.array(mask))["record_id"].to_pylist())
    return frozenset(found)


def _decide(directory: Path, manifest: dict[str, Any], ids: frozenset[str], removal: Removal) -> int:
    """Blank what earlier decisions tell of the records, and add the decision that removes them from the data."""
    position = 1 + max((stage["position"] for stage in manifest["stages"]), default=0)
    path = directory / DECISIONS_DIR / decisions_file(position, _LABEL)
    for earlier in sorted({*directory.glob(f"{DECISIONS_DIR}/*.parquet")} - {path}):
        _blank_decisions(earlier, ids)
    if not path.exists():  # else a removal was interrupted, and some of the data may be gone already
        _write_decision(path, directory, position, ids, removal)
    decided = pq.read_table(path, columns=["source", "keep"])
    drop = pc.invert(decided["keep"])
    gone = int(pc.sum(drop).as_py() or 0)
    manifest["stages"].append(_entry(position, decided, drop, gone, removal))
    return gone


def _write_decision(path: Path, directory: Path, position: int, ids: frozenset[str], removal: Removal) -> None:
    rows = [_data_rows(data) for data in sorted(directory.glob(f"{DATA}/*.parquet"))]
    table = pa.concat_tables(rows) if rows else DECISION.empty_table().select(["record_id", "content_hash", "source"])
    drop = pc.is_in(table["record_id"], pa.array(sorted(ids)))
    n = table.num_rows
    columns = {
        **{name: table[name] for name in ("record_id", "content_hash", "source")},
        "stage": pa.repeat(_LABEL, n), "position": pa.repeat(pa.scalar(position, pa.int32()), n),
        "keep": pc.invert(drop), "reason": pc.if_else(drop, f"{REASON}; {removal.reason}", "kept"),
    }  # fmt: skip
    full = [columns.get(field.name, pa.nulls(n, field.type)) for field in DECISION]
    with table_writer(path, DECISION, bloom="record_id") as writer:
        writer.write(pa.table(full, schema=DECISION))


def _data_rows(path: Path) -> pa.Table:
    return pq.read_table(path, columns=["record_id", "content_hash", "source"])


def _entry(position: int, table: pa.Table, drop: pa.ChunkedArray, gone: int, removal: Removal) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    by_source: dict[str, dict[str, int]] = {}
    for source in sorted(set(table["source"].to_pylist())):
        mine = pc.equal(table["source"], source)
        rows, dropped = (int(pc.sum(mask).as_py() or 0) for mask in (mine, pc.and_(mine, drop)))
        by_source[source] = {"rows_in": rows, "kept": rows - dropped, "dropped": dropped, "quarantined": 0}
    return {
        "stage": _LABEL, "position": position,
        "params": {"reason": removal.reason, "contents": len(removal.hashes), "at": now},
        "fingerprint": "", "rows_in": table.num_rows, "kept": table.num_rows - gone, "dropped": gone, "quarantined": 0,
        "reasons": {REASON: gone} if gone else {}, "by_source": by_source, "warnings": [], "seconds": 0.0,
        "counters": {"scored": 0, "cached": 0, "decided": True},
    }  # fmt: skip


def _splits(directory: Path, before: dict[str, int]) -> dict[str, int]:
    counts = dict.fromkeys(before, 0)
    for path in sorted(directory.glob(f"{DATA}/*.parquet")):
        counts[path.name.split("-")[0]] += pq.read_metadata(path).num_rows
    return {name: rows for name, rows in counts.items() if rows}


def _blank_decisions(path: Path, ids: frozenset[str]) -> None:
    """Details and the particulars of reasons may quote a record."""

    def blank(table: pa.Table, mask: pa.Array) -> pa.Table:
        plain = pc.replace_substring_regex(table["reason"], "(?s);.*", "")
        return _replaced(table, mask, {"reason": plain, "detail": pa.scalar(None, pa.string())})

    _change(path, _any_of(ids), blank)


def _blank_failures(path: Path, ids: frozenset[str]) -> None:
    """The bytes of a record that a stage could not score, and the error, which may quote it."""

    def blank(table: pa.Table, mask: pa.Array) -> pa.Table:
        return _replaced(table, mask, {"error": REASON, "raw": pa.scalar(None, pa.binary())})

    _change(path, _any_of(ids), blank)


def _any_of(ids: frozenset[str]) -> Callable[[pa.Table], pa.ChunkedArray]:
    wanted = pa.array(sorted(ids), pa.string())
    return lambda table: pc.is_in(table["record_id"], wanted)


def _replaced(table: pa.Table, mask: pa.Array, values: Mapping[str, Any]) -> pa.Table:
    for name, value in values.items():
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(at), pc.if_else(mask, value, table[name]))
    return table


def _blank(path: Path, removal: Removal) -> int:
    """Take the text out of records; their rows stay, because rows are counted."""

    def blank(table: pa.Table, mask: pa.Array) -> pa.Table:
        rows = pa.array(range(table.num_rows), pa.int64(), mask=mask.to_numpy(zero_copy_only=False))
        for at, field in enumerate(table.schema):
            if field.name not in _KEPT_COLUMNS:
                table = table.set_column(at, field, table[at].take(rows))
        return table

    return _change(path, lambda table: pa.array(contained(from_hex(table["content_hash"]), removal.hashes)), blank)


def _change(path: Path, choose: Callable[[pa.Table], Any], change: Callable[[pa.Table, Any], pa.Table]) -> int:
    """Rewrite a Parquet file if any row is chosen; returns how many were."""
    names = [name for name in ("record_id", "content_hash") if name in pq.read_schema(path).names]
    mask = choose(pq.read_table(path, columns=names))
    count = int(pc.sum(mask).as_py() or 0)
    if count:
        _write(path, change(pq.read_table(path), mask))
    return count


def _write(path: Path, table: pa.Table) -> None:
    with table_writer(path, table.schema, bloom="record_id" if "record_id" in table.schema.names else None) as writer:
        writer.write(table)


def _without_rows(path: Path, column: str, names: frozenset[str]) -> int:
    """Take rows out of a Parquet file, and the file away if none is left; returns how many went."""
    mask = pc.is_in(pq.read_table(path, columns=[column])[column], pa.array(sorted(names)))
    count = int(pc.sum(mask).as_py() or 0)
    if count:
        left = pq.read_table(path).filter(pc.invert(mask))
        if left.num_rows:
            _write(path, left)
        else:
            path.unlink()
    return count


def _without_lines(path: Path, removal: Removal) -> int:
    """Take replies about the contents out of a journal."""
    lines = path.read_bytes().splitlines(keepends=True)
    left = [line for line in lines if _about(line) not in removal.hashes]
    if len(left) < len(lines):
        write_bytes(path, b"".join(left))
    return len(lines) - len(left)


def _about(line: bytes) -> str | None:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return value.get("about") if isinstance(value, dict) else None
