"""Score histograms of a run's decisions, as numbers and as coordinates of a drawing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import Final

from reports.catalog import Catalog
from reports.manifest import StageEntry
from reports.thresholds import thresholds

BINS: Final = 40
_WIDTH: Final = 560.0
_HEIGHT: Final = 120.0
_RANGES: Final = """
SELECT stage, min(score), max(score), quantile_cont(score, 0.005), quantile_cont(score, 0.995),
       bool_and(score = floor(score)), count(*)
FROM decisions WHERE isfinite(score) GROUP BY stage"""
# Scores beyond the range shown count in the first and the last bin.
_COUNTS: Final = """
SELECT least(greatest(CAST(floor((score - $low) / $step) AS INTEGER), 0), $bins - 1) AS bin, keep, count(*)
FROM decisions WHERE stage = $stage AND isfinite(score) GROUP BY ALL"""


@dataclass(frozen=True)
class Bar:
    """One bin: its range, its rows, and where it is drawn (heights in drawing units)."""

    low: float
    high: float
    kept: int
    dropped: int
    x: float
    width: float
    kept_height: float
    dropped_height: float


@dataclass(frozen=True)
class Line:
    """A threshold at `x` of the drawing; `anchor` is the side its label goes to."""

    name: str
    value: float
    x: float
    anchor: str


@dataclass(frozen=True)
class Histogram:
    """Scores of one stage. `clipped`: some scores lie beyond the range shown."""

    stage: str
    rows: int
    low: float
    high: float
    bars: tuple[Bar, ...]
    lines: tuple[Line, ...]
    clipped: bool
    width: float = _WIDTH
    height: float = _HEIGHT


def histograms(catalog: Catalog, stages: Sequence[StageEntry]) -> list[Histogram]:
    """One histogram per stage that gave scores which are not all the same."""
    ranges = {row[0]: row[1:] for row in catalog.sql(_RANGES).fetchall()}
    return [_histogram(catalog, stage, *ranges[stage.stage]) for stage in stages if _varies(ranges.get(stage.stage))]


def _varies(span: tuple[float, ...] | None) -> bool:
    return span is not None and span[0] < span[1]


def _histogram(
    catalog: Catalog,
    stage: StageEntry,
    least: float,
    most: float,
    near_least: float,
    near_most: float,
    whole: bool,
    rows: int,
) -> Histogram:
    limits = thresholds(stage.params)
    # A limit beyond the scores is shown too, unless it is so far off that the scores would shrink to nothing.
    span = near_most - near_least or most - least
    shown = [value for value in limits.values() if near_least - span <= value <= near_most + span]
    low, high = min([near_least, *shown]), max([near_most, *shown])
    if low == high:
        low, high = least, most
    bins = BINS
    if whole and most - least < BINS:
        # Counts get a bar each, so that a limit lies between two bars.
        low, high = floor(min(low, least)), ceil(max(high, most)) + 1
        bins = int(high - low)
    step = (high - low) / bins
    counts = {
        (at, keep): count
        for at, keep, count in catalog.sql(
            _COUNTS, {"low": low, "step": step, "bins": bins, "stage": stage.stage}
        ).fetchall()
    }
    pairs = [(counts.get((at, True), 0), counts.get((at, False), 0)) for at in range(bins)]
    lines = tuple(_line(name, value, low, high) for name, value in limits.items() if low <= value <= high)
    return Histogram(stage.stage, rows, low, high, _bars(pairs, low, step), lines, least < low or most > high)


def _bars(pairs: Sequence[tuple[int, int]], low: float, step: float) -> tuple[Bar, ...]:
    """Bars in linear scale; a bin with any row at all stays visible."""
    tallest = max(kept + dropped for kept, dropped in pairs)
    slot = _WIDTH / len(pairs)

    def height(count: int) -> float:
        return max(count / tallest * _HEIGHT, 1.5) if count else 0.0

    return tuple(
        Bar(low + at * step, low + (at + 1) * step, kept, dropped, at * slot, slot - 1, height(kept), height(dropped))
        for at, (kept, dropped) in enumerate(pairs)
    )


def _line(name: str, value: float, low: float, high: float) -> Line:
    share = (value - low) / (high - low)
    return Line(name, value, share * _WIDTH, "end" if share > 0.6 else "start")
