"""What people read of a finished run. Everything here returns data or a rich renderable; nothing prints.

The command line and the flows use the names of this module only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from reports import checkup, counts, difference_view, quad_report, story_view, target_view
from reports import clusters as cluster_report
from reports import target as target_check
from reports.contents import contents_meant, forgotten_view
from reports.demo_view import demo_view
from reports.difference import difference
from reports.documents import documents, write_report
from reports.manifest import load, parse
from reports.markdown import funnel_markdown, losses
from reports.records import stored
from reports.sql import query, to_csv, to_jsonl, to_parquet, to_table
from reports.status import status, status_view
from reports.story import story
from reports.views import inspection_view, plan_view, stages_view, store_entries, store_view, upload_view
from stages.contract import Pool
from stages.text import On

__all__ = [
    "check_target",
    "clusters",
    "contents_meant",
    "demo_view",
    "diff",
    "doctor",
    "documents",
    "explain",
    "forgotten_view",
    "funnel",
    "funnel_markdown",
    "funnel_view",
    "inspection_view",
    "losses",
    "manifest_view",
    "plan_view",
    "quad",
    "query",
    "stages_view",
    "status",
    "status_view",
    "store_entries",
    "store_view",
    "to_csv",
    "to_jsonl",
    "to_parquet",
    "to_table",
    "upload_view",
    "write_report",
]

Shown = tuple[dict[str, Any], RenderableType]
"""The same facts as plain data for machines and as a renderable for people."""


def explain(directory: Path, key: str) -> Shown:
    """A record's whole story; `key` is as in `reports.story.story`, which says what is raised."""
    found = story(directory, key, stored(load(directory)))
    return found.to_dict(), story_view.render(found)


def diff(first: Path, second: Path) -> Shown:
    """What changed between two runs. Raises RecipeError if one is not a run."""
    found = difference(first, second)
    return found.to_dict(), difference_view.render(found)


def clusters(directory: Path, stage: str | None, limit: int) -> tuple[list[dict[str, Any]], RenderableType]:
    """Clusters and telling pairs of the dedup stages. Raises RecipeError if `directory` is no run with such a stage."""
    found = cluster_report.clusters(directory, stage, limit)
    return [each.to_dict() for each in found], cluster_report.render(found)


def quad(directory: Path, stage: str | None, limit: int) -> tuple[dict[str, Any], RenderableType, str]:
    """Clusters of a quad stage, their view, and a map as SVG. Raises RecipeError where there is no such stage."""
    found = quad_report.quad_report(directory, stage)
    return asdict(found), quad_report.render(found, limit), quad_report.plot(found)


def doctor() -> Shown:
    """What is installed and works here, and how to mend the rest."""
    checks = checkup.checkup()
    return checkup.to_dict(checks), checkup.render(checks)


def funnel(directory: Path) -> dict[str, Any]:
    """The funnel of a run: `stages` with `reasons` and `by_source`, `rows_out`, and in `problems` what does not add up.

    Raises RecipeError if `directory` is not a run.
    """
    return counts.to_dict(load(directory))


def funnel_view(directory: Path) -> RenderableType:
    """The funnel as a table. Raises RecipeError if `directory` is not a run."""
    return counts.render(load(directory))


def manifest_view(manifest: Mapping[str, Any]) -> RenderableType:
    """The funnel of a manifest that may belong to no directory (`curate redecide`)."""
    return counts.render(parse(manifest))


def check_target(
    pool: Pool, target: Pool, on: On, seed: int, sample: int
) -> tuple[dict[str, Any], RenderableType, str]:
    """Whether a target set is good: facts, a view, and a plot as SVG. Raises as `reports.target.check_target` does."""
    found = target_check.check_target(pool, target, on, seed, sample)
    return found.to_dict(), target_view.render(found), target_view.plot(found)
