"""The funnel as a flow drawing: a band of rows that narrows from stage to stage, losses bending off downwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from reports.manifest import StageEntry

WIDTH: Final = 1000.0
_TOP: Final = 54.0  # room for the labels above
_BAND: Final = 120.0  # height of the band when all rows are in it
_NODE: Final = 10.0
_DROP: Final = 66.0  # how far losses bend down below the band
_LABELS: Final = 40.0


@dataclass(frozen=True)
class Node:
    """A stage: its bar and its label."""

    label: str
    rows: int
    x: float
    height: float


@dataclass(frozen=True)
class Loss:
    """Rows that left at a stage: path and where to write how many."""

    stage: str
    kind: str
    rows: int
    path: str
    x: float
    y: float


@dataclass(frozen=True)
class Flow:
    """The whole drawing, in drawing units."""

    nodes: tuple[Node, ...]
    bands: tuple[str, ...]
    losses: tuple[Loss, ...]
    top: float = _TOP
    node_width: float = _NODE
    width: float = WIDTH
    height: float = _TOP + _BAND + _DROP + _LABELS


def flow(steps: Sequence[StageEntry]) -> Flow:
    """The drawing for steps in order; the last node is the dataset."""
    scale = _BAND / max([step.rows_in for step in steps] + [1])
    pitch = (WIDTH - 120) / max(len(steps), 1)
    nodes = [Node(step.stage, step.rows_in, 40 + at * pitch, step.rows_in * scale) for at, step in enumerate(steps)]
    if steps:
        nodes.append(Node("dataset", steps[-1].kept, 40 + len(steps) * pitch, steps[-1].kept * scale))
    bands = tuple(_band(nodes[at].x + _NODE, nodes[at + 1].x, step.kept * scale) for at, step in enumerate(steps))
    losses = [loss for at, step in enumerate(steps) for loss in _losses(step, nodes[at].x + _NODE, pitch, scale)]
    return Flow(tuple(nodes), bands, tuple(losses))


def _band(x0: float, x1: float, height: float) -> str:
    return f"M{x0:.1f} {_TOP:.1f}H{x1:.1f}V{_TOP + height:.1f}H{x0:.1f}Z"


def _losses(step: StageEntry, x: float, pitch: float, scale: float) -> list[Loss]:
    """Dropped rows leave above quarantined ones, so they end further to the right."""
    kinds = [("dropped", step.dropped), ("quarantined", step.quarantined)]
    present = [(kind, rows) for kind, rows in kinds if rows]
    start = _TOP + step.kept * scale
    reach = 0.55 if len(present) == 1 else 0.72
    losses = []
    for kind, rows in present:
        height = max(rows * scale, 1.5)
        losses.append(_loss(step.stage, kind, rows, (x, start), x + reach * (pitch - _NODE), height))
        start += height
        reach -= 0.42
    return losses


def _loss(stage: str, kind: str, rows: int, at: tuple[float, float], x: float, height: float) -> Loss:
    """A band of constant thickness that leaves to the right and turns down, ending at `x`."""
    x0, y0 = at
    end = _TOP + _BAND + _DROP
    outer, inner = x, max(x - min(height, 60.0), x0)
    path = (
        f"M{x0:.1f} {y0:.1f}C{outer:.1f} {y0:.1f} {outer:.1f} {y0:.1f} {outer:.1f} {end:.1f}"
        f"H{inner:.1f}C{inner:.1f} {y0 + height:.1f} {inner:.1f} {y0 + height:.1f} {x0:.1f} {y0 + height:.1f}Z"
    )
    return Loss(stage, kind, rows, path, (outer + inner) / 2, end + 16)
