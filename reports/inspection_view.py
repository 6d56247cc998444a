"""How `curate inspect` looks on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from reports.templating import size
from reports.text import excerpt


def inspection_view(found: Mapping[str, Any]) -> Group:
    """What `pipelines.inspection.inspect` found out about each file."""
    parts: list[RenderableType] = []
    for file in found["files"]:
        parts += [*_file(file), Text()]
    return Group(*parts[:-1])


def _file(file: Mapping[str, Any]) -> list[RenderableType]:
    parts: list[RenderableType] = [Text(file["file"], "bold").append(f"  {size(file['bytes'])}", "dim"), _facts(file)]
    if file["fields"]:
        parts += [Text(), _fields(file["fields"])]
    for number, sample in enumerate(file["samples"], 1):
        parts += [Text(), Text(f"record {number}", "bold"), Padding(_sample(sample), (0, 0, 0, 2))]
    parts += [Text(), _problems(file)]
    return parts


def _facts(file: Mapping[str, Any]) -> Table:
    compression = f", {file['compression']}" if file["compression"] else ""
    others = ", ".join(f"{name} {rows:,}" for name, rows in file["others"].items())
    facts = {
        "format": (f"{file['format']}{compression}", "; ".join(file["why_format"])),
        "rows are": (f"{file['adapter']} ({file['share']:.0%})", file["why_adapter"]),
        "others": (others, "rows of the sample that another adapter fits") if others else None,
        "looked at": (f"{file['rows_seen']:,} rows, {file['records']:,} records", ""),
    }
    table = Table.grid(padding=(0, 2))
    for name, fact in facts.items():
        if fact:
            table.add_row(Text(name, "dim"), Text(fact[0]), Text(fact[1], "dim"))
    return table


def _fields(fields: Mapping[str, str]) -> Table:
    table = Table(show_edge=False, header_style="bold")
    table.add_column("field")
    table.add_column("goes to")
    for name, column in fields.items():
        table.add_row(Text(name), Text(column))
    return table


def _sample(sample: Mapping[str, Any]) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, value in sample.items():
        text = value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
        table.add_row(Text(name, "dim"), Text(excerpt(text, 300)))
    return table


def _problems(file: Mapping[str, Any]) -> RenderableType:
    if not file["problems"]:
        return Text("no problems", "green")
    table = Table(show_edge=False, header_style="bold")
    for name in ("problem", "rows", "for example"):
        table.add_column(name, justify="right" if name == "rows" else "left")
    for problem in file["problems"]:
        examples = [f"{_place(example)}: {excerpt(example['error'], 160)}" for example in problem["examples"]]
        table.add_row(Text(problem["kind"], "red"), f"{problem['rows']:,}", Text("\n".join(examples)))
    return table


def _place(example: Mapping[str, Any]) -> str:
    return f"line {example['line']}" if example["line"] is not None else f"row {example['row']}"
