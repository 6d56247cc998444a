"""What `quad` made of the pool: its clusters with influence, draws, share taken and examples, and a map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from reports.catalog import Catalog, open_views
from reports.manifest import load, run_dir
from reports.records import Lookup, Records, fetch, stored
from reports.templating import environment
from reports.text import excerpt, plain
from schemas.errors import RecipeError, nearest

_ROWS: Final = """
SELECT stage, position, record_id, keep, score, CAST(json_extract(detail, '$.arm') AS INTEGER) AS arm,
       CAST(json_extract(detail, '$.arm_draws') AS INTEGER) AS draws,
       CAST(json_extract(detail, '$.arm_reward') AS DOUBLE) AS reward,
       CAST(json_extract(detail, '$.at[0]') AS DOUBLE) AS x, CAST(json_extract(detail, '$.at[1]') AS DOUBLE) AS y
FROM decisions WHERE detail IS NOT NULL AND contains(detail, '"arm_draws"')"""
_STAGES: Final = """
SELECT stage, position, count(*) AS n, count(*) FILTER (keep) AS kept, count(score) AS scored
FROM arms GROUP BY ALL ORDER BY position"""
# Three examples of a cluster: its best, its median and its worst scored row, else any three.
_CLUSTERS: Final = """
SELECT arm, count(*) AS size, count(*) FILTER (keep) AS taken, any_value(draws) AS draws, any_value(reward) AS reward,
       count(score) AS scored, avg(score) AS influence,
       list(record_id ORDER BY score DESC NULLS LAST, record_id) AS members
FROM arms WHERE position = $position GROUP BY arm ORDER BY influence DESC NULLS LAST, arm"""
_POINTS: Final = """
SELECT x, y, score, keep FROM arms WHERE position = $position ORDER BY hash(record_id) LIMIT $limit"""
_POINT_LIMIT: Final = 4_000
_SIDE: Final = 360.0
_LOW, _HIGH = (33, 102, 172), (178, 24, 43)
_PALE_LOW, _PALE_HIGH = (209, 229, 240), (253, 219, 199)
_TAKEN, _LEFT = "#228833", "#dddddd"


@dataclass(frozen=True)
class Example:
    """A row of a cluster; its text is None where neither the run nor its store holds it."""

    record_id: str
    text: str | None


@dataclass(frozen=True)
class Cluster:
    """One cluster: `influence` is the mean over its scored rows (None where none was), `reward` the bandit's mean."""

    number: int
    size: int
    taken: int
    draws: int
    scored: int
    influence: float | None
    reward: float | None
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class Point:
    """A row on the map: coordinates as the stage left them, influence where it was scored, and whether it is in."""

    x: float
    y: float
    influence: float | None
    kept: bool


