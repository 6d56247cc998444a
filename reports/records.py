"""Records of a run by id: as they were read (from the store), or as they were written (from data/)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb

from pipelines.store import Store
from reports.catalog import Catalog
from reports.manifest import Manifest

Records = Mapping[str, Mapping[str, Any]]
"""Record id -> canonical record as a dict."""
Lookup = Callable[[Sequence[str]], Records]
"""Finds records by id; those that it does not know are left out."""


def nowhere(ids: Sequence[str]) -> Records:
    """The lookup that knows no record."""
    return {}


def stored(manifest: Manifest) -> Lookup:
    """A lookup in the store that the run read its sources into: it knows dropped records too, while the store lasts."""
    if not manifest.store:
        return nowhere
    store = Store(Path(manifest.store))
    keys = [file.key for source in manifest.sources for file in source.files if file.key]
    parts = sorted(path.as_posix() for key in keys for path in store.pool(key).glob("part-*.parquet"))
    return lambda ids: _read(parts, ids)


def fetch(catalog: Catalog, ids: Sequence[str], lookup: Lookup = nowhere) -> Records:
    """Records by id, as read where `lookup` knows them, else as they are in data/."""
    wanted = sorted(set(ids))
    found = dict(lookup(wanted)) if wanted else {}
    missing = [name for name in wanted if name not in found]
    if missing:
        rows = catalog.rows(f"SELECT * FROM records WHERE record_id IN ({_marks(missing)})", missing)
        found.update({row["record_id"]: row for row in rows})
    return found


def _read(parts: Sequence[str], ids: Sequence[str]) -> Records:
    if not parts or not ids:
        return {}
    query = f"SELECT * FROM read_parquet($1) WHERE record_id IN ({_marks(ids)})"
    with duckdb.connect(":memory:") as connection:
        rows = connection.sql(query.replace("$1", "?"), params=[list(parts), *ids]).to_arrow_table().to_pylist()
    return {row["record_id"]: row for row in rows}


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" * len(values))
