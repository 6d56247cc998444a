"""report.html of a run: one page with everything inline, readable without a server or a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import orjson
from rich.filesize import decimal

from reports.catalog import open_views
from reports.counts import problems
from reports.flow import flow
from reports.histogram import histograms
from reports.manifest import Counts, Manifest, SourceEntry, parse
from reports.records import Lookup, nowhere
from reports.samples import Dropped, dropped, quarantined
from reports.templating import environment


def html(directory: Path, manifest: Mapping[str, Any], lookup: Lookup = nowhere) -> str:
    """The page for a run whose Parquet files are in `directory`; its manifest need not be written yet.

    `lookup` may know the text of dropped rows. Raises RunError if the manifest does not fit its model.
    """
    run = parse(manifest)
    with open_views(directory.resolve(), run) as catalog:
        found = {
            "histograms": histograms(catalog, run.stages),
            "drops": _grouped(dropped(catalog, lookup=lookup)),
            "bad": quarantined(catalog),
        }
    page = environment(autoescape=True)
    page.filters.update(short=_short, seconds=_seconds, size=decimal, number=_number, flat=_flat)
    return page.get_template("report.html.j2").render(
        run=run,
        steps=run.steps(),
        flow=flow(run.steps()),
        sources=[_source(run, source) for source in run.sources],
        reasons=_reasons(run),
        problems=problems(run),
        warnings=[(step.stage, warning) for step in run.steps() for warning in step.warnings],
        retention=run.rows_out / (run.steps()[0].rows_in or 1),
        total_seconds=_total(run),
        **found,
    )


def _source(run: Manifest, source: SourceEntry) -> dict[str, Any]:
    """One row of the table of sources: what each step took, and what is left."""
    counts = [step.by_source.get(source.name, Counts()) for step in run.steps()]
    return {
        "name": source.name,
        "licence": source.licence,
        "files": source.files,
        "rows_in": counts[0].rows_in,
        "lost": [count.dropped + count.quarantined for count in counts],
        "left": counts[-1].kept,
    }


def _reasons(run: Manifest) -> list[dict[str, Any]]:
    """Reasons for dropping, most frequent first, with their share of what the stage got."""
    rows = [
        {"stage": step.stage, "reason": reason, "rows": rows, "share": rows / (step.rows_in or 1)}
        for step in run.steps()
        for reason, rows in step.reasons.items()
        if reason != "kept"
    ]
    return sorted(rows, key=lambda row: -row["rows"])


def _grouped(rows: Sequence[Dropped]) -> list[tuple[str, str, list[Dropped]]]:
    """Stage, reason and its rows, in the order of the stages."""
    groups = groupby(rows, key=lambda row: (row.stage, row.reason))
    return [(stage, reason, list(members)) for (stage, reason), members in groups]


def _total(run: Manifest) -> float:
    total = run.timings.get("seconds")
    return float(total) if isinstance(total, int | float) else sum(step.seconds for step in run.stages)


def _short(record_id: str) -> str:
    return record_id[:12]


def _seconds(value: float) -> str:
    minutes, seconds = divmod(value, 60)
    return f"{int(minutes)} min {seconds:.0f} s" if minutes else f"{seconds:.1f} s"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.4g}" if abs(value) < 1e5 else f"{value:,.0f}"


def _flat(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