@dataclass(frozen=True)
class QuadReport:
    """All of one `quad` stage. `points` are those of a sample of its rows."""

    stage: str
    rows: int
    kept: int
    scored: int
    clusters: tuple[Cluster, ...]
    points: tuple[Point, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class _Dot:
    """A point of the drawing."""

    x: float
    y: float
    colour: str
    radius: float


def quad_report(directory: Path, stage: str | None = None) -> QuadReport:
    """The clusters of a run's `quad` stage (the first one, unless named).

    Raises RecipeError if `directory` is not a run, or has no such stage.
    """
    manifest = load(directory)
    with open_views(run_dir(directory), manifest) as catalog:
        catalog.remember("arms", _ROWS)
        found = catalog.rows(_STAGES)
        names = [row["stage"] for row in found]
        if not found or stage not in (None, *names):
            hint = nearest(stage or "quad", names) if names else "no stage of this run selected by influence"
            raise RecipeError(f"no quad stage {f'{stage!r} ' if stage else ''}in {directory}; {hint}")
        chosen = next(row for row in found if stage in (None, row["stage"]))
        return _report(catalog, chosen, stored(manifest))


def render(found: QuadReport, limit: int = 20) -> RenderableType:
    """The clusters of the highest and of the lowest mean influence as a table."""
    share = f"{found.scored / found.rows:.1%}" if found.rows else "none"
    head = (
        f"{found.stage}: {found.kept:,} of {found.rows:,} rows kept, {share} scored, {len(found.clusters):,} clusters"
    )
    table = Table(show_edge=False, header_style="bold")
    for name in ("cluster", "rows", "mean influence", "reward", "draws", "taken"):
        table.add_column(name, justify="right")
    table.add_column("best, middle and last row")
    for cluster in _ends(found.clusters, limit):
        table.add_row(*_cells(cluster), _examples(cluster))
    return Group(Text(head, "bold"), table)


def plot(found: QuadReport) -> str:
    """The map of the pool as an SVG drawing, once by influence and once by what was taken."""
    template = environment(autoescape=True).get_template("quad.svg.j2")
    influence, taken = _dots(found.points)
    low, high = (f"rgb{colour}" for colour in (_LOW, _HIGH))
    return template.render(report=found, influence=influence, taken=taken, side=_SIDE, low=low, high=high)


def _report(catalog: Catalog, row: Mapping[str, Any], lookup: Lookup) -> QuadReport:
    chosen = {"position": row["position"]}
    arms = catalog.rows(_CLUSTERS, chosen)
    picked = {arm["arm"]: _three(arm["members"], arm["scored"]) for arm in arms}
    records = fetch(catalog, [name for names in picked.values() for name in names], lookup)
    points = catalog.rows(_POINTS, {**chosen, "limit": _POINT_LIMIT})
    return QuadReport(
        row["stage"], row["n"], row["kept"], row["scored"],
        tuple(_cluster(arm, picked[arm["arm"]], records) for arm in arms),
        tuple(Point(point["x"], point["y"], point["score"], point["keep"]) for point in points),
    )  # fmt: skip


def _three(members: Sequence[str], scored: int) -> list[str]:
    """The first, the middle and the last of the scored rows, or of all where none was."""
    among = members[: scored or len(members)]
    return list(dict.fromkeys([among[0], among[len(among) // 2], among[-1]]))


def _cluster(arm: Mapping[str, Any], names: Sequence[str], records: Records) -> Cluster:
    examples = tuple(Example(name, excerpt(plain(records[name]), 120) if name in records else None) for name in names)
    return Cluster(
        arm["arm"], arm["size"], arm["taken"], arm["draws"], arm["scored"], arm["influence"], arm["reward"], examples
    )


def _ends(clusters: Sequence[Cluster], limit: int) -> list[Cluster]:
    if len(clusters) <= limit:
        return list(clusters)
    return [*clusters[: limit - limit // 4], *clusters[len(clusters) - limit // 4 :]]


def _cells(cluster: Cluster) -> list[str]:
    influence = "" if cluster.influence is None else f"{cluster.influence:.4g}"
    reward = "" if cluster.reward is None else f"{cluster.reward:+.2f}"
    taken = f"{cluster.taken / cluster.size:.0%}"
    return [str(cluster.number), f"{cluster.size:,}", influence, reward, f"{cluster.draws:,}", taken]


def _examples(cluster: Cluster) -> Text:
    return Text("\n").join(
        Text(example.text or f"{example.record_id}: not held by this run", "dim") for example in cluster.examples
    )


def _dots(points: Sequence[Point]) -> tuple[list[_Dot], list[_Dot]]:
    """Both drawings' dots; the coloured ones come last, to lie on top."""
    if not points:
        return [], []
    xs, ys = [point.x for point in points], [point.y for point in points]
    scale = _SIDE / max(max(xs) - min(xs), max(ys) - min(ys), 1e-9)
    known = sorted(abs(point.influence) for point in points if point.influence is not None)
    top = known[int(0.95 * (len(known) - 1))] if known else 1.0
    influence, taken = [], []
    for point in sorted(points, key=lambda point: (point.influence is not None, point.kept)):
        x, y = (point.x - min(xs)) * scale, (max(ys) - point.y) * scale
        scored = point.influence is not None
        influence.append(_Dot(x, y, _colour(point.influence, top or 1.0), 3.0 if scored else 1.8))
        taken.append(_Dot(x, y, _TAKEN if point.kept else _LEFT, 2.6 if point.kept else 1.8))
    taken.sort(key=lambda dot: dot.colour == _TAKEN)
    return influence, taken


def _colour(influence: float | None, top: float) -> str:
    """Blue at `-top`, pale at 0, red at `top`; grey for a row that was not scored."""
    if influence is None:
        return _LEFT
    share = max(-1.0, min(1.0, influence / top))
    pale, full = (_PALE_HIGH, _HIGH) if share > 0 else (_PALE_LOW, _LOW)
    mixed = (round(p + (f - p) * abs(share)) for p, f in zip(pale, full, strict=True))
    return "#" + "".join(f"{value:02x}" for value in mixed)
