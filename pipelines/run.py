"""One execution of a recipe, from files to a dataset directory with every row accounted for."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipelines.delta import write_delta
from pipelines.executor import Executor
from pipelines.export import plan_export, planned_rows, write_data
from pipelines.exporting import EXPORTED, explained, export_run, options
from pipelines.extras import Extras, ExtraUnits, find_extras, open_extras
from pipelines.files import read_json, table_writer, write_bytes
from pipelines.gates import check_losses, check_quarantine
from pipelines.ids import digest_ids
from pipelines.intake import Taken, Unit, find_units, open_pool, take_in
from pipelines.lineage import decisions_file, drops_only, stored_fingerprint, write_ingest
from pipelines.manifest import file_entries, source_entries, stage_entry, versions
from pipelines.pool import RunPool
from pipelines.previous import Publication, replaced_by, work_name
from pipelines.progress import EVENTS, Logged, Reporter
from pipelines.publish import check_ours, current_manifest, finish_interrupted, locked, publish, work_folder
from pipelines.recipe import Recipe, Shape, StageUse
from pipelines.remote import check_place, is_remote
from pipelines.score_run import StageContext, score_fingerprint
from pipelines.stage_run import Counters, StageOutcome, run_stage
from pipelines.store import Store
from pipelines.tombstones import REASON, bury, tombstones_fingerprint
from schemas.errors import RunError
from schemas.hashing import digest, fingerprint
from schemas.lineage import EXPORTS, INGEST
from schemas.record import QUARANTINE
from stages.contract import BoolArray

Documents = Callable[[Path, Mapping[str, Any]], Mapping[str, bytes]]
"""Makes the files that describe a run (card, catalog, report) from its folder and manifest."""


Step = Callable[[str, Callable[[], Any]], Any]
"""Runs one named step of a run; a flow makes a task of it."""


def _just_do(name: str, work: Callable[[], Any]) -> Any:
    return work()


@dataclass(frozen=True)
class Settings:
    """How to run, as opposed to what: nothing here changes the bytes written, except `limit`."""

    out: Path
    store: Store
    executor: Executor
    reporter: Reporter
    documents: Documents
    limit: int | None = None
    step: Step = _just_do
    place: str = ""  # the path or URL that `out` will be published at, if it is not `out` itself


@dataclass
class Job:
    """What a run knows while it runs. `name` is its fingerprint, `folder` where its output is being built."""

    recipe: Recipe
    settings: Settings
    name: str
    folder: Path
    reporter: Reporter
    extras: Mapping[str, Extras]
    previous: Publication | None = None  # what is published before this run, where a stage asks for it
    used: list[Path] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)


def run(recipe: Recipe, settings: Settings) -> dict[str, Any]:
    """Run a recipe and return its manifest. An interrupted run continues; a finished one is left as it is.

    Raises:
        RecipeError: something the recipe names is missing; nothing was written.
        GateError: too many rows in quarantine, or a source lost too much; nothing was published.
        RunError: anything else that stops the run; what was finished is kept for the next attempt.
    """
    check_ours(settings.out)
    if is_remote(settings.place):
        check_place(settings.place)
    for use in recipe.stages:
        use.stage.check()
    units = find_units(recipe, settings.limit)
    extra_units = find_extras(recipe)
    name = run_fingerprint(recipe, units, extra_units, tombstones_fingerprint(settings.store.root))
    done = current_manifest(settings.out)
    if done is not None and done["run_fingerprint"] == name and _complete(settings.out, done):
        settings.reporter.start("run")
        settings.reporter.finish("nothing to do: this directory already holds the result of this very run")
        settings.store.renew_use(name)
        if _missing_shapes(recipe, done, settings.out):
            with locked(settings.out):
                _export_also(recipe, done, settings)
        return done
    extras = open_extras(extra_units, settings.store, settings.executor, settings.reporter)
    with locked(settings.out):
        finished = finish_interrupted(settings.out)
        if finished is not None and finished["run_fingerprint"] == name:
            _export_also(recipe, finished, settings)
            return finished
        previous = replaced_by(recipe, settings.place, settings.out)
        folder = work_folder(settings.out, work_name(name, previous))
        reporter = Logged(settings.reporter, folder / EVENTS)
        job = Job(recipe, settings, name, folder, reporter, extras, previous)
        reporter.begin([INGEST, *(use.label for use in recipe.stages), "export"])
        try:
            manifest = execute(job, lambda: _take_in(job, units))
        except BaseException as error:
            reporter.fail(error)
            raise
        _export_also(recipe, manifest, settings)
        return manifest


def _missing_shapes(recipe: Recipe, manifest: Mapping[str, Any], out: Path) -> list[Shape]:
    """The other shapes a recipe asks for that are not there, made from this very run as it asks."""

    def is_there(shape: Shape) -> bool:
        path = out / EXPORTS / shape.to / EXPORTED
        there = read_json(path) if path.exists() else {"source": {}}
        same = there.get("options") == options(shape.lines, _tokenizer(shape), shape.when_unstable)
        return same and there["source"].get("run_fingerprint") == manifest["run_fingerprint"]

    return [shape for shape in recipe.export.also if not is_there(shape)]


def _tokenizer(shape: Shape) -> Path | None:
    return Path(shape.tokenizer) if shape.tokenizer else None


def _export_also(recipe: Recipe, manifest: Mapping[str, Any], settings: Settings) -> None:
    """Write the other shapes a recipe asks for, unless they are there."""
    for shape in _missing_shapes(recipe, manifest, settings.out):
        out, tokenizer = settings.out / EXPORTS / shape.to, _tokenizer(shape)
        settings.reporter.start(f"as {shape.to}")
        report = export_run(
            settings.out, shape.to, out, lines=shape.lines, tokenizer=tokenizer, when_unstable=shape.when_unstable
        )
        settings.reporter.finish(f"{report['rows']:,} of {report['rows_in']:,} rows")
        for line in explained(report):
            settings.reporter.warn(f"{shape.to}: {line}")


def run_fingerprint(recipe: Recipe, units: Sequence[Unit], extras: ExtraUnits, removed: str) -> str:
    """Fingerprint of a run: its recipe, the content of its inputs, what was `removed`, the versions that make it."""
    stages = [
        {"label": use.label, "parameters": use.stage.parameters(), "scores": score_fingerprint(use.stage, b"")}
        for use in recipe.stages
    ]
    inputs = {label: [unit.key for group in roles.values() for unit in group] for label, roles in extras.items()}
    gates = {"max_quarantine", "max_source_loss"}
    plain = recipe.model_dump(mode="json", include={"name", "seed", "export", "lineage", *gates})
    plain["licences"] = [source.licence for source in recipe.sources]
    del plain["export"]["also"]  # written beside the run, from the run
    plain |= {"removed": removed} if removed else {}
    return fingerprint(
        {**plain, "stages": stages, "units": [unit.key for unit in units], "inputs": inputs, "versions": versions()}
    )


def execute(job: Job, read: Callable[[], list[Taken]], write: bool = True) -> dict[str, Any]:
    """Read, decide and, if `write`, export and publish. Returns the manifest."""
    started = time.time()
    step = job.settings.step
    taken = step(INGEST, read)
    job.used.extend(folder for extra in job.extras.values() for folder in extra.folders)
    job.settings.store.record_use(job.name, job.used)
    check_quarantine(taken, {}, job.recipe.max_quarantine)
    pool = open_pool(taken)
    gone = bury(pool, job.settings.store.root)
    if not len(pool):
        raise RunError("no source has a single usable record")
    _copy_quarantine(job, taken)
    _decide_ingest(job, pool, gone)
    entries = [*_ingest_entry(pool, gone), *_run_stages(job, pool, taken)]
    splits = step("export", lambda: _export(job, pool)) if write else {}
    delta = _delta(job, pool) if write and job.recipe.export.delta else None
    if job.recipe.lineage == "drops":
        drops_only(job.folder / "lineage/decisions")
    manifest = _manifest(job, taken, entries, splits, started)
    manifest |= {"delta": delta} if delta is not None else {}
    manifest |= {"previous": job.previous.entry()} if job.previous is not None else {}
    if write:
        step("publish", lambda: _publish(job, manifest))
    return manifest


def _take_in(job: Job, units: list[Unit]) -> list[Taken]:
    since = time.monotonic()
    job.reporter.start(INGEST)
    taken = take_in(units, job.settings.store, job.settings.executor, job.reporter)
    job.used.extend(item.folder for item in taken)
    records = sum(item.report.records for item in taken)
    bad = sum(sum(item.report.quarantined.values()) for item in taken)
    cached = sum(item.chunks_cached == item.report.chunks for item in taken)
    job.timings[INGEST] = round(time.monotonic() - since, 3)
    job.reporter.finish(f"{records:,} records from {len(taken)} files ({cached} unchanged), {bad:,} rows in quarantine")
    return taken


def _copy_quarantine(job: Job, taken: Sequence[Taken]) -> None:
    tables = [pq.read_table(path) for item in taken for path in item.quarantine_files()]
    path = job.folder / "quarantine" / decisions_file(0, INGEST)
    if tables and not path.exists():
        with table_writer(path, QUARANTINE) as writer:
            for table in tables:
                writer.write(table)


def _decide_ingest(job: Job, pool: RunPool, gone: BoolArray) -> None:
    path = job.folder / "lineage/decisions" / decisions_file(0, INGEST)
    name = fingerprint([digest_ids(pool.record_ids).hex(), digest(gone.tobytes()).hex()])
    if stored_fingerprint(path) != name:
        write_ingest(path, pool, gone, name)


def _ingest_entry(pool: RunPool, gone: BoolArray) -> list[dict[str, Any]]:
    """A line of the funnel for records that people asked to have removed; none where there are none."""
    if not gone.any():
        return []
    by_source: dict[str, dict[str, int]] = {}
    for part, start in zip(pool.parts, pool.starts.tolist(), strict=False):
        counts = by_source.setdefault(part.source, {"rows_in": 0, "kept": 0, "dropped": 0, "quarantined": 0})
        dropped = int(gone[start : start + part.rows].sum())
        for key, rows in (("rows_in", part.rows), ("kept", part.rows - dropped), ("dropped", dropped)):
            counts[key] += rows
    outcome = StageOutcome(
        INGEST, 0, "", len(gone), int((~gone).sum()), {}, {REASON: int(gone.sum())}, by_source, [],
        Counters(0, 0, True),
    )  # fmt: skip
    return [stage_entry(outcome, {}, 0.0)]


def _run_stages(job: Job, pool: RunPool, taken: Sequence[Taken]) -> list[dict[str, Any]]:
    published = job.previous.rows_of(pool) if job.previous is not None else None
    context = StageContext(
        job.settings.store, job.settings.executor, job.reporter, job.folder, {}, job.used, job.extras, published
    )
    entries: list[dict[str, Any]] = []
    quarantined = Counter[str]()
    before = _per_source(pool)
    for use in job.recipe.stages:
        since = time.monotonic()
        outcome = job.settings.step(use.label, partial(_run_stage, use, pool, context))
        entries.append(stage_entry(outcome, use.stage.model_dump(mode="json"), time.monotonic() - since))
        quarantined.update(outcome.quarantined)
        job.settings.store.record_use(job.name, job.used)
        check_quarantine(taken, quarantined, job.recipe.max_quarantine)
    check_losses(before, _per_source(pool), job.recipe.max_source_loss)
    return entries


def _run_stage(use: StageUse, pool: RunPool, context: StageContext) -> StageOutcome:
    context.reporter.start(use.label, len(pool))
    outcome = run_stage(use, pool, context)
    context.reporter.finish(_summary(outcome))
    for warning in outcome.warnings:
        context.reporter.warn(f"{use.label}: {warning}")
    return outcome


def _per_source(pool: RunPool) -> dict[str, int]:
    counts: dict[str, int] = {}
    for number, part in enumerate(pool.parts):
        counts[part.source] = counts.get(part.source, 0) + len(pool.living(number))
    return counts


def _summary(outcome: StageOutcome) -> str:
    dropped, bad = sum(outcome.reasons.values()), sum(outcome.quarantined.values())
    parts = [f"{outcome.rows_in:,} in, {outcome.kept:,} kept, {dropped:,} dropped"]
    parts += [f"{bad:,} in quarantine"] if bad else []
    counters = outcome.counters
    parts += [f"scored {counters.scored:,}, {counters.cached:,} known"] if counters.scored or counters.cached else []
    return ", ".join(parts)


def _export(job: Job, pool: RunPool) -> dict[str, int]:
    since = time.monotonic()
    job.reporter.start("export", len(pool))
    plan = plan_export(pool, pool.global_rows(), job.recipe.export, job.recipe.seed, job.folder / "data")
    for rows in write_data(plan, job.folder / "data", job.settings.executor):
        job.reporter.advance(rows)
    splits = planned_rows(plan)
    job.timings["export"] = round(time.monotonic() - since, 3)
    job.reporter.finish(", ".join(f"{name} {rows:,}" for name, rows in splits.items()) or "no row is left")
    if not splits:
        job.reporter.warn("every row was dropped: data/ is empty; `curate funnel` shows where they went")
    return splits


def _delta(job: Job, pool: RunPool) -> dict[str, Any]:
    return write_delta(pool, job.recipe, job.settings.out, job.folder, job.settings.executor)


def _manifest(
    job: Job, taken: Sequence[Taken], entries: list[dict[str, Any]], splits: dict[str, int], started: float
) -> dict[str, Any]:
    chunks = sum(item.report.chunks for item in taken)
    cached = sum(item.chunks_cached for item in taken)
    return {
        "name": job.recipe.name, "run_fingerprint": job.name, "seed": job.recipe.seed, "recipe": job.recipe.written,
        "recipe_folder": str(job.recipe.base), "store": str(job.settings.store.root),
        "limit": job.settings.limit, "created_with": versions(), "sources": source_entries(job.recipe, taken),
        "ingest": {"chunks_read": chunks - cached, "chunks_cached": cached}, "stages": entries, "splits": splits,
        "quarantine": _quarantine_entry(job.folder), "files": file_entries(job.folder),
        "timings": {**job.timings, "started": round(started, 3), "seconds": round(time.time() - started, 3)},
    }  # fmt: skip


def _quarantine_entry(folder: Path) -> dict[str, Any]:
    by_kind = Counter[str]()
    for path in sorted((folder / "quarantine").glob("*.parquet")):
        by_kind.update(pq.read_table(path, columns=["kind"])["kind"].to_pylist())
    return {"rows": sum(by_kind.values()), "by_kind": dict(sorted(by_kind.items()))}


def _publish(job: Job, manifest: dict[str, Any]) -> None:
    for name, content in job.settings.documents(job.folder, manifest).items():
        write_bytes(job.folder / name, content)
    publish(job.settings.out, job.folder, manifest)
    job.settings.store.record_use(job.name, job.used)


def _complete(out: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether every file of the manifest is still there with its size."""
    return all(
        (out / f["path"]).is_file() and (out / f["path"]).stat().st_size == f["bytes"] for f in manifest["files"]
    )
