"""`curate diff`: what changed between two runs: rows, decisions, parameters and inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from reports.catalog import Catalog, connect_pair
from reports.manifest import Manifest, load
from reports.text import Change, excerpt, plain, shortened, word_diff

# Who a row is: the user's own id where there is one, else where it was read. Positions shift when files grow.
_WHO: Final = "source || chr(0) || coalesce(source_id, origin)"
_ROWS: Final = f"""
WITH a AS (SELECT {_WHO} AS who, content_hash, record_id, source FROM a.records),
b AS (SELECT {_WHO} AS who, content_hash, record_id, source FROM b.records),
gone AS (SELECT * FROM a ANTI JOIN b USING (content_hash)),
new AS (SELECT * FROM b ANTI JOIN a USING (content_hash)),
changed AS (SELECT new.source, gone.record_id AS before_id, new.record_id AS after_id FROM gone JOIN new USING (who))
"""
_KINDS: Final = {
    "removed": "SELECT source, record_id AS before_id, NULL AS after_id FROM gone ANTI JOIN new USING (who)",
    "added": "SELECT source, NULL AS before_id, record_id AS after_id FROM new ANTI JOIN gone USING (who)",
    "changed": "SELECT source, before_id, after_id FROM changed",
}
# A record's last decision is its fate; where only drops were written, the others are known from data/.
_FATE: Final = """
SELECT source || chr(0) || coalesce(source_id, record_id) AS who, content_hash, record_id, source, source_id,
       last.keep AS keep, last.stage AS stage, last.reason AS reason, last.score AS score
FROM (SELECT record_id, any_value(content_hash) AS content_hash, any_value(source) AS source,
             any_value(source_id) AS source_id,
             arg_max({{'keep': keep, 'stage': stage, 'reason': reason, 'score': score}}, position) AS last
      FROM {run}.decisions GROUP BY record_id)
UNION ALL
SELECT source || chr(0) || coalesce(source_id, record_id), content_hash, record_id, source, source_id,
       true, NULL, NULL, NULL
FROM {run}.records ANTI JOIN {run}.decisions USING (record_id)"""
_DECISIONS: Final = f"""
WITH a AS ({_FATE.format(run="a")}), b AS ({_FATE.format(run="b")}),
pairs AS (
    SELECT b.record_id, b.source, b.source_id, a.score AS score_before, b.score AS score_after,
           CASE WHEN a.keep THEN 'kept' ELSE a.stage || ': ' || a.reason END AS before,
           CASE WHEN b.keep THEN 'kept' ELSE b.stage || ': ' || b.reason END AS after
    FROM a JOIN b USING (who, content_hash)
)
"""
_SAMPLES: Final = """
SELECT * FROM pairs WHERE before <> after
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
        kind: dict(
            catalog.sql(f"{_ROWS} SELECT source, count(*) FROM ({query}) GROUP BY source ORDER BY source").fetchall()
        )
        for kind, query in _KINDS.items()
    }


def _samples(catalog: Catalog, kind: str, each: int) -> Iterator[RowSample]:
    query = f"{_ROWS} SELECT * FROM ({_KINDS[kind]}) ORDER BY coalesce(after_id, before_id) LIMIT $each"
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
    counted = f"{_DECISIONS} SELECT before, after, count(*) FROM pairs WHERE before <> after GROUP BY ALL"
    samples = catalog.rows(_DECISIONS + _SAMPLES, {"each": each})
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
