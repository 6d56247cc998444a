"""`curate clusters`: is the threshold right? The largest groups of copies, and the pairs on either side of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from reports.catalog import Catalog, open_views
from reports.manifest import load, run_dir
from reports.records import Lookup, Records, fetch, nowhere, stored
from reports.story_view import changes, indented
from reports.text import Change, excerpt, plain, shortened, word_diff
from schemas.errors import RecipeError, nearest

# Only stages that group copies write these keys into their details.
_PAIRS: Final = """
SELECT stage, position, record_id, source, source_id, keep, score, related_id,
       json_extract_string(detail, '$.cluster') AS cluster, json_extract_string(detail, '$.nearest') AS nearest
FROM decisions WHERE detail IS NOT NULL AND (contains(detail, '"cluster"') OR contains(detail, '"nearest"'))"""
_LARGEST: Final = """
SELECT stage, cluster, count(*) FILTER (NOT keep) AS dropped, min(score) FILTER (NOT keep) AS least,
       list(record_id ORDER BY score, record_id) FILTER (NOT keep)[1:3] AS members
FROM pairs WHERE cluster IS NOT NULL AND position = $position
GROUP BY ALL ORDER BY dropped DESC, cluster LIMIT $limit"""
_REMOVED: Final = """
SELECT record_id AS first, source, source_id, score, related_id AS second FROM pairs
WHERE NOT keep AND score < 1 AND position = $position ORDER BY score, record_id LIMIT $limit"""
_KEPT: Final = """
SELECT first, source, source_id, score, second FROM (
    SELECT record_id AS first, source, source_id, score, nearest AS second FROM pairs
    WHERE keep AND nearest IS NOT NULL AND position = $position)
QUALIFY row_number() OVER (PARTITION BY least(first, second), greatest(first, second) ORDER BY first) = 1
ORDER BY score DESC, first LIMIT $limit"""
_STAGES: Final = """
SELECT stage, position, count(*) FILTER (NOT keep) AS dropped, count(DISTINCT cluster) AS clusters
FROM pairs GROUP BY ALL ORDER BY position"""


@dataclass(frozen=True)
class Cluster:
    """A survivor and what was dropped for it; `least` is the lowest similarity among them, `members` the texts of up
    to three, the least similar first. A text is None where neither the run nor its store holds the record."""

    survivor: str
    text: str | None
    dropped: int
    least: float
    members: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True)
class Pair:
    """Two records and their real similarity; `changes` lead from the second (the kept one, if one was dropped)."""

    first: str
    second: str
    source: str
    source_id: str | None
    similarity: float
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Clusters:
    """What one stage grouped. `threshold` is its own, where it has one."""

    stage: str
    threshold: float | None
    dropped: int
    clusters: int
    largest: tuple[Cluster, ...]
    removed: tuple[Pair, ...]  # the least similar that still lost a row
    kept: tuple[Pair, ...]  # the most similar that both stayed

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return asdict(self)


def clusters(directory: Path, stage: str | None = None, limit: int = 5) -> list[Clusters]:
    """The groups of copies of every stage of a run that makes some, or of one; up to `limit` of each list.

    Raises RecipeError if `directory` is not a run, or `stage` is none of its stages that group copies.
    """
    manifest = load(directory)
    lookup = stored(manifest)
    thresholds = {entry.stage: entry.params.get("threshold") for entry in manifest.stages}
    with open_views(run_dir(directory), manifest) as catalog:
        catalog.remember("pairs", _PAIRS)
        found = catalog.rows(_STAGES)
        names = [row["stage"] for row in found]
        if stage is not None and stage not in names:
            raise RecipeError(f"no stage '{stage}' grouped copies in this run; {nearest(stage, names)}")
        wanted = [row for row in found if stage in (None, row["stage"])]
        return [_clusters(catalog, row, thresholds.get(row["stage"]), limit, lookup) for row in wanted]


def _clusters(
    catalog: Catalog, row: Mapping[str, Any], threshold: float | None, limit: int, lookup: Lookup = nowhere
) -> Clusters:
    chosen = {"position": row["position"], "limit": limit}
    largest, removed, kept = (catalog.rows(query, chosen) for query in (_LARGEST, _REMOVED, _KEPT))
    ids = [name for item in largest for name in (item["cluster"], *(item["members"] or ()))]
    ids += [item[side] for item in [*removed, *kept] for side in ("first", "second")]
    records = fetch(catalog, ids, lookup)
    return Clusters(
        stage=row["stage"],
        threshold=threshold,
        dropped=row["dropped"],
        clusters=row["clusters"],
        largest=tuple(_cluster(item, records) for item in largest if item["dropped"]),
        removed=tuple(_pair(item, records) for item in removed),
        kept=tuple(_pair(item, records) for item in kept),
    )


def _cluster(row: Mapping[str, Any], records: Records) -> Cluster:
    members = tuple((name, _text(records, name)) for name in row["members"])
    return Cluster(row["cluster"], _text(records, row["cluster"]), row["dropped"], row["least"], members)


def _pair(row: Mapping[str, Any], records: Records) -> Pair:
    first, second = records.get(row["first"]), records.get(row["second"])
    both = first is not None and second is not None
    changed = tuple(shortened(word_diff(plain(second or {}), plain(first or {})))) if both else ()
    return Pair(row["first"], row["second"], row["source"], row["source_id"], row["score"], changed)


def _text(records: Records, name: str) -> str | None:
    return excerpt(plain(records[name]), 200) if name in records else None


def render(found: Sequence[Clusters]) -> RenderableType:
    """All of it as a rich renderable."""
    if not found:
        return Text("no stage of this run groups copies")
    return Group(*(part for item in found for part in _stage(item)))


def _stage(found: Clusters) -> list[RenderableType]:
    limit = f", threshold {found.threshold:g}" if found.threshold is not None else ""
    head = Text(f"{found.stage}: {found.dropped:,} rows dropped in {found.clusters:,} clusters{limit}", "bold")
    parts: list[RenderableType] = [head]
    if found.largest:
        parts += [Text("\nlargest clusters", "bold"), _largest(found.largest)]
    for title, pairs in (
        ("least similar pairs that were still removed", found.removed),
        ("most similar pairs that were both kept", found.kept),
    ):
        if pairs:
            parts += [Text(f"\n{title}", "bold"), *(part for pair in pairs for part in _shown(pair))]
    return [*parts, Text()]


def _largest(largest: Sequence[Cluster]) -> Table:
    table = Table(show_edge=False, header_style="bold")
    table.add_column("dropped", justify="right")
    table.add_column("least similar", justify="right")
    table.add_column("kept record")
    for item in largest:
        named = Text(item.survivor).append(f"\n{item.text or 'not held by this run'}", "dim")
        table.add_row(f"{item.dropped:,}", f"{item.least:.3f}", named)
    return table


def _shown(pair: Pair) -> list[RenderableType]:
    own = f" {pair.source}{':' + pair.source_id if pair.source_id else ''}"
    head = Text(f"{pair.similarity:.3f}  ", "bold").append(f"{pair.first}{own} ~ {pair.second}", "dim")
    return [head, indented(changes(pair.changes) if pair.changes else Text("the text of one is not held by this run"))]
