"""What `curate compare` shows: tables on a terminal, the same in Markdown, and a drawing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from reports.compare import RANDOM, Found, Line, Verdict, lasting
from reports.compare_stats import Interval
from reports.templating import environment

_HEADS: Final = (
    "selector", "loss", "against random (95%)", "p (Holm)", "rows", "tokens", "per row", "passes", "distinct",
    "clusters", "time", "most from",
)  # fmt: skip
_WIDTH: Final = 420.0
_STEP: Final = 24.0
_ROOM: Final = 40.0
_GREY, _GOOD, _BAD = "#888888", "#228833", "#cc3311"


@dataclass(frozen=True)
class Mark:
    """One selector in the drawing: where its mean, its interval and its name stand, and the colour of both."""

    name: str
    label: str
    y: float
    x: float
    low: float
    high: float
    colour: str


@dataclass(frozen=True)
class Panel:
    """One target in the drawing: its marks, x of zero, and labelled ticks; `y` is where it begins."""

    title: str
    y: float
    height: float
    zero: float
    marks: tuple[Mark, ...]
    ticks: tuple[tuple[float, str], ...]


def render(found: Found) -> RenderableType:
    """Every target's tables, its recommendation last."""
    parts: list[RenderableType] = [Text(fact, style="dim") for fact in found.facts]
    if len(found.verdicts) > 1:
        parts.append(_table("against random rows, on the target itself (* p < 0.05 after Holm)", *_summary(found)))
    for verdict in found.verdicts:
        title = f"\n{verdict.target}: loss of {verdict.held_out:,} held-out rows, {verdict.before:.3f} before training"
        parts += [_table(title, _HEADS, _rows(verdict)), _table("other sets, against random", *_others(verdict))]
        parts += [_table("rows in common (Jaccard)", *_overlap(verdict)), Text(verdict.recommendation, style="bold")]
    return Group(*parts)


def markdown(found: Found) -> str:
    """The same as Markdown."""
    lines = [*(f"- {fact}" for fact in found.facts)]
    if len(found.verdicts) > 1:
        lines += [
            "",
            "Against random rows, on the target itself (* p < 0.05 after Holm):",
            "",
            *_piped(*_summary(found)),
        ]
    for verdict in found.verdicts:
        lines += ["", f"### {verdict.target}", "", verdict.recommendation, ""]
        lines += [
            f"Loss of {verdict.held_out:,} held-out rows in nats per token; {verdict.before:.3f} before training."
        ]
        lines += ["", *_piped(_HEADS, _rows(verdict)), "", "Other sets (random's loss; the others against it):", ""]
        lines += [*_piped(*_others(verdict)), "", "Rows in common (Jaccard):", "", *_piped(*_overlap(verdict))]
    return "\n".join(lines) + "\n"


def plot(found: Found) -> str:
    """Every selector's difference from random with its interval, target by target, as an SVG drawing."""
    panels, y = [], 30.0
    for verdict in found.verdicts:
        panels.append(_panel(verdict, y))
        y += panels[-1].height + 70
    template = environment(autoescape=True).get_template("compare.svg.j2")
    return template.render(panels=panels, width=_WIDTH, height=y, seeds=found.seeds)


def _summary(found: Found) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """All selectors on all targets; random's row has its losses."""
    lines = [{line.selector: line for line in verdict.lines} for verdict in found.verdicts]
    return ("selector", *(verdict.target for verdict in found.verdicts)), [
        (name, *(_summed(of[name]) for of in lines)) for name in found.selectors
    ]


def _summed(line: Line) -> str:
    if line.gain is None:
        return _band(line.loss, ".3f")
    return _band(line.gain, "+.3f") + (" *" if line.adjusted < 0.05 else "")


def _rows(verdict: Verdict) -> Iterator[tuple[str, ...]]:
    for line in verdict.lines:
        yield (
            line.selector, _band(line.loss, ".3f"), "" if line.gain is None else _band(line.gain, "+.3f"),
            _chance(line.adjusted), f"{line.rows:,.0f}", f"{line.tokens:,.0f}",
            f"{line.mean_tokens:,.0f}", f"{line.passes:.1f}", f"{line.distinct:.1%}", f"{line.clusters:.1f}",
            _time(line), _sources(line.sources),
        )  # fmt: skip


def _others(verdict: Verdict) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    names = tuple(verdict.lines[0].others) if verdict.lines else ()
    rows = [
        (line.selector, *(_band(line.others[name], ".3f" if line.selector == RANDOM else "+.3f") for name in names))
        for line in verdict.lines
    ]
    return ("selector", *names), rows if names else []


def _overlap(verdict: Verdict) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    names = tuple(verdict.overlap)
    return ("", *names), [(a, *(f"{verdict.overlap[a][b]:.2f}" for b in names)) for a in names]


def _band(found: Interval, shape: str) -> str:
    if isnan(found.low):
        return f"{found.mean:{shape}}"
    return f"{found.mean:{shape}} ± {found.high - found.mean:.3f}"


def _chance(p: float) -> str:
    return "" if isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def _time(line: Line) -> str:
    return lasting(line.seconds) + (f" ({line.known:.0%} known)" if line.known >= 0.005 else "")


def _sources(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in list(shares.items())[:2])


def _table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]] | Iterator[Sequence[str]]) -> RenderableType:
    cells = list(rows)
    if not cells:
        return Text()
    table = Table(*heads, title=title, title_justify="left")
    for row in cells:
        table.add_row(*row)
    return table


def _piped(heads: Sequence[str], rows: Sequence[Sequence[str]] | Iterator[Sequence[str]]) -> list[str]:
    cells = list(rows)
    if not cells:
        return ["none"]
    return [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *cells)]


def _panel(verdict: Verdict, y: float) -> Panel:
    lines = [line for line in verdict.lines if line.gain is not None]
    ends = [0.0]
    for line in lines:
        assert line.gain is not None
        ends += [line.gain.mean if isnan(end) else end for end in (line.gain.low, line.gain.mean, line.gain.high)]
    low, high = min(ends), max(ends)
    wide = (high - low) or 1.0

    def place(value: float) -> float:
        return (value - low) / wide * _WIDTH

    marks = tuple(_mark(line, at * _STEP + _STEP / 2, place) for at, line in enumerate(lines))
    title = f"{verdict.target}: random {_random(verdict):.3f} nats per token"
    # An end too near to zero has no room for a label of its own.
    shown = [value for value in (low, high) if abs(place(value) - place(0.0)) > _ROOM]
    ticks = ((place(0.0), "0"), *((place(value), f"{value:+.3f}") for value in shown))
    return Panel(title, y, _STEP * max(1, len(lines)), place(0.0), marks, ticks)


def _mark(line: Line, y: float, place: Callable[[float], float]) -> Mark:
    gain = line.gain
    assert gain is not None
    low, high = (gain.mean if isnan(end) else end for end in (gain.low, gain.high))
    sure = line.adjusted < 0.05
    colour = (_GOOD if gain.mean < 0 else _BAD) if sure else _GREY
    return Mark(line.selector, _band(gain, "+.3f"), y, place(gain.mean), place(low), place(high), colour)


def _random(verdict: Verdict) -> float:
    return next(line.loss.mean for line in verdict.lines if line.selector == RANDOM)
