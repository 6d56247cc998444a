"""Prefect flows: one per shipped pipeline, a task per stage. Tasks pass paths and counts, never rows.

Everything a run knows is in its output directory and the score store: a flow that is run again continues, and losing
Prefect's database loses nothing. `prefect deploy --all` makes the deployments of prefect.yaml; without workers,
`python flows.py` serves them from this process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import yaml
from prefect import flow, get_run_logger, serve, task
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.client.schemas.schedules import CronSchedule

import reports
from pipelines.executors import ExecutorName, open_executor
from pipelines.files import write_json
from pipelines.publish import WORK, check_ours
from pipelines.recipe_file import load_recipe
from pipelines.remote import folder_for, is_remote, upload
from pipelines.run import Settings
from pipelines.run import run as run_recipe
from pipelines.shipped import shipped_recipe
from pipelines.store import open_store
from pipelines.telemetry import observed
from schemas.errors import CuratrixError, RecipeError

_PROGRESS_SECONDS = 5.0


class _FlowLog:
    """Tells a run's progress to Prefect: its log, and a progress artifact for every step that counts rows."""

    def __init__(self) -> None:
        self._logger = get_run_logger()
        self._step, self._total, self._done = "", 0, 0
        self._artifact: UUID | None = None
        self._told = 0.0

    def start(self, step: str, total: int | None = None) -> None:
        """Remember the step."""
        self._step, self._total, self._done = step, total or 0, 0
        self._artifact, self._told = None, time.monotonic()

    def advance(self, rows: int) -> None:
        """Every few seconds, move the step's progress artifact."""
        self._done += rows
        if not self._total or time.monotonic() - self._told < _PROGRESS_SECONDS:
            return
        self._told = time.monotonic()
        share = min(100.0, 100 * self._done / self._total)
        if self._artifact is None:
            self._artifact = create_progress_artifact(share, description=f"{self._step}: {self._total:,} rows")
        else:
            update_progress_artifact(self._artifact, share)

    def finish(self, summary: str) -> None:
        """Log the step's summary."""
        if self._artifact is not None:
            update_progress_artifact(self._artifact, 100.0)
        self._logger.info("%s: %s", self._step, summary)

    def warn(self, text: str) -> None:
        """Log a warning."""
        self._logger.warning(text)


def _as_task(name: str, work: Callable[[], Any]) -> Any:
    """One step of a run as a Prefect task of its own.

    Only reading sources and publishing touch what may fail for a while (networks, object stores): they are tried
    again. Everything else is deterministic: trying it again would fail again.
    """
    tries = {"retries": 2, "retry_delay_seconds": [10, 60]} if name in ("ingest", "publish") else {}
    step = task(work, name=name, task_run_name=name, tags=["curatrix", name], persist_result=False)
    return step.with_options(retry_condition_fn=_may_pass, **tries)()


def _may_pass(run_task: Any, run: Any, state: Any) -> bool:
    """Errors of ours (a wrong recipe, a tripped gate) do not pass by waiting."""
    try:
        state.result()
    except CuratrixError:
        return False
    except Exception:
        return True
    return False


def _mark(run_flow: Any, run: Any, state: Any) -> None:
    """Leave a note in the output directory of a flow run that failed or crashed, for people who look there first."""
    out = run.parameters.get("out")
    if out and not is_remote(str(out)) and _may_write(Path(out)):
        note = {"flow_run": str(run.id), "name": run.name, "state": state.name, "message": state.message}
        write_json(Path(out) / WORK / "flow.json", note)


def _may_write(out: Path) -> bool:
    """Whether a directory is a run's or empty: the flow may have failed because it is not."""
    try:
        check_ours(out)
    except RecipeError:
        return False
    return True


