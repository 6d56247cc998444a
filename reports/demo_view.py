"""What `curate demo` shows at its end: the funnel, three decisions, and what to try next."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from reports.catalog import open_views
from reports.counts import render
from reports.manifest import load, run_dir
from reports.records import stored
from reports.samples import Dropped, dropped
from reports.story_view import changes, fate, indented
from reports.text import excerpt

_EXAMPLES: Final = 3


def demo_view(directory: Path) -> Group:
    """The demo's summary. Raises RecipeError if `directory` is no run."""
    root = run_dir(directory)
    manifest = load(root)
    with open_views(root, manifest) as catalog:
        examples = _telling(dropped(catalog, each=1, lookup=stored(manifest)))
    parts: list[RenderableType] = [render(manifest, by_source=False), Text()]
    if examples:
        parts += [Text(f"{len(examples)} of the decisions", "bold")]
    for row in examples:
        parts += [*_example(row), Text()]
    return Group(*parts, Text("Next", "bold"), *_next(directory, examples))


def _telling(rows: list[Dropped]) -> list[Dropped]:
    """One row per reason, those with a twin to compare first."""
    return sorted(rows, key=lambda row: all(kind == "same" for kind, _ in row.changes))[:_EXAMPLES]


def _example(row: Dropped) -> list[RenderableType]:
    name = f"{row.source}:{row.source_id}" if row.source_id else row.source
    head = Text(f"  {row.record_id[:12]} ", "bold").append(f"{name}  ", "dim")
    head.append(fate(row.stage, row.reason), "red")
    if row.score is not None:
        head.append(f", score {row.score:.4g}", "dim")
    body = changes(row.changes) if row.changes else Text(excerpt(row.text or "", 160))
    return [head, indented(body, 4)]


def _next(directory: Path, examples: list[Dropped]) -> list[Text]:
    record = examples[0].record_id[:12] if examples else "RECORD_ID"
    commands = (
        f"curate explain {directory} {record}",
        f'curate sql {directory} "SELECT stage, reason, count(*) FROM decisions WHERE NOT keep GROUP BY ALL"',
        f"curate redecide {directory} --set stages.dedup.threshold=0.7",
        f"curate inspect {directory.parent / 'example' / 'chats.jsonl.gz'}",
    )
    return [Text(f"  {command}") for command in commands] + [Text(f"  open {directory / 'report.html'}")]
