"""How a record's story looks on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from reports.spans import highlighted
from reports.story import Related, Rewrite, Step, Story
from reports.text import Change, excerpt, shortened

_OUTCOME: Final = {"kept": "bold green", "dropped": "bold red", "quarantined": "bold magenta"}
# Marked as `git diff --word-diff` does, so that it reads without colours too.
_CHANGE: Final = {"same": ("", "", ""), "removed": ("red", "[-", "-]"), "added": ("green", "{+", "+}")}


def render(story: Story) -> Group:
    """The whole story as a rich renderable."""
    parts: list[RenderableType] = [_headline(story), _facts(story), Text(), _steps(story.steps)]
    for step in story.steps:
        if step.related:
            parts += [Text(), _twin(step.stage, step.related)]
    for span in story.spans:
        parts += [Text(), Text(f"{span.stage} found in {span.path}", "bold"), indented(highlighted(span))]
    for rewrite in story.rewrites:
        parts += [Text(), _rewrite(rewrite)]
    for row in story.quarantine:
        parts += [Text(), Text(f"quarantined at {row['stage']}: {row['kind']}", "magenta"), Text(row["error"])]
        parts += [indented(Text(excerpt(row["raw"], 400), "dim"))]
    parts += [Text(), _content(story)]
    return Group(*parts)


def _headline(story: Story) -> Text:
    line = Text(story.record_id, "bold").append("  ").append(story.outcome, _OUTCOME[story.outcome])
    last = story.steps[-1] if story.steps else None
    if story.outcome == "dropped" and last:
        line.append(f" by {fate(last.stage, last.reason)}")
    if story.outcome == "kept" and story.split:
        line.append(f" in {story.split}")
    return line


def _facts(story: Story) -> Table:
    table = Table.grid(padding=(0, 2))
    names = {"source": story.source, "your id": story.source_id, "origin": story.origin, "content": story.content_hash}
    for name, value in names.items():
        if value:
            table.add_row(Text(name, "dim"), Text(value, overflow="fold"))
    return table


def _steps(steps: Sequence[Step]) -> Table:
    table = Table(show_edge=False, header_style="bold")
    for name in ("", "stage", "", "reason", "score", "limit", "more"):
        table.add_column(name, justify="right" if name in ("", "score") else "left")
    for step in steps:
        verdict = Text("keep", "green") if step.keep else Text("drop", "bold red")
        limits = ", ".join(f"{name} {value:g}" for name, value in step.limits.items())
        score = "" if step.score is None else f"{step.score:,.4g}"
        table.add_row(str(step.position), step.stage, verdict, Text(step.reason), score, limits, Text(_more(step)))
    return table


def _more(step: Step) -> str:
    pairs: dict[str, Any] = dict(step.scores)
    if isinstance(step.detail, dict):
        pairs |= step.detail
    elif step.detail is not None:
        pairs["detail"] = step.detail
    return ", ".join(f"{name}={_short(value)}" for name, value in pairs.items())


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return excerpt(value if isinstance(value, str) else orjson.dumps(value, default=str).decode(), 60)


def _twin(stage: str, related: Related) -> Group:
    name = f"{related.source or ''}{':' + related.source_id if related.source_id else ''}"
    head = Text(f"{stage} refers to ", "bold").append(related.related_id).append(f"  {name}", "dim")
    if related.changes:
        note = Text("  from it to this record:", "dim")
        return Group(head, note, indented(changes(shortened(related.changes))))
    if related.text:
        return Group(head, indented(Text(related.text)))
    return Group(head)


def _rewrite(rewrite: Rewrite) -> Group:
    head = Text(f"{rewrite.stage} {rewrite.status}", "bold").append(f"  {_made_with(rewrite)}", "dim")
    parts: list[RenderableType] = [head]
    for column, pieces in rewrite.columns.items():
        parts += [Text(f"  {column}", "dim"), indented(changes(shortened(pieces)))]
    return Group(*parts)


def _made_with(rewrite: Rewrite) -> str:
    """Model, prompt, tokens and US dollars, as far as they are known."""
    parts = [rewrite.model, rewrite.prompt_version and f"prompt {rewrite.prompt_version}"]
    parts += [f"{rewrite.tokens_in} tokens in, {rewrite.tokens_out} out" if rewrite.tokens_in is not None else None]
    parts += [f"cost {rewrite.cost:g} USD" if rewrite.cost is not None else None]
    return ", ".join(filter(None, parts))


def _content(story: Story) -> RenderableType:
    if story.text is None:
        return Text("its text is not in this directory: only rows that were kept are exported", "dim")
    return Group(Text("content", "bold"), indented(Text(excerpt_lines(story.text))))


def excerpt_lines(text: str, lines: int = 30, length: int = 3000) -> str:
    """The beginning of a text, its line breaks kept, with a note of what is left out."""
    short = "\n".join(text[:length].split("\n")[:lines])
    return short if short == text else f"{short}\n… {len(text) - len(short):,} more characters"


def fate(stage: str, reason: str) -> str:
    """`dedup: near_duplicate`; a reason that already begins with its stage stays as it is."""
    return reason if reason.startswith(f"{stage}:") else f"{stage}: {reason}"


def indented(text: Text, by: int = 2) -> Table:
    """A text moved to the right, wrapped there, never cut, also where the output is no terminal."""
    table = Table.grid()
    table.add_column(width=by)
    table.add_column(overflow="fold")
    table.add_row("", text)
    return table


def changes(pieces: Sequence[Change]) -> Text:
    """A word diff in colours and brackets."""
    text = Text(overflow="fold")
    for kind, piece in pieces:
        style, start, end = _CHANGE[kind]
        text.append(f"{start}{piece}{end}", style)
    return text
