"""A few rows of a run that say more than counts: dropped rows with their twins, and quarantined ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from reports.catalog import Catalog
from reports.records import Lookup, fetch, nowhere
from reports.text import Change, excerpt, plain, shortened, word_diff

# The hash of the id chooses: the same run always shows the same rows, and not just those of its first file.
_DROPS: Final = """
SELECT stage, position, reason, source, source_id, record_id, score, related_id, detail FROM decisions WHERE NOT keep
QUALIFY row_number() OVER (PARTITION BY stage, reason ORDER BY record_id) <= $each ORDER BY position, reason, record_id
LIMIT $limit"""
_BAD: Final = """
SELECT stage, kind, source, file, row, line, error, raw FROM quarantine
QUALIFY row_number() OVER (PARTITION BY stage, kind ORDER BY source, file, row) <= $each
ORDER BY stage, kind, source, file, row LIMIT $limit"""


@dataclass(frozen=True)
class Dropped:
    """A dropped row; `text` is None where the run does not hold it, `twin` where it refers to none that is kept."""

    stage: str
    reason: str
    source: str
    source_id: str | None
    record_id: str
    score: float | None
    related_id: str | None
    text: str | None
    twin: str | None
    changes: tuple[Change, ...]


def dropped(catalog: Catalog, each: int = 3, limit: int = 36, lookup: Lookup = nowhere) -> list[Dropped]:
    """Up to `each` dropped rows per stage and reason, `limit` in all."""
    rows = catalog.rows(_DROPS, {"each": each, "limit": limit})
    ids = [row["record_id"] for row in rows] + [row["related_id"] for row in rows if row["related_id"]]
    texts = {name: plain(record) for name, record in fetch(catalog, ids, lookup).items()}
    return [_dropped(row, texts) for row in rows]


def quarantined(catalog: Catalog, each: int = 2, limit: int = 12) -> list[dict[str, Any]]:
    """Up to `each` quarantined rows per stage and kind, the original bytes as a short text."""
    rows = catalog.rows(_BAD, {"each": each, "limit": limit})
    return [{**row, "raw": excerpt((row["raw"] or b"")[:2000].decode("utf-8", "replace"), 160)} for row in rows]


def _dropped(row: Mapping[str, Any], texts: Mapping[str, str]) -> Dropped:
    text, twin = texts.get(row["record_id"]), texts.get(row["related_id"] or "")
    both = text is not None and twin is not None
    return Dropped(
        stage=row["stage"],
        reason=row["reason"],
        source=row["source"],
        source_id=row["source_id"],
        record_id=row["record_id"],
        score=row["score"],
        related_id=row["related_id"],
        text=None if text is None else excerpt(text, 300),
        twin=None if twin is None else excerpt(twin, 300),
        changes=tuple(shortened(word_diff(twin or "", text or ""))) if both else (),
    )
