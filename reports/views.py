"""Terminal views of what is not a finished run: a plan, an inspected file, stages, the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.filesize import decimal
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text


def plan_view(plan: Mapping[str, Any]) -> RenderableType:
    """What `curate plan` shows."""
    files = Table(
        "source", "file", "format", "size", "rows", "cached", title=f"{plan['name']}: sources", title_justify="left"
    )
    for file in plan["files"]:
        rows = f"{file['rows']:,}" if file["exact"] else f"about {file['rows']:,}"
        cells = (file["source"], file["file"], file["format"] or "?", decimal(file["bytes"]), rows)
        files.add_row(*cells, "yes" if file["cached"] else "no")
    stages = Table("#", "stage", "parameters", "scores stored", title="stages", title_justify="left")
    for stage in plan["stages"]:
        known = "after its fit" if stage["scores_stored"] is None else f"{stage['scores_stored']:,}"
        stages.add_row(str(stage["position"]), stage["stage"], _pairs(stage["parameters"]), known)
    rows = f"about {plan['rows']:,} records; {plan['cached_files']} of {len(plan['files'])} files are in the store"
    costs = [_costs(label, found) for label, found in plan["estimates"].items() if found]
    return Group(files, stages, *costs, Text(f"{rows} ({plan['store']}). Nothing was touched."))


def upload_view(found: Mapping[str, Any], dry_run: bool) -> RenderableType:
    """What `curate publish` shows."""
    table = Table("file", "size", "", title=found["url"], title_justify="left")
    for path, size in found["files"].items():
        table.add_row(path, decimal(size), "there already" if path in found["known"] else "")
    gone = [Text(f"{'would remove' if dry_run else 'removed'} {path}") for path in found["removed"]]
    total = f"{len(found['files'])} files, {decimal(sum(found['files'].values()))}"
    return Group(table, *gone, Text(f"{total} {'would be sent; nothing was' if dry_run else 'are there'}"))


def _costs(label: str, found: Mapping[str, str]) -> RenderableType:
    table = Table(title=f"{label}: estimate, if every row reaches it", title_justify="left", show_header=False)
    for name, value in found.items():
        table.add_row(name, value)
    return table


def inspection_view(found: Mapping[str, Any]) -> RenderableType:
    """What `curate inspect` shows, file by file."""
    return Group(*(part for file in found["files"] for part in _file_parts(file)))


def _file_parts(file: Mapping[str, Any]) -> list[RenderableType]:
    packed = f", {file['compression']}" if file["compression"] else ""
    facts = Table.grid(padding=(0, 2))
    facts.add_row("format", f"{file['format']}{packed}: {'; '.join(file['why_format'])}")
    facts.add_row("rows are", f"{file['adapter']} ({file['share']:.0%} of the sample): {file['why_adapter']}")
    if file["others"]:
        facts.add_row("others", _pairs(file["others"]))
    facts.add_row("looked at", f"{file['rows_seen']:,} rows, {file['records']:,} records")
    parts: list[RenderableType] = [Text(f"\n{file['file']}  {decimal(file['bytes'])}", style="bold"), facts]
    if file["fields"]:
        fields = Table("source field", "becomes", title="fields", title_justify="left")
        for name, column in file["fields"].items():
            fields.add_row(str(name), str(column))
        parts.append(fields)
    return [*parts, *_samples(file["samples"]), *_problems(file["problems"])]


def _samples(samples: Sequence[Mapping[str, Any]]) -> list[RenderableType]:
    if not samples:
        return []
    table = Table(
        "column", *(f"record {number + 1}" for number in range(len(samples))), title="samples", title_justify="left"
    )
    for name in dict.fromkeys(key for sample in samples for key in sample):
        table.add_row(str(name), *(_short(sample.get(name)) for sample in samples))
    return [table]


def _problems(problems: Sequence[Mapping[str, Any]]) -> list[RenderableType]:
    if not problems:
        return [Text("no problems found", style="green")]
    table = Table(
        "problem", "rows", "examples", title="problems (these rows would go to quarantine)", title_justify="left"
    )
    for problem in problems:
        examples = "\n".join(f"{_place(example)}: {example['error'][:160]}" for example in problem["examples"])
        table.add_row(problem["kind"], f"{problem['rows']:,}", Text(examples))
    return [table]


def _place(example: Mapping[str, Any]) -> str:
    return f"line {example['line']}" if example["line"] is not None else f"row {example['row']}"


def stages_view(stages: Sequence[Mapping[str, Any]], detailed: bool) -> RenderableType:
    """The list of stages, or one stage with its parameters."""
    if detailed:
        return Group(*(part for stage in stages for part in _stage_parts(stage)))
    table = Table("stage", "what it does")
    for stage in stages:
        table.add_row(stage["name"], Text(stage["summary"]))
    return table


def _stage_parts(stage: Mapping[str, Any]) -> list[RenderableType]:
    table = Table("parameter", "default", "meaning", "changing it")
    for parameter in stage["parameters"]:
        default = "required" if parameter["required"] else _short(parameter["default"])
        cost = "scores anew" if parameter["rescoring"] else "decides anew only"
        table.add_row(parameter["name"], default, Text(parameter["description"] or parameter["type"]), cost)
    return [Text(stage["name"], style="bold"), Markdown(stage["about"]), table]


def store_entries(root: str, entries: Sequence[Any]) -> dict[str, Any]:
    """Store entries as plain values, summed per section and stage."""
    groups: dict[str, dict[str, Any]] = {}
    for entry in entries:
        name = f"{entry.section}/{entry.name.rsplit('-', 1)[0]}" if "-" in entry.name else entry.section
        group = groups.setdefault(name, {"what": name, "entries": 0, "files": 0, "bytes": 0, "last_used": 0.0})
        group["entries"] += 1
        group["files"] += entry.files
        group["bytes"] += entry.bytes
        group["last_used"] = max(group["last_used"], entry.last_used)
    ordered = sorted(groups.values(), key=lambda group: (-group["bytes"], group["what"]))
    return {"store": root, "bytes": sum(group["bytes"] for group in ordered), "groups": ordered}


def store_view(found: Mapping[str, Any], verb: str = "holds") -> RenderableType:
    """What `curate store` shows."""
    table = Table("what", "entries", "files", "size", "last used")
    for group in found["groups"]:
        when = datetime.fromtimestamp(group["last_used"]).strftime("%Y-%m-%d %H:%M")
        table.add_row(group["what"], str(group["entries"]), str(group["files"]), decimal(group["bytes"]), when)
    return Group(table, Text(f"{found['store']}: {verb} {decimal(found['bytes'])}"))


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={_short(value)}" for key, value in values.items() if value is not None)


def _short(value: Any) -> Text | str:
    text = " ".join(str("" if value is None else value).split())
    return text if len(text) <= 90 else f"{text[:87]}…"
