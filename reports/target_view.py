"""What `curate check-target` shows: tables on a terminal, and a drawing."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from reports.target import TargetCheck
from reports.target_trial import SizePoint, Trial
from reports.templating import environment

NAMES: Final = {
    "debiased": "debiased (default)",
    "alignment": "ZIP-FIT as published",
    "dsir": "DSIR per token",
    "gain": "bytes saved",
}
_WIDTH: Final = 300.0
_HEIGHT: Final = 180.0


@dataclass(frozen=True)
class Bar:
    """One score's recall: y of the row, lengths along x, and the interval."""

    name: str
    label: str
    y: float
    width: float
    low: float
    high: float


@dataclass(frozen=True)
class Dot:
    """One target size: where it is drawn, and the interval of recall."""

    label: str
    x: float
    recall: float
    low: float
    high: float
    agreement: float


def render(check: TargetCheck) -> RenderableType:
    """The check as tables, with the recommendation last."""
    parts: list[RenderableType] = []
    if check.trials:
        parts += [_trials(check), _sizes(check.sizes)]
    parts += [_facts(check), *(_examples(check) if check.leakage.examples else ())]
    parts += [Text(note, style="dim") for note in check.notes]
    return Group(*parts, Text(check.recommendation, style="bold"))


def plot(check: TargetCheck) -> str:
    """The needle tests as an SVG drawing; a drawing that says so where there were none."""
    template = environment(autoescape=True).get_template("target.svg.j2")
    return template.render(
        check=check, bars=_bars(check.trials), dots=_dots(check.sizes), width=_WIDTH, height=_HEIGHT, ticks=_ticks()
    )


def _trials(check: TargetCheck) -> Table:
    title = f"{check.tested} target rows, a fifth at a time hidden among {check.others:,} pool rows"
    table = Table("score", "found in the top 1%", "95% interval", "pool rows beaten", title=title, title_justify="left")
    for trial in sorted(check.trials, key=lambda trial: -trial.recall):
        interval = f"{trial.low:.0%} to {trial.high:.0%}"
        table.add_row(NAMES[trial.score], f"{trial.recall:.1%}", interval, f"{trial.beaten:.1%}")
    return table


def _sizes(points: tuple[SizePoint, ...]) -> Table:
    columns = ("target rows", "found in the top 1%", "5th to 95th percentile", "same top 1% as the whole target")
    table = Table(*columns, title="size of the target (debiased score, rows drawn at random)", title_justify="left")
    for point in points:
        spread = f"{point.low:.0%} to {point.high:.0%}"
        table.add_row(f"{point.rows:,}", f"{point.recall:.1%}", spread, f"{point.agreement:.0%}")
    return table


def _facts(check: TargetCheck) -> Table:
    table = Table("", "rows", "of", title="the rows themselves", title_justify="left")
    leaks, twins = check.leakage, check.redundancy
    facts = (
        ("pool rows equal to a target row", leaks.pool_equal, check.pool_rows),
        ("pool rows near a target row (Jaccard 0.8)", leaks.pool_near, check.pool_rows),
        ("target rows found in the pool", leaks.target_rows, check.target_rows),
        ("target rows equal to an earlier one", twins.equal, check.target_rows),
        ("target rows with a near copy (Jaccard 0.5)", twins.near, check.target_rows),
    )
    for name, count, total in facts:
        table.add_row(name, f"{count:,}", f"{total:,}")
    return table


def _examples(check: TargetCheck) -> list[RenderableType]:
    table = Table("pool row", "target row", "similarity", title="target rows in the pool", title_justify="left")
    for leak in check.leakage.examples:
        table.add_row(leak.pool_id, leak.target_id, f"{leak.similarity:.2f}")
    return [table]


def _bars(trials: tuple[Trial, ...]) -> list[Bar]:
    step = _HEIGHT / max(1, len(trials))
    return [
        Bar(
            NAMES[trial.score], f"{trial.recall:.0%}", number * step + step / 2, trial.recall * _WIDTH,
            trial.low * _WIDTH, trial.high * _WIDTH,
        )
        for number, trial in enumerate(sorted(trials, key=lambda trial: -trial.recall))
    ]  # fmt: skip


def _dots(points: tuple[SizePoint, ...]) -> list[Dot]:
    """Sizes on a logarithmic axis; one size alone stands in the middle."""
    if not points:
        return []
    first, last = log(points[0].rows), log(points[-1].rows)
    return [
        Dot(
            f"{point.rows:,}", (log(point.rows) - first) / (last - first) * _WIDTH if last > first else _WIDTH / 2,
            _up(point.recall), _up(point.low), _up(point.high), _up(point.agreement),
        )
        for point in points
    ]  # fmt: skip


def _up(share: float) -> float:
    return _HEIGHT * (1 - share)


def _ticks() -> list[tuple[str, float]]:
    return [(f"{share:.0%}", share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
