"""How plans, stages and the contents of the store look on a terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pipelines.store import Entry
from reports.templating import size


def plan_view(plan: Mapping[str, Any]) -> Group:
    """What `pipelines.plan.plan` found out, as tables of files and stages."""
    files = _table("source", "file", *(("size", "right"), ("rows", "right")), "")
    for file in plan["files"]:
        rows = f"{file['rows']:,}" if file["exact"] else f"about {file['rows']:,}"
        known = Text("in the store", "green") if file["cached"] else Text("to be read", "yellow")
        files.add_row(Text(file["source"]), Text(file["file"], overflow="fold"), size(file["bytes"]), rows, known)
    stages = _table(("", "right"), "stage", ("scores in the store", "right"), "parameters")
    for stage in plan["stages"]:
        known_scores = "known after its fit" if stage["scores_stored"] is None else f"{stage['scores_stored']:,}"
        stages.add_row(str(stage["position"]), Text(stage["stage"], "bold"), known_scores, _values(stage["parameters"]))
    total = f"{plan['name']}: {len(plan['files'])} files, {plan['cached_files']} of them in the store {plan['store']}"
    return Group(Text(total, "bold"), Text(), files, Text(), stages)


def stages_view(stages: Sequence[Mapping[str, Any]], detailed: bool) -> RenderableType:
    """The stages a recipe may use; with `detailed`, each one's whole description and parameters."""
    if detailed:
        return Group(*(_stage(stage) for stage in stages))
    table = _table("stage", "what it does")
    for stage in stages:
        table.add_row(Text(stage["name"], "bold"), Text(stage["summary"]))
    return table


def store_entries(root: str, entries: Sequence[Entry]) -> dict[str, Any]:
    """The store's contents as plain data; `bytes` in all and per entry, `idle_days` since a run last used it."""
    now = time.time()
    found = [
        {
            "section": entry.section,
            "name": entry.name,
            "bytes": entry.bytes,
            "files": entry.files,
            "idle_days": round(max(now - entry.last_used, 0) / 86_400, 2),
        }
        for entry in entries
    ]
    return {"store": root, "bytes": sum(entry.bytes for entry in entries), "entries": found}


def store_view(store: Mapping[str, Any], did: str = "") -> Group:
    """A table of what `store_entries` returned; `did` says what was done with it."""
    table = _table("section", "what", ("size", "right"), ("files", "right"), ("last used", "right"))
    for entry in store["entries"]:
        days = entry["idle_days"]
        used = "today" if days < 1 else f"{days:.0f} days ago"
        name = Text(entry["name"], overflow="fold")
        table.add_row(entry["section"], name, size(entry["bytes"]), f"{entry['files']:,}", used)
    total = f"{did + ' ' if did else ''}{size(store['bytes'])} in {len(store['entries'])} entries of {store['store']}"
    return Group(table, Text(), Text(total, "bold")) if store["entries"] else Group(Text(total, "bold"))


def _stage(stage: Mapping[str, Any]) -> Group:
    table = _table("parameter", "default", "what it means", "changing it")
    for item in stage["parameters"]:
        default = Text("required", "yellow") if item["required"] else Text(_json(item["default"]))
        name = Text(item["name"], "bold").append(f"\n{item['type']}", "dim")
        table.add_row(name, default, Text(item["description"]), "scores anew" if item["rescoring"] else "decides anew")
    return Group(Text(stage["name"], "bold"), Text(stage["about"]), Text(), table)


def _values(parameters: Mapping[str, Any]) -> Text:
    set_ones = {name: value for name, value in parameters.items() if value not in (None, [], {}, "")}
    return Text(", ".join(f"{name}={_json(value)}" for name, value in set_ones.items()))


def _json(value: object) -> str:
    return value if isinstance(value, str) else orjson.dumps(value, default=str).decode()


def _table(*columns: str | tuple[str, str]) -> Table:
    table = Table(show_edge=False, header_style="bold")
    for column in columns:
        name, side = (column, "left") if isinstance(column, str) else column
        table.add_column(name, justify="right" if side == "right" else "left")
    return table
