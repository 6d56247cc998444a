"""Running one stage over the pool: score what is new, decide, and account for every row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.asking import Asker
from pipelines.executor import LocalExecutor
from pipelines.files import file_digest, table_writer, write_table
from pipelines.ids import Ids, digest_ids, marked, to_hex
from pipelines.lineage import (
    Tally,
    decisions_file,
    read_keep,
    stored_fingerprint,
    stored_warnings,
    tally,
    write_decisions,
)
from pipelines.pool import RunPool, Scored, ScoredPool
from pipelines.recipe import StageUse
from pipelines.rewriting import derived_key, rewrite_part
from pipelines.score_run import ScoreOutcome, StageContext, score_pool
from pipelines.scoring import Failure
from schemas.errors import RunError
from schemas.hashing import digest, fingerprint
from schemas.record import CONTENT_COLUMNS, QUARANTINE
from stages.contract import BoolArray, Decisions, Stage


@dataclass(frozen=True)
class Counters:
    """Rows scored in this run, rows whose scores were stored already, and whether the stage decided anew."""

    scored: int
    cached: int
    decided: bool


@dataclass(frozen=True)
class StageOutcome:
    """Everything the manifest says about a stage."""

    label: str
    position: int
    fingerprint: str
    rows_in: int
    kept: int
    quarantined: dict[str, int]  # by kind of error
    reasons: dict[str, int]  # of the dropped
    by_source: dict[str, dict[str, int]]
    warnings: list[str]
    counters: Counters


def run_stage(use: StageUse, pool: RunPool, context: StageContext) -> StageOutcome:
    """Run a stage and take the rows it drops out of `pool.alive`.

    Raises:
        RunError: if the rows do not add up, or the stage answers the wrong shape.
    """
    rows_in = len(pool)
    extras = context.extras[use.label]
    scores = score_pool(use.stage, pool, extras, context)
    bad_sources = _quarantine(use, pool, scores.failures, context.folder)
    path = context.folder / "lineage/decisions" / decisions_file(use.position, use.label)
    decided = _decide(use, pool, scores, path, context)
    counts = tally(path)
    pool.alive[pool.global_rows()] = read_keep(path)
    if use.stage.rewrites:
        _rewrite(use, pool, scores, context)
    bad_kinds = _count(failure.kind for _, failure in scores.failures)
    outcome = StageOutcome(
        use.label, use.position, scores.fingerprint, rows_in, counts.kept, bad_kinds, counts.reasons,
        _by_source(counts, bad_sources), stored_warnings(path), Counters(scores.scored, scores.cached, decided),
    )  # fmt: skip
    _check(outcome, len(pool))
    return outcome


def _quarantine(use: StageUse, pool: RunPool, failures: list[tuple[int, Failure]], folder: Path) -> dict[str, int]:
    """Take failed rows out of the pool and write them down; returns their number per source."""
    rows: list[dict[str, Any]] = []
    for row, failure in failures:
        source = pool.parts[int(np.searchsorted(pool.starts, row, side="right")) - 1].source
        rows.append(_quarantine_row(use.label, pool.record_ids[row : row + 1], source, failure))
        pool.alive[row] = False
    path = folder / "quarantine" / decisions_file(use.position, use.label)
    path.unlink(missing_ok=True)  # of an interrupted attempt, in which other rows may have failed
    if rows:
        write_table(path, pa.Table.from_pylist(rows, schema=QUARANTINE), level=3)
    return _count(row["source"] for row in rows)


def _quarantine_row(label: str, record: Ids, source: str, failure: Failure) -> dict[str, Any]:
    return {
        "source": source, "file": None, "row": None, "line": None, "record_id": to_hex(record)[0].as_py(),
        "stage": label, "kind": failure.kind, "field": failure.field, "error": failure.error, "raw": failure.raw,
    }  # fmt: skip


def _decide(use: StageUse, pool: RunPool, scores: ScoreOutcome, path: Path, context: StageContext) -> bool:
    """Decide and write scores and decisions, unless an interrupted run had already decided the same."""
    columns = tuple(scores.table.schema().names) if len(scores.table) else ()
    own = Scored(scores.table, columns, pool.content_hashes)
    extras = context.extras[use.label]
    asked = context.store.scores(f"{use.stage.name}-asked", scores.fingerprint)
    asker = Asker(use.stage, pool, asked, scores.state, context.reporter.tell)
    mapper = partial(context.executor.map, runs_in="thread", needs=use.stage.needs)
    earlier = dict(context.earlier)
    context.earlier[use.label] = own
    published = _published(use, pool, context)
    name = _decision_fingerprint(use, pool, scores.fingerprint, extras.keys, published)
    if stored_fingerprint(path) == name:
        return False
    with _shared(context) as shared:
        view = ScoredPool(pool, own, earlier, extras.pools, asker, mapper, shared)
        _write_scores(use, own, view, context.folder)
        decisions = _decisions(use, view, published) if len(pool) else Decisions(np.zeros(0, np.bool_), [])
    context.used.append(asked.folder)
    write_decisions(path, pool, use.label, use.position, decisions, name)
    return True


def _shared(context: StageContext) -> AbstractContextManager[Path | None]:
    """A folder for the files of a decision's tasks, where these do not run in this process."""
    return nullcontext() if isinstance(context.executor, LocalExecutor) else context.store.scratch()


