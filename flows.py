"""Prefect flows: one per shipped pipeline, a task per stage. Tasks pass paths and counts, never rows.

Everything a run knows is in its output directory and the score store: a flow that is run again continues, and losing
Prefect's database loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact

import reports
from pipelines.executor import LocalExecutor
from pipelines.recipe_file import load_recipe
from pipelines.run import Settings
from pipelines.run import run as run_recipe
from pipelines.shipped import shipped_recipe
from pipelines.store import open_store


class _FlowLog:
    """Tells a run's progress to Prefect's log (the Reporter protocol)."""

    def __init__(self) -> None:
        self._logger = get_run_logger()
        self._step = ""

    def start(self, step: str, total: int | None = None) -> None:
        """Remember the step."""
        self._step = step

    def advance(self, rows: int) -> None:
        """Logs do not move."""

    def finish(self, summary: str) -> None:
        """Log the step's summary."""
        self._logger.info("%s: %s", self._step, summary)

    def warn(self, text: str) -> None:
        """Log a warning."""
        self._logger.warning(text)


def _as_task(name: str, work: Callable[[], Any]) -> Any:
    """One step of a run as a Prefect task of its own."""
    return task(work, name=name, task_run_name=name, persist_result=False)()


@flow(name="curate", log_prints=False)
def curate(recipe: Path, out: Path | None = None, overrides: list[str] | None = None, limit: int | None = None) -> Path:
    """Run any recipe.

    Args:
        recipe: the recipe's YAML file.
        out: output directory; default: the recipe's name beside it.
        overrides: `path.to.key=value` items, as `curate run --set`.
        limit: read only the first rows of every file.

    Returns:
        The output directory.
    """
    loaded = load_recipe(recipe, overrides or ())
    target = out or loaded.base / loaded.name
    with LocalExecutor() as executor:
        store = open_store(loaded.store, loaded.base)
        settings = Settings(target, store, executor, _FlowLog(), reports.documents, limit, _as_task)
        manifest = run_recipe(loaded, settings)
    create_markdown_artifact(reports.funnel_markdown(manifest), key="funnel", description=f"{loaded.name}: {target}")
    return target


@flow(name="curate-sft")
def curate_sft(data: str, out: Path, overrides: list[str] | None = None) -> Path:
    """Curate instruction data: clean, deduplicate, bound the length. `data` is a file, folder, glob or URL."""
    return curate(shipped_recipe("sft"), out, [f"sources.0.path={data}", *(overrides or [])])


@flow(name="curate-code")
def curate_code(data: str, out: Path, overrides: list[str] | None = None) -> Path:
    """Curate code problems: deduplicate, demand enough tests. `data` is a file, folder, glob or URL."""
    return curate(shipped_recipe("code"), out, [f"sources.0.path={data}", *(overrides or [])])
