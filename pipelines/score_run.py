"""Scores for every living row: fit where a stage fits, score what the store does not hold yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from pipelines.executor import Executor
from pipelines.extras import Extras
from pipelines.files import file_digest
from pipelines.fitting import fit_stage, state_digest
from pipelines.ids import Ids, Index, marked
from pipelines.pool import RunPool, Scored
from pipelines.progress import Reporter
from pipelines.scoring import Failure, ScoreReport, ScoreTask, load_state, score_task
from pipelines.store import ScoreTable, Store
from pipelines.streaming import stream_rows
from schemas.hashing import digest, fingerprint
from stages.contract import BoolArray, IntArray, Stage


@dataclass(frozen=True)
class StageContext:
    """What every stage of a run shares. `used` collects the store folders that the run needs."""

    store: Store
    executor: Executor
    reporter: Reporter
    folder: Path  # where the run's output is being built
    earlier: dict[str, Scored]
    used: list[Path]
    extras: Mapping[str, Extras]  # by stage label
    published: BoolArray | None  # of all records of the run, those that are published; None where no stage asks


@dataclass(frozen=True)
class ScoreOutcome:
    """Where the scores are, how many were made now or found, and the rows (run positions) that failed."""

    table: ScoreTable
    fingerprint: str
    state: Path | None  # file of the fitted state
    scored: int
    cached: int
    failures: list[tuple[int, Failure]]


def score_pool(stage: Stage, pool: RunPool, extras: Extras, context: StageContext) -> ScoreOutcome:
    """Make sure that every living row has its scores in the store, except rows that cannot be scored."""
    state = fit_stage(stage, score_fingerprint(stage, b""), pool, extras, context.store, context.reporter.tell)
    name = score_fingerprint(stage, state_digest(load_state(state)))
    table = context.store.scores(stage.name, name)
    context.used.extend([table.folder, *([state.parent] if state else [])])
    if not stage_scores(stage):
        return ScoreOutcome(table, name, state, 0, 0, [])
    for other in extras.pools.values() if stage.scores_inputs else ():
        _drop_failed(other, _score_rows(stage, other, table, state, context)[1])
    scored, failures = _score_rows(stage, pool, table, state, context)
    return ScoreOutcome(table, name, state, scored, len(pool) - scored - len(failures), failures)


def _drop_failed(pool: RunPool, failures: list[tuple[int, Failure]]) -> None:
    """Records of a stage's own sources that cannot be scored are not compared with."""
    pool.alive[[row for row, _ in failures]] = False


def _score_rows(
    stage: Stage, pool: RunPool, table: ScoreTable, state_path: Path | None, context: StageContext
) -> tuple[int, list[tuple[int, Failure]]]:
    """Score the contents that the store does not have; returns their number and the rows that failed."""
    living = pool.global_rows()
    hashes = pool.living_hashes()
    todo = living[first_of_each(hashes, table.has(hashes))]
    context.reporter.advance(len(living) - len(todo))
    if stage.runs_in == "stream":
        folder = context.store.journal(stage.name)
        return stream_rows(stage, pool, todo, load_state(state_path), table, folder, context.reporter), []
    tasks = list(_tasks(stage, pool, todo, state_path, table.folder))
    scored, failures = 0, list[tuple[int, Failure]]()
    for task, report in zip(tasks, context.executor.map(score_task, tasks, stage.runs_in, stage.needs), strict=True):
        scored += report.scored
        failures.extend(_located(task, report))
        context.reporter.advance(len(task.rows))
    if scored:
        table.refresh()
    return scored, _with_twins(pool, table, failures)


def stage_scores(stage: Stage) -> bool:
    """Whether a stage scores at all; one that only decides has nothing to store."""
    return stage.rewrites or stage.runs_in == "stream" or type(stage).score is not Stage.score


def score_fingerprint(stage: Stage, state: bytes) -> str:
    """Fingerprint of everything a stage's scores depend on besides the record; `state` digests what it fitted."""
    return fingerprint(
        {
            "stage": stage.name, "version": stage.version, "parameters": stage.scoring(),
            "inputs": [_input_digest(path) for path in stage.inputs()],
            "libraries": {name: _version(name) for name in stage.libraries}, "state": state.hex(),
        }
    )  # fmt: skip


def first_of_each(hashes: Ids, known: BoolArray) -> IntArray:
    """Indices of the first row of each content that is not known, ascending."""
    unknown = np.flatnonzero(~known)
    return unknown[Index(marked(hashes, ~known)).firsts()]


def _tasks(stage: Stage, pool: RunPool, todo: IntArray, state: Path | None, folder: Path) -> Iterator[ScoreTask]:
    for number, rows in pool.by_part(todo):
        for start in range(0, len(rows), stage.task_rows()):
            piece = rows[start : start + stage.task_rows()]
            hashes = pool.content_hashes[piece + pool.starts[number]]
            out = folder / f"{digest(hashes.tobytes()).hex()}.parquet"
            yield ScoreTask(stage, pool.parts[number], int(pool.starts[number]), piece, state, out)


def _located(task: ScoreTask, report: ScoreReport) -> list[tuple[int, Failure]]:
    return [(task.start + failure.row, failure) for failure in report.failures]


def _with_twins(pool: RunPool, table: ScoreTable, failures: list[tuple[int, Failure]]) -> list[tuple[int, Failure]]:
    """Every living row whose content failed, not only the one that was tried."""
    if not failures:
        return []
    by_hash = {pool.content_hashes[row].tobytes(): failure for row, failure in failures}
    living = pool.global_rows()
    missing = living[~table.has(pool.content_hashes[living])]
    return [(int(row), by_hash[pool.content_hashes[row].tobytes()]) for row in missing]


def _input_digest(path: str) -> str:
    return file_digest(Path(path)) if Path(path).is_file() else digest(_tree(Path(path))).hex()


def _tree(folder: Path) -> bytes:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return b"".join(f"{path.relative_to(folder)}\0{file_digest(path)}\n".encode() for path in files)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