@flow(name="curate", log_prints=False, on_failure=[_mark], on_crashed=[_mark])
def curate(
    recipe: Path,
    out: str | None = None,
    overrides: list[str] | None = None,
    limit: int | None = None,
    executor: ExecutorName = "local",
) -> str:
    """Run any recipe.

    Args:
        recipe: the recipe's YAML file.
        out: output directory or fsspec URL; default: the recipe's name beside it.
        overrides: `path.to.key=value` items, as `curate run --set`.
        limit: read only the first rows of every file.
        executor: where work runs: this machine, or the Ray cluster at RAY_ADDRESS.

    Returns:
        The output directory.
    """
    loaded = load_recipe(recipe, overrides or ())
    place = str(out or loaded.base / loaded.name)
    store = open_store(loaded.store, loaded.base)
    target = folder_for(place, store.root)
    log = observed(_FlowLog())
    with open_executor(executor) as chosen:
        settings = Settings(target, store, chosen, log, reports.documents, limit, _as_task, place)
        manifest = run_recipe(loaded, settings)
    if is_remote(place):
        _as_task("publish", lambda: upload(target, place, log))
    _show(manifest, loaded.name, place, target)
    return place


def _show(manifest: dict[str, Any], name: str, place: str, target: Path) -> None:
    """Artifacts of a finished run: its funnel, what every source lost, the way to its report."""
    create_markdown_artifact(reports.funnel_markdown(manifest), key="funnel", description=f"{name}: {place}")
    create_table_artifact(reports.losses(manifest), key="losses", description=f"{name}: rows of every source")
    create_link_artifact((target / "report.html").absolute().as_uri(), key="report", description=f"{name}: {place}")


def _source(data: str) -> str:
    """The override that names a flow's data: a path starts where the flow runs, not at the shipped recipe."""
    place = data if is_remote(data) else str(Path(data).expanduser().absolute())
    return "sources.0.path=" + yaml.safe_dump(place, default_style='"')  # a plain `*` or ` #` means something in YAML


@flow(name="curate-sft", on_failure=[_mark], on_crashed=[_mark])
def curate_sft(data: str, out: str, overrides: list[str] | None = None) -> str:
    """Curate instruction data: clean, deduplicate, bound the length. `data` is a file, folder, glob or URL."""
    return curate(shipped_recipe("sft"), out, [_source(data), *(overrides or [])])


@flow(name="curate-code", on_failure=[_mark], on_crashed=[_mark])
def curate_code(data: str, out: str, overrides: list[str] | None = None) -> str:
    """Curate code problems: deduplicate, demand enough tests. `data` is a file, folder, glob or URL."""
    return curate(shipped_recipe("code"), out, [_source(data), *(overrides or [])])


@flow(name="finetune")
def finetune(run: Path, job: Path, overrides: list[str] | None = None) -> str:
    """Fine-tune a model on a finished run, one process per GPU; run again, it goes on from its last checkpoint.

    Args:
        run: the directory of a finished run.
        job: the YAML file of `jobs/sft.py`.
        overrides: `path.to.key=value` items for the job.

    Returns:
        The folder with checkpoints and model.
    """
    from jobs.sft_config import load_config
    from jobs.sft_launch import launch

    result = _as_task("finetune", lambda: launch(run, job, overrides or []))
    create_table_artifact(result["loss"], key="training-loss", description=f"{job}: {result['speed']}")
    return str(load_config(job, overrides or []).out)


def _served() -> list[Any]:
    """The deployments of prefect.yaml, for `serve`: same flows, parameters, schedules and limits, no work pool."""
    document = yaml.safe_load((Path(__file__).parent / "prefect.yaml").read_text())
    found = []
    for entry in document["deployments"]:
        served = globals()[entry["entrypoint"].partition(":")[2]]
        schedules = [CronSchedule(cron=item["cron"], timezone=item["timezone"]) for item in entry["schedules"]]
        options = {key: entry[key] for key in ("parameters", "tags", "description")}
        limit = ConcurrencyLimitConfig(**entry["concurrency_limit"])
        found.append(served.to_deployment(entry["name"], schedules=schedules, concurrency_limit=limit, **options))
    return found


if __name__ == "__main__":
    os.chdir(os.environ.get("CURATRIX_HOME", "."))
    serve(*_served())
