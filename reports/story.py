"""`curate explain`: everything a run knows about one record."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import orjson

from reports.catalog import Catalog, open_views
from reports.manifest import Manifest, load, run_dir
from reports.records import Lookup, Records, fetch, nowhere
from reports.spans import Span, span_of
from reports.text import Change, excerpt, plain, word_diff
from reports.thresholds import thresholds
from schemas.errors import RecipeError
from schemas.lineage import INGEST

Outcome = Literal["kept", "dropped", "quarantined"]

# Kept records have no decisions where only drops were written, quarantined ones no row in data/.
_IDS: Final = """
SELECT record_id, source, source_id FROM decisions UNION SELECT record_id, source, source_id FROM records
UNION SELECT record_id, source, NULL FROM quarantine WHERE record_id IS NOT NULL"""
_FIND: Final = f"""
SELECT record_id, any_value(source) AS source, any_value(source_id) AS source_id, bool_or(record_id = $key) AS exact
FROM ({_IDS})
WHERE starts_with(record_id, $prefix) OR source_id = $key OR source || ':' || source_id = $key
GROUP BY record_id ORDER BY exact DESC, source, record_id LIMIT 6"""
_NEAREST: Final = f"""
WITH ids AS (SELECT record_id, any_value(source) AS source, any_value(source_id) AS source_id
             FROM ({_IDS}) GROUP BY record_id)
SELECT * FROM ids ORDER BY list_max(list_transform([record_id, source_id, source || ':' || source_id],
    lambda name: coalesce(jaro_winkler_similarity(name, $key), 0))) DESC, record_id LIMIT 3"""


@dataclass(frozen=True)
class Related:
    """The record (or item of another set) that a decision refers to. `changes` lead from it to the record, both as
    they were read."""

    related_id: str
    source: str | None
    source_id: str | None
    text: str | None
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Step:
    """One stage's decision, the limits it compared the score with, and the scores it had."""

    stage: str
    position: int
    keep: bool
    reason: str
    score: float | None
    limits: dict[str, float]
    scores: dict[str, Any]
    related: Related | None
    detail: Any


@dataclass(frozen=True)
class Rewrite:
    """A change of content by a stage: word by word, for every column that changed."""

    stage: str
    status: str
    model: str | None
    prompt_version: str | None
    tokens_in: int | None
    tokens_out: int | None
    cost: float | None
    columns: dict[str, tuple[Change, ...]]


