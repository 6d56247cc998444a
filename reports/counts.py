"""`curate funnel`: how many rows went in, stayed and left at every stage, and whether they add up."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from pipelines.readers.rows import TRUNCATED
from reports.manifest import Counts, Manifest, StageEntry

_BAR: Final = 8
_REASONS: Final = 3
_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"


def to_dict(manifest: Manifest) -> dict[str, Any]:
    """The funnel of a manifest as plain data, ready for JSON."""
    steps = [
        step.model_dump(mode="json", include={"stage", "position", "reasons", "by_source", "seconds"}) | _counts(step)
        for step in manifest.steps()
    ]
    return {
        "name": manifest.name, "stages": steps, "rows_out": manifest.rows_out, "problems": problems(manifest),
        "truncated": manifest.truncated,
    }  # fmt: skip


def problems(manifest: Manifest) -> list[str]:
    """Every place where rows do not add up: within a stage, a source, between stages, or against `data/`."""
    return [*_unbalanced(manifest), *_gaps(manifest)]


def _unbalanced(manifest: Manifest) -> Iterator[str]:
    """Where rows_in is not kept + dropped + quarantined."""
    for step in manifest.steps():
        for name, counts in (("", step), *((f", source '{source}'", c) for source, c in step.by_source.items())):
            if not counts.balanced:
                yield (
                    f"{step.stage}{name}: {counts.rows_in} rows in, but {counts.kept} kept + {counts.dropped} dropped "
                    f"+ {counts.quarantined} quarantined"
                )
        if step.by_source and sum(counts.rows_in for counts in step.by_source.values()) != step.rows_in:
            yield f"{step.stage}: the sources together do not make {step.rows_in} rows"
        if step.reasons and sum(step.reasons.values()) not in (step.dropped, step.dropped + step.kept):
            yield f"{step.stage}: the reasons together do not make {step.dropped} dropped rows"


def _gaps(manifest: Manifest) -> Iterator[str]:
    """Where a stage did not get what the one before it kept."""
    steps = manifest.steps()
    for before, after in pairwise(steps):
        if before.kept != after.rows_in:
            yield f"{before.stage} kept {before.kept} rows, but {after.stage} got {after.rows_in}"
    # Without splits nothing was written: all rows were dropped, or decisions were only tried out.
    if steps and manifest.splits and steps[-1].kept != manifest.rows_out:
        yield f"{steps[-1].stage} kept {steps[-1].kept} rows, but data/ has {manifest.rows_out}"


def render(manifest: Manifest, by_source: bool = True) -> Table:
    """The funnel as a rich table; bars show what is left of the rows that came in at the start.

    Below a stage stand its most frequent reasons and, with `by_source`, the sources that lost rows to it.
    """
    steps = manifest.steps()
    table = Table(show_edge=False, header_style="bold", caption_justify="left", caption=_verdict(manifest))
    table.add_column("stage", overflow="fold")
    for name in ("rows in", "kept", "dropped", "quarantined"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("left", no_wrap=True)
    start = steps[0]
    for step in steps:
        table.add_row(Text(step.stage, style="bold"), *_cells(step), _bar(step.kept, start.rows_in))
        for reason, count in _reasons(step):
            table.add_row(
                Text(f"  {reason.removeprefix(f'{step.stage}: ')}"), "", "", f"-{count:,}", "", "", style="yellow"
            )
        for source, counts in sorted(step.by_source.items()) if by_source and len(start.by_source) > 1 else ():
            if counts.kept < counts.rows_in:
                left = _bar(counts.kept, start.by_source.get(source, counts).rows_in, "dim")
                table.add_row(Text(f"  from {source}"), *_cells(counts), left, style="dim")
    return table


def _verdict(manifest: Manifest) -> Text:
    found = problems(manifest)
    if found:
        return Text("rows do NOT add up: " + "; ".join(found), style="bold red")
    if manifest.truncated:
        places = "a damaged place" if manifest.truncated == 1 else f"{manifest.truncated:,} damaged places"
        return Text(
            f"every row that was read is accounted for; how many are lost behind {places} in source files is unknown "
            f"({TRUNCATED} in quarantine)",
            style="yellow",
        )
    return Text("every row is accounted for", style="green")


def _counts(counts: Counts) -> dict[str, int]:
    return {name: getattr(counts, name) for name in ("rows_in", "kept", "dropped", "quarantined")}


def _cells(counts: Counts) -> list[str]:
    return [
        f"{counts.rows_in:,}",
        f"{counts.kept:,}",
        f"-{counts.dropped:,}" if counts.dropped else "",
        f"-{counts.quarantined:,}" if counts.quarantined else "",
    ]


def _bar(part: int, whole: int, style: str = "green") -> Text:
    """A bar of eighths of a character, with its percentage."""
    share = part / whole if whole else 0.0
    full, eighth = divmod(round(share * _BAR * 8), 8)
    bar = "█" * full + (_EIGHTHS[eighth] if eighth else "")
    return Text(f"{bar:<{_BAR}}", style=style).append(f" {share:4.0%}")


def _reasons(step: StageEntry) -> list[tuple[str, int]]:
    """The most frequent reasons for leaving, and how many rows all the others took."""
    left = {reason: count for reason, count in step.reasons.items() if reason != "kept"}
    ordered = sorted(left.items(), key=lambda item: (-item[1], item[0]))
    rest = ordered[_REASONS:]
    return [*ordered[:_REASONS], (f"{len(rest)} other reasons", sum(count for _, count in rest))] if rest else ordered
