"""The tables and the plot of bench/quad_selection.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from quad_selection import METHODS, QUAD_BATCHES, SIZE, share_for, trained
from scipy.stats import t

COLOURS = {"random": "#888888", "clusters": "#4477aa", "bandit": "#cc6677", "quad": "#228833"}
NAMED = {
    "random": "rows at random", "clusters": "every cluster evenly", "bandit": "the bandit's draws",
    "quad": "quad's selection, no cap",
}  # fmt: skip


CAPS = ("", ", no cap")


def report(work: Path, rate: float) -> None:
    """Write the tables and the plot."""
    times, curves = json.loads((work / "times.json").read_text()), json.loads((work / "scan.json").read_text())
    parts = [
        "# Selection by influence", "", "Made by `bench/quad_selection.py all`. "
        f"{times['rows']:,} rows, a student of {SIZE.layers} layers and width {SIZE.width}, "
        f"fit {times['fit']:.0f} s and full scan {times['scan']:.0f} s of CPU time (one core).",
    ]  # fmt: skip
    parts += [
        "",
        "## Share of the pool scored for a share of the full scan's top-10% influence",
        "",
        *mass_table(curves),
    ]
    told = json.loads((work / "variants.json").read_text())
    parts += [
        "",
        "Settings of the bandit: share scored and mass, mean over seeds.",
        "",
        "| setting | " + " | ".join(curves) + " |",
    ]
    parts += ["|---" * (1 + len(curves)) + "|"]
    for name, cells in told.items():
        parts.append(f"| {name} | " + " | ".join(f"{share:.0%}: {mass:.0%}" for share, mass in cells) + " |")
    if trained(work, rate).is_file():
        parts += ["", f"## Continued training, learning rate {rate:g}", "", *train_tables(work, rate)]
    place = Path(__file__).parent / "results" / "quad_selection.md"
    place.write_text("\n".join(parts) + "\n")
    picture(work, curves)
    print(place.read_text())


def mass_table(curves: dict[str, Any]) -> list[str]:
    """Share scored for 80% and 90% of the mass, and what the shipped stage reaches by default."""
    lines = [
        "| target | mass | " + " | ".join(NAMED[name] for name in ("random", "clusters", "bandit")) + " |",
        "|---|---|---|---|---|",
    ]
    for target, found in curves.items():
        for mass in (0.8, 0.9):
            cells = [share_for([tuple(p) for p in found[name]], mass) for name in ("random", "clusters", "bandit")]
            lines.append(f"| {target} | {mass:.0%} | " + " | ".join(f"{cell:.0%}" for cell in cells) + " |")
    lines += [
        "",
        "`quad` at its defaults, but without a cap: share scored and mass, by rows a cluster gives at a time.",
        "",
    ]
    lines += ["| target | " + " | ".join(f"batch {batch}" for batch in QUAD_BATCHES) + " |", "|---" * 7 + "|"]
    for target, found in curves.items():
        points = np.array(found["quad"]).reshape(-1, len(QUAD_BATCHES), 2).mean(axis=0)
        lines.append(f"| {target} | " + " | ".join(f"{share:.0%}: {mass:.0%}" for share, mass in points) + " |")
    return lines


def train_tables(work: Path, rate: float) -> list[str]:
    """Change of loss against random rows of the same budget: mean over seeds and a 95% interval (t distribution)."""
    found = [json.loads(line) for line in trained(work, rate).read_text().splitlines()]
    lines = []
    for target in sorted({row["target"] for row in found}):
        mine = [row for row in found if row["target"] == target]
        sets = list(mine[0]["loss"])
        lines += [
            "", f"Target {target} (nats per token; differences from random, mean over seeds, 95% interval)", "",
            "| method | seeds | scored | " + " | ".join(f"**{s}**" if s == target else s for s in sets) + " |",
            "|---" * (3 + len(sets)) + "|",
        ]  # fmt: skip
        before = json.loads((work / "before.json").read_text()) if (work / "before.json").is_file() else {}
        if before:
            lines.append("| none: the student as it was | | | " + " | ".join(f"{before[s]:.3f}" for s in sets) + " |")
        base = {row["seed"]: row["loss"] for row in mine if row["method"] == "random"}
        for method in METHODS:
            rows_ = [row for row in mine if row["method"] == method and row["seed"] in base]
            cells = [
                cell(method, [row["loss"][s] for row in rows_], [base[row["seed"]][s] for row in rows_]) for s in sets
            ]
            scored = np.mean([row["scored"] for row in rows_]) if rows_ else float("nan")
            lines.append(f"| {method} | {len(rows_)} | {scored:.0%} | " + " | ".join(cells) + " |")
        lines += capped(mine, sets)
    return lines


def capped(mine: list[dict[str, Any]], sets: list[str]) -> list[str]:
    """What the cap on clusters changes, seed by seed."""
    one, other = ({row["seed"]: row["loss"] for row in mine if row["method"] == f"quad{tail}"} for tail in CAPS)
    seeds = sorted(one.keys() & other.keys())
    if not seeds:
        return []
    cells = [cell("", [one[seed][s] for seed in seeds], [other[seed][s] for seed in seeds]) for s in sets]
    return [f"| quad less quad without a cap | {len(seeds)} | | {' | '.join(cells)} |"]


def cell(method: str, values: list[float], base: list[float]) -> str:
    """Random's own loss, or the paired difference from it."""
    if not values:
        return ""
    if method == "random":
        return f"{np.mean(values):.3f}"
    gap = np.array(values) - np.array(base)
    if len(gap) < 2:
        return f"{gap.mean():+.3f}"
    half = t.ppf(0.975, len(gap) - 1) * gap.std(ddof=1) / len(gap) ** 0.5
    return f"{gap.mean():+.3f} ± {half:.3f}"


def picture(work: Path, curves: dict[str, Any]) -> None:
    """docs/quad-selection.svg."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "quad"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, len(curves), figsize=(3.6 * len(curves), 3.3), sharey=True, constrained_layout=True
    )
    for axis, (target, found) in zip(axes, curves.items(), strict=True):
        for name in ("random", "clusters", "bandit"):
            points = found[name]
            shares = sorted({share for share, _ in points})
            means = [np.mean([mass for share, mass in points if share == one]) for one in shares]
            axis.plot(shares, means, color=COLOURS[name], label=NAMED[name])
        axis.scatter(*np.array(found["quad"]).T, s=9, color=COLOURS["quad"], label=NAMED["quad"])
        axis.axhline(0.9, color="#bbbbbb", linewidth=0.8, linestyle="--")
        axis.set(title=target, xlabel="share of the pool scored", xlim=(0, 1), ylim=(0, 1.02))
    axes[0].set_ylabel("influence of what is taken,\nof the full scan's best 10%")
    axes[-1].legend(loc="lower right", fontsize=8, frameon=False)
    figure.savefig(Path(__file__).parents[1] / "docs" / "quad-selection.svg", metadata={"Date": None})
