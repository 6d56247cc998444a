"""The funnel as Markdown and as a table, for places that show these (Prefect artifacts)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports.manifest import parse


def funnel_markdown(manifest: Mapping[str, Any]) -> str:
    """A table of stages, and below it what each source lost."""
    run = parse(manifest)
    stages = ["| stage | rows in | kept | dropped | quarantined | seconds |", "|---|---:|---:|---:|---:|---:|"]
    for step in run.steps():
        counts = f"{step.rows_in:,} | {step.kept:,} | {step.dropped:,} | {step.quarantined:,}"
        stages.append(f"| {step.stage} | {counts} | {step.seconds:.1f} |")
    losses = ["| source | stage | rows in | kept |", "|---|---|---:|---:|"]
    for step in run.steps():
        for source, counts_ in step.by_source.items():
            if counts_.kept < counts_.rows_in:
                losses.append(f"| {source} | {step.stage} | {counts_.rows_in:,} | {counts_.kept:,} |")
    warnings = [f"- {step.stage}: {warning}" for step in run.steps() for warning in step.warnings]
    return "\n".join([f"# {run.name}", "", *stages, "", *losses, "", *warnings])


def losses(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is left of every source after each stage, as rows of a table."""
    return [
        {
            "source": source, "stage": step.stage, "rows in": counts.rows_in, "kept": counts.kept,
            "lost": f"{1 - counts.kept / counts.rows_in:.1%}" if counts.rows_in else "",
        }
        for step in parse(manifest).steps()
        for source, counts in step.by_source.items()
    ]  # fmt: skip
