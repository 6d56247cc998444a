"""`curate diff`: what changed between two runs: rows, decisions, parameters and inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from reports.catalog import Catalog, connect_pair
from reports.manifest import Manifest, load
from reports.text import Change, excerpt, plain, shortened, word_diff

# Made once, as small tables: rows whose content the other run does not have, and rows that a run let go.
_TABLES: Final = {
    "gone": "SELECT source, source_id, origin, record_id FROM a.records ANTI JOIN b.records USING (content_hash)",
    "new": "SELECT source, source_id, origin, record_id FROM b.records ANTI JOIN a.records USING (content_hash)",
    **{
        f"left_{run}": f"""
SELECT source, source_id, record_id, content_hash, stage || ': ' || reason AS fate, score
FROM {run}.decisions WHERE NOT keep
UNION ALL
SELECT d.source, d.source_id, d.record_id, d.content_hash, q.stage || ': quarantined, ' || q.kind, NULL
FROM {run}.quarantine AS q JOIN {run}.decisions AS d ON d.record_id = q.record_id AND d.position = 0"""
        for run in ("a", "b")
    },
    # Where only drops were written, data/ tells who else was read.
    **{
        f"read_{run}": f"""
SELECT source, source_id, record_id, content_hash
FROM (SELECT source, source_id, record_id, content_hash FROM {run}.decisions WHERE position = 0
      UNION ALL SELECT source, source_id, record_id, content_hash FROM {run}.records)
SEMI JOIN left_{other} USING (content_hash)"""
        for run, other in (("a", "b"), ("b", "a"))
    },
}
# Who a row is: the user's own id where there is one, else where it was read. Positions shift when files grow.
_SAME_ROW: Final = """
gone.source = new.source AND coalesce(gone.source_id, gone.origin) = coalesce(new.source_id, new.origin)"""
_KINDS: Final = {
    "removed": f"SELECT source, record_id AS before_id, NULL AS after_id FROM gone ANTI JOIN new ON {_SAME_ROW}",
    "added": f"SELECT source, NULL AS before_id, record_id AS after_id FROM new ANTI JOIN gone ON {_SAME_ROW}",
    "changed": f"""
SELECT new.source, gone.record_id AS before_id, new.record_id AS after_id FROM gone JOIN new ON {_SAME_ROW}""",
}
_SAME_RECORD: Final = """
x.source = y.source AND x.content_hash = y.content_hash
AND coalesce(x.source_id, x.record_id) = coalesce(y.source_id, y.record_id)"""
_PAIRS: Final = f"""
SELECT y.record_id, y.source, y.source_id, x.fate AS before, y.fate AS after, x.score AS score_before,
       y.score AS score_after