def _published(use: StageUse, pool: RunPool, context: StageContext) -> BoolArray | None:
    """Which of the rows that reach a stage are published; None if it does not ask."""
    if context.published is None or not use.stage.prefers_published():
        return None
    return context.published[pool.alive]


def _decisions(use: StageUse, view: ScoredPool, published: BoolArray | None) -> Decisions:
    """What the stage decides; a rewriting stage without a `decide` of its own keeps everybody."""
    if use.stage.rewrites and type(use.stage).decide is Stage.decide:
        return _all_kept(view)
    return use.stage.decide(view) if published is None else use.stage.decide_preferring(view, published)


def _all_kept(view: ScoredPool) -> Decisions:
    """Everybody stays, and the reason says what happened to the content."""
    status = view.table(["rewrite_status"])["rewrite_status"].combine_chunks()
    return Decisions(np.ones(len(view), np.bool_), status)


def _decision_fingerprint(
    use: StageUse, pool: RunPool, scores: str, inputs: list[str], published: BoolArray | None
) -> str:
    rows = digest_ids(marked(pool.record_ids, pool.alive), pool.living_hashes())
    return fingerprint(
        {
            "label": use.label, "position": use.position, "scores": scores, "version": use.stage.version,
            "parameters": use.stage.parameters(), "rows": rows.hex(),
            "inputs": inputs, "recalled": [file_digest(Path(path)) for path in use.stage.recalls()],
            "published": None if published is None else digest(published.tobytes()).hex(),
        }
    )  # fmt: skip


def _write_scores(use: StageUse, own: Scored, view: ScoredPool, folder: Path) -> None:
    """Public score columns of every living row, for people to query."""
    hidden = {*use.stage.internal, *(CONTENT_COLUMNS if use.stage.rewrites else ())}
    public = [name for name in own.columns if name not in hidden]
    if not public or not len(view):
        return
    path = folder / "lineage/scores" / use.label.replace("#", "-") / "part-00000.parquet"
    fields = [own.table.schema().field(name) for name in public]
    schema = pa.schema([pa.field("record_id", pa.string(), nullable=False), *fields])
    with table_writer(path, schema, bloom="record_id") as writer:
        for batch in view.scores(["record_id", *public]):
            writer.write(pa.Table.from_batches([batch]).cast(schema))


def _rewrite(use: StageUse, pool: RunPool, scores: ScoreOutcome, context: StageContext) -> None:
    """Replace rewritten content in the pool and write down what changed."""
    changes: list[pa.Table] = []
    for number, part in enumerate(pool.parts):
        rows = pool.living(number)
        if not len(rows):
            continue
        folder = context.store.derived(derived_key(part, scores.fingerprint, rows))
        context.used.append(folder)
        result = rewrite_part(part, rows, scores.table, use.label, folder)
        pool.replace(number, result.part)
        changes.append(result.changes)
    changed = pa.concat_tables(changes) if changes else None
    if changed is not None and changed.num_rows:
        path = context.folder / "lineage/rewrites" / decisions_file(use.position, use.label)
        write_table(path, changed, level=3)


def _by_source(counts: Tally, quarantined: dict[str, int]) -> dict[str, dict[str, int]]:
    table = {}
    for source in sorted({*counts.by_source, *quarantined}):
        rows, kept = counts.by_source.get(source, (0, 0))
        bad = quarantined.get(source, 0)
        table[source] = {"rows_in": rows + bad, "kept": kept, "dropped": rows - kept, "quarantined": bad}
    return table


def _count(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _check(outcome: StageOutcome, left: int) -> None:
    """The row invariant: everything that came in was kept, dropped or quarantined."""
    dropped, bad = sum(outcome.reasons.values()), sum(outcome.quarantined.values())
    if outcome.rows_in != outcome.kept + dropped + bad or outcome.kept != left:
        raise RunError(
            f"stage '{outcome.label}' lost rows: {outcome.rows_in} in, {outcome.kept} kept, {dropped} dropped, "
            f"{bad} quarantined, {left} go on; this is a bug, and nothing was published"
        )
