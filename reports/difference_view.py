"""How the difference of two runs looks on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from reports.difference import Difference, RowSample, Transition
from reports.story_view import changes, indented

_SIGNS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}


def render(difference: Difference) -> Group:
    """The whole difference as a rich renderable."""
    if difference.same:
        return Group(Text(f"no difference: {difference.rows_after:,} rows, the same decisions and settings", "green"))
    parts: list[RenderableType] = [_rows(difference)]
    for kind, samples in difference.samples.items():
        parts += [_sample(kind, sample) for sample in samples]
    if difference.transitions:
        parts += [Text(), _transitions(difference.transitions)]
    for title, pairs in (("setting", difference.settings), ("input file", difference.inputs)):
        if pairs:
            parts += [Text(), _pairs(title, pairs)]
    return Group(*parts)


def _rows(difference: Difference) -> Table:
    table = Table(show_edge=False, header_style="bold", caption_justify="left")
    table.caption = f"rows in the dataset: {difference.rows_before:,} before, {difference.rows_after:,} after"
    table.add_column("source")
    for kind in difference.counts:
        table.add_column(kind, justify="right")
    for source in sorted({name for counts in difference.by_source.values() for name in counts}):
        table.add_row(source, *(f"{counts.get(source, 0):,}" for counts in difference.by_source.values()))
    table.add_row("all", *(f"{count:,}" for count in difference.counts.values()), style="bold")
    return table


def _sample(kind: str, sample: RowSample) -> Group:
    sign, style = _SIGNS[kind]
    name = f"{sample.source}{':' + sample.source_id if sample.source_id else ''}"
    head = Text(f"{sign} {sample.record_id} ", style).append(name, "dim")
    body = changes(sample.changes) if sample.changes else Text(sample.text)
    return Group(head, indented(body))


def _transitions(transitions: tuple[Transition, ...]) -> Table:
    table = Table(show_edge=False, header_style="bold")
    table.add_column("rows", justify="right")
    for name in ("before", "after", "for example"):
        table.add_column(name)
    for item in transitions:
        table.add_row(f"{item.rows:,}", item.before, item.after, Text(_example(item)))
    return table


def _example(item: Transition) -> str:
    return "\n".join(
        f"{row['record_id']} {row['source']}{':' + row['source_id'] if row['source_id'] else ''}"
        for row in item.samples
    )


def _pairs(title: str, pairs: Mapping[str, tuple[Any, Any]]) -> Table:
    table = Table(show_edge=False, header_style="bold")
    for name in (title, "before", "after"):
        table.add_column(name)
    for name, (before, after) in pairs.items():
        table.add_row(Text(name), *(Text("–" if value is None else str(value)) for value in (before, after)))
    return table