FROM left_a AS x JOIN left_b AS y ON {_SAME_RECORD} WHERE x.fate <> y.fate
UNION ALL
SELECT record_id, source, source_id, fate, 'kept', score, NULL FROM left_a AS x
WHERE EXISTS (FROM read_b AS y WHERE {_SAME_RECORD}) AND NOT EXISTS (FROM left_b AS y WHERE {_SAME_RECORD})
UNION ALL
SELECT record_id, source, source_id, 'kept', fate, NULL, score FROM left_b AS x
WHERE EXISTS (FROM read_a AS y WHERE {_SAME_RECORD}) AND NOT EXISTS (FROM left_a AS y WHERE {_SAME_RECORD})"""
_SAMPLES: Final = """
SELECT * FROM pairs
QUALIFY row_number() OVER (PARTITION BY before, after ORDER BY record_id) <= $each ORDER BY before, after, record_id"""


@dataclass(frozen=True)
class RowSample:
    """A row that came, went or changed; `changes` lead from the old text to the new."""

    source: str
    record_id: str
    source_id: str | None
    text: str
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Transition:
    """Rows whose fate changed in the same way: `kept`, or `stage: reason` of the drop."""

    before: str
    after: str
    rows: int
    samples: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Difference:
    """What leads from run A to run B. `settings` and `inputs` map a name to its value in A and in B."""

    rows_before: int
    rows_after: int
    counts: dict[str, int]
    by_source: dict[str, dict[str, int]]
    samples: dict[str, tuple[RowSample, ...]]
    transitions: tuple[Transition, ...]
    settings: dict[str, tuple[Any, Any]]
    inputs: dict[str, tuple[Any, Any]]

    @property
    def same(self) -> bool:
        """Whether both runs hold the same rows for the same reasons, made in the same way from the same inputs."""
        return not (any(self.counts.values()) or self.transitions or self.settings or self.inputs)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return asdict(self)


def difference(first: Path, second: Path, each: int = 3) -> Difference:
    """Compare two runs, with up to `each` samples per kind of change. Raises RecipeError if one is not a run.

    Rows are the same if their content is. A row whose content is new counts as changed if the other run has lost a
    row of the same source and user id (or origin), else as added; decisions are compared for rows read by both.
    """
    before, after = load(first), load(second)
    with connect_pair(first, second) as catalog:
        for name, query in _TABLES.items():
            catalog.remember(name, query)
        counts = _counts(catalog)
        return Difference(
            rows_before=_number(catalog, "SELECT count(*) FROM a.records"),
            rows_after=_number(catalog, "SELECT count(*) FROM b.records"),
            counts={kind: sum(by_source.values()) for kind, by_source in counts.items()},
            by_source=counts,
            samples={kind: tuple(_samples(catalog, kind, each)) for kind in _KINDS},
            transitions=tuple(_transitions(catalog, each)),
            settings=_changed(dict(_settings(before)), dict(_settings(after))),
            inputs=_changed(_inputs(before), _inputs(after)),
        )


def _number(catalog: Catalog, query: str) -> int:
    return int(catalog.sql(query).fetchall()[0][0])


def _counts(catalog: Catalog) -> dict[str, dict[str, int]]:
    return {
        kind: dict(catalog.sql(f"SELECT source, count(*) FROM ({query}) GROUP BY source ORDER BY source").fetchall())
        for kind, query in _KINDS.items()
    }


def _samples(catalog: Catalog, kind: str, each: int) -> Iterator[RowSample]:
    query = f"SELECT * FROM ({_KINDS[kind]}) ORDER BY coalesce(after_id, before_id) LIMIT $each"
    for row in catalog.rows(query, {"each": each}):
        old, new = _record(catalog, "a", row["before_id"]), _record(catalog, "b", row["after_id"])
        shown = new or old
        yield RowSample(
            source=row["source"],
            record_id=shown["record_id"],
            source_id=shown["source_id"],
            text=excerpt(plain(shown)),
            changes=tuple(shortened(word_diff(plain(old), plain(new)))) if old and new else (),
        )


def _record(catalog: Catalog, run: str, record_id: str | None) -> Mapping[str, Any]:
    if record_id is None:
        return {}
    rows = catalog.rows(f"SELECT * FROM {run}.records WHERE record_id = ? LIMIT 1", [record_id])
    return rows[0]


def _transitions(catalog: Catalog, each: int) -> Iterator[Transition]:
    catalog.remember("pairs", _PAIRS)
    counted = "SELECT before, after, count(*) FROM pairs GROUP BY ALL"
    samples = catalog.rows(_SAMPLES, {"each": each})
    for before, after, rows in sorted(catalog.sql(counted).fetchall(), key=lambda row: (-row[2], row[0], row[1])):
        mine = [row for row in samples if (row["before"], row["after"]) == (before, after)]
        yield Transition(before, after, rows, tuple(mine))


def _settings(run: Manifest) -> Iterator[tuple[str, Any]]:
    """Everything chosen for a run, by dotted name."""
    yield "seed", run.seed
    yield "stages", [stage.stage for stage in run.stages]
    for stage in run.stages:
        yield from ((f"{stage.stage}.{key}", value) for key, value in stage.params.items())
    yield "curatrix", run.created_with.curatrix
    yield from ((f"library {name}", version) for name, version in run.created_with.libs.items())


def _inputs(run: Manifest) -> dict[str, Any]:
    """Rows and digest of every input file."""
    return {
        f"{source.name}: {file.path}": f"{file.rows:,} rows, {file.digest or 'no digest'}"
        for source in run.sources
        for file in source.files
    }


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Names whose value differs, None where one side does not have it."""
    names = dict.fromkeys([*before, *after])
    return {name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}