@dataclass(frozen=True)
class Story:
    """A record from its source to its fate. `text` is None where neither the run nor the lookup has it."""

    record_id: str
    content_hash: str | None
    source: str
    source_id: str | None
    origin: str | None
    outcome: Outcome
    split: str | None
    text: str | None
    steps: tuple[Step, ...]
    rewrites: tuple[Rewrite, ...]
    quarantine: tuple[dict[str, Any], ...]
    spans: tuple[Span, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return asdict(self)


def story(directory: Path, key: str, lookup: Lookup = nowhere) -> Story:
    """The story of the record that `key` names: its record_id or a unique beginning of it, the user's own id, or
    `source:id`.

    `lookup` may know records that are not in data/ (dropped ones). Raises RecipeError if `directory` is not a run,
    or if `key` names no record (with the nearest ids) or several.
    """
    root = run_dir(directory)
    manifest = load(root)
    with open_views(root, manifest) as catalog:
        return _story(catalog, manifest, resolve(catalog, key), lookup)


def resolve(catalog: Catalog, key: str) -> str:
    """The record_id that `key` names. Raises RecipeError if there is none, or more than one."""
    key = key.strip()
    # Short beginnings of an id are never meant; they would turn a user's own id `12` into thousands of records.
    prefix = key.lower() if re.fullmatch(r"[0-9a-fA-F]{4,32}", key) else " "
    found = catalog.rows(_FIND, {"key": key, "prefix": prefix})
    if len(found) == 1 or (found and found[0]["exact"]):
        return str(found[0]["record_id"])
    if found:
        raise RecipeError(f"'{key}' names several records: {_listed(found)}{', ...' if len(found) > 5 else ''}")
    nearest = catalog.rows(_NEAREST, {"key": key})
    hint = f"; nearest: {_listed(nearest)}" if nearest else "; this run has no records"
    raise RecipeError(f"no record '{key}' in this run{hint}")


def _listed(found: list[dict[str, Any]]) -> str:
    return ", ".join(
        f"{row['record_id']} ({row['source']}{':' + row['source_id'] if row['source_id'] else ''})" for row in found[:5]
    )


def _story(catalog: Catalog, manifest: Manifest, record_id: str, lookup: Lookup) -> Story:
    decisions = catalog.rows("SELECT * FROM decisions WHERE record_id = ? ORDER BY position", [record_id])
    quarantine = catalog.rows("SELECT * FROM quarantine WHERE record_id = ?", [record_id])
    changes = catalog.rows("SELECT * FROM rewrites WHERE record_id = ?", [record_id])
    related = [row["related_id"] for row in decisions if row["related_id"]]
    as_read = fetch(catalog, [record_id, *related], lookup)
    record = fetch(catalog, [record_id]).get(record_id) or as_read.get(record_id, {})
    # Of a record that was quarantined before any decision only the quarantine knows the source.
    known = [*quarantine[:1], record, *decisions[:1]]
    identity = {name: value for row in known for name, value in row.items() if value is not None}
    return Story(
        record_id=record_id,
        content_hash=identity.get("content_hash"),
        source=identity["source"],
        source_id=identity.get("source_id"),
        origin=record.get("origin") or _ingest_detail(decisions, "origin"),
        outcome=_outcome(decisions, bool(quarantine)),
        split=record.get("split"),
        text=plain(record) if record else None,
        steps=tuple(_step(catalog, manifest, row, as_read) for row in decisions),
        rewrites=tuple(_rewrite(row) for row in changes),
        spans=tuple(
            filter(None, (span_of(row["stage"], _json(row["detail"]), as_read.get(record_id, {})) for row in decisions))
        ),
        quarantine=tuple({**row, "raw": (row["raw"] or b"").decode("utf-8", "backslashreplace")} for row in quarantine),
    )


def _outcome(decisions: list[dict[str, Any]], quarantined: bool) -> Outcome:
    if quarantined:
        return "quarantined"
    return "kept" if all(row["keep"] for row in decisions) else "dropped"


def _ingest_detail(decisions: list[dict[str, Any]], key: str) -> str | None:
    details = (_json(row["detail"]) for row in decisions if row["stage"] == INGEST)
    return next((detail[key] for detail in details if isinstance(detail, dict) and key in detail), None)


def _step(catalog: Catalog, manifest: Manifest, row: Mapping[str, Any], as_read: Records) -> Step:
    stage = manifest.find_stage(row["stage"])
    return Step(
        stage=row["stage"],
        position=row["position"],
        keep=row["keep"],
        reason=row["reason"],
        score=row["score"],
        limits=thresholds(stage.params) if stage else {},
        scores=_scores(catalog, row),
        related=_related(catalog, row, as_read) if row["related_id"] else None,
        detail=_json(row["detail"]),
    )


def _scores(catalog: Catalog, row: Mapping[str, Any]) -> dict[str, Any]:
    """The stage's own score columns of this record; score tables are keyed by record or by content."""
    view = "scores_" + re.sub(r"\W", "_", row["stage"])
    query = "SELECT column_name FROM duckdb_columns() WHERE table_name = ?"
    columns = [name for (name,) in catalog.sql(query, [view]).fetchall()]
    key = next((name for name in ("record_id", "content_hash") if name in columns), None)
    if key is None:
        return {}
    found = catalog.rows(f'SELECT * FROM "{view}" WHERE {key} = ? LIMIT 1', [row[key]])
    return {name: value for name, value in (found[0] if found else {}).items() if name not in row}


def _related(catalog: Catalog, row: Mapping[str, Any], as_read: Records) -> Related:
    related_id, record = row["related_id"], as_read.get(row["record_id"])
    twin = as_read.get(related_id)
    named = catalog.rows("SELECT source, source_id FROM decisions WHERE record_id = ? LIMIT 1", [related_id])
    known: Mapping[str, Any] = twin or (named[0] if named else {})
    text = plain(twin) if twin else None
    return Related(
        related_id=related_id,
        source=known.get("source"),
        source_id=known.get("source_id"),
        text=excerpt(text, 400) if text else None,
        changes=tuple(word_diff(text, plain(record))) if text and record else (),
    )


def _rewrite(row: Mapping[str, Any]) -> Rewrite:
    before, after = _json(row["before"]) or {}, _json(row["after"]) or {}
    names = sorted({*before, *after})
    return Rewrite(
        stage=row["stage"],
        status=row["status"],
        model=row["model"],
        prompt_version=row["prompt_version"],
        tokens_in=row["tokens_in"],
        tokens_out=row["tokens_out"],
        cost=row["cost"],
        columns={name: tuple(word_diff(_text(name, before), _text(name, after))) for name in names},
    )


def _text(column: str, content: Mapping[str, Any]) -> str:
    value = content.get(column)
    if column == "messages":
        return plain({"messages": value})
    return value if isinstance(value, str) else "" if value is None else orjson.dumps(value).decode()


def _json(text: str | None) -> Any:
    """Parsed JSON; what is none stays as it is."""
    if text is None:
        return None
    try:
        return orjson.loads(text)
    except ValueError:
        return text
