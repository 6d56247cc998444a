"""Arrow schemas of what a run writes beside its data: decisions, rewrites, and where each file lies."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

INGEST: Final = "ingest"
"""Stage name, at position 0, of the decision that lets a record in."""

DECISION: Final = pa.schema(
    [
        pa.field("record_id", pa.string(), nullable=False),
        pa.field("content_hash", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("source_id", pa.string()),
        pa.field("stage", pa.string(), nullable=False),  # `dedup`, `dedup#2`, ...
        pa.field("position", pa.int32(), nullable=False),  # of the stage in the recipe, 1-based
        pa.field("keep", pa.bool_(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("score", pa.float64()),
        pa.field("related_id", pa.string()),  # record_id of the kept twin, or the id of a benchmark item
        pa.field("detail", pa.string()),  # JSON
    ]
)

REWRITE: Final = pa.schema(
    [
        pa.field("record_id", pa.string(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("content_hash_before", pa.string(), nullable=False),
        pa.field("content_hash_after", pa.string(), nullable=False),
        pa.field("before", pa.string()),  # JSON of the content columns that changed
        pa.field("after", pa.string()),
        pa.field("model", pa.string()),
        pa.field("prompt_version", pa.string()),
        pa.field("tokens_in", pa.int64()),
        pa.field("tokens_out", pa.int64()),
        pa.field("cost", pa.float64()),
    ]
)

MANIFEST: Final = "manifest.json"
DATA: Final = "data"
DELTA: Final = "delta"
EXPORTS: Final = "exports"
"""Folder in a run for the shapes that its recipe asks for."""
QUARANTINE_DIR: Final = "quarantine"
LINEAGE_DIR: Final = "lineage"
DECISIONS_DIR: Final = f"{LINEAGE_DIR}/decisions"
SCORES_DIR: Final = f"{LINEAGE_DIR}/scores"
REWRITES_DIR: Final = f"{LINEAGE_DIR}/rewrites"
