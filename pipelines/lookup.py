"""Finding records that a run dropped: their text is in the store, not in `data/`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds

Lookup = Callable[[Sequence[str]], Mapping[str, Mapping[str, Any]]]


def stored_records(manifest: Mapping[str, Any]) -> Lookup:
    """A function from record ids to the records as they were read, for as long as the store keeps them."""
    pool = Path(manifest["store"]) / "pool"
    keys = [file["key"] for source in manifest["sources"] for file in source["files"]]

    def find(ids: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        parts = [str(path) for key in keys for path in sorted((pool / key).glob("part-*.parquet"))]
        if not parts or not ids:
            return {}
        rows = ds.dataset(parts).to_table(filter=ds.field("record_id").isin(list(ids))).to_pylist()
        return {row["record_id"]: row for row in rows}

    return find
