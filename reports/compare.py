"""Which selection is best (`curate compare`): what was measured, put side by side, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson

from reports.compare_stats import LEVEL, Interval, holm, interval, paired

RANDOM: Final = "random"


@dataclass(frozen=True)
class Line:
    """One selector on one target.

    Attributes:
        loss: of the held-out half of the target after training, over seeds.
        gain: difference from random's loss, paired by seed (negative is better); None for random itself.
        adjusted: the p value of `gain`, corrected for the number of selectors (Holm).
        others: differences from random on the other sets; random's own losses in its own line.
        tokens: in the selection, with `passes` how often training went through it. Means over seeds.
        distinct: share of distinct runs of three words; `clusters`: effective number of the pool's clusters.
        seconds: that its stages took, of one selection; `known`: share of scores that were in the store before.
    """

    selector: str
    loss: Interval
    gain: Interval | None
    adjusted: float
    others: Mapping[str, Interval]
    rows: float
    tokens: float
    mean_tokens: float
    passes: float
    distinct: float
    clusters: float
    seconds: float
    known: float
    sources: Mapping[str, float]


@dataclass(frozen=True)
class Verdict:
    """All selectors on one target, the lowest loss first, and what to use. `before` is the loss before training."""

    target: str
    held_out: int
    before: float
    lines: tuple[Line, ...]
    overlap: Mapping[str, Mapping[str, float]]
    best: str | None
    recommendation: str


@dataclass(frozen=True)
class Found:
    """A whole comparison. `facts` is what was measured on, in words."""

    verdicts: tuple[Verdict, ...]
    selectors: tuple[str, ...]
    seeds: int
    facts: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; what is not known (nan) is None."""
        plain: dict[str, Any] = orjson.loads(orjson.dumps(self))
        return plain


def judge(raw: Mapping[str, Any]) -> Found:
    """From what `pipelines.comparing.compare` returns to verdicts."""
    verdicts = tuple(_verdict(raw, target) for target in raw["targets"])
    return Found(verdicts, tuple(raw["selectors"]), raw["seeds"], tuple(_facts(raw)))


def recommend(target: str, lines: Sequence[Line], losses: Mapping[str, Mapping[int, float]]) -> tuple[str | None, str]:
    """The selector to use (None where the seeds cannot tell) and why, in a few sentences.

    Only a selector whose paired difference from random is below zero at p < 0.05 after Holm's correction can win.
    """
    if len(losses[RANDOM]) < 2:
        return None, f"{target}: one seed says nothing about chance; repeat with --seeds 5."
    rivals = [line for line in lines if line.gain is not None]
    winners = [line for line in rivals if line.gain.mean < 0 and line.adjusted < 1 - LEVEL]  # type: ignore[union-attr]
    worse = [line for line in rivals if line.gain.mean > 0 and line.adjusted < 1 - LEVEL]  # type: ignore[union-attr]
    harm = f" Surely worse than random: {_names(worse)}." if worse else ""
    if not winners:
        return RANDOM, _nothing(target, rivals) + harm
    best = min(winners, key=lambda line: line.loss.mean)
    return best.selector, f"{target}: use `{best.selector}`: {_gain(best)}.{_rest(best, winners, losses)}{harm}"


def _nothing(target: str, rivals: Sequence[Line]) -> str:
    if not rivals:
        return f"{target}: random had no rival."
    nearest = min(rivals, key=lambda line: line.loss.mean)
    return (
        f"{target}: random is not beaten, so take random rows. "
        f"The lowest loss of the others is that of `{nearest.selector}`: {_gain(nearest)}."
    )


def _rest(best: Line, winners: Sequence[Line], losses: Mapping[str, Mapping[int, float]]) -> str:
    """Which winners cannot be told apart from the best, which of them is cheaper, and what the best costs elsewhere."""
    tied = [line for line in winners if line is not best and _tied(losses[line.selector], losses[best.selector])]
    text = f" Not told apart from it: {_names(tied)}." if tied else ""
    fastest = min([best, *tied], key=lambda line: line.seconds)
    if fastest is not best and best.seconds > 2 * fastest.seconds:
        text += f" Of these, `{fastest.selector}` took {lasting(fastest.seconds)}, not {lasting(best.seconds)}."
    dearer = [f"{name} ({found.mean:+.3f})" for name, found in best.others.items() if found.low > 0]
    return text + (f" It is worse than random on {', '.join(dearer)}." if dearer else "")


def _tied(first: Mapping[int, float], second: Mapping[int, float]) -> bool:
    gap = paired(first, second)
    return not (gap.low > 0 or gap.high < 0)


def _gain(line: Line) -> str:
    gain = line.gain
    assert gain is not None
    return f"{gain.mean:+.3f} nats per token against random (95% interval {gain.low:+.3f} to {gain.high:+.3f})"


def lasting(seconds: float) -> str:
    """A duration as people say it."""
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def _names(lines: Sequence[Line]) -> str:
    return ", ".join(f"`{line.selector}`" for line in lines)


def _verdict(raw: Mapping[str, Any], target: str) -> Verdict:
    losses = {name: _losses(raw, name, target) for name in raw["selectors"]}
    own = {name: {seed: found[target] for seed, found in of.items()} for name, of in losses.items()}
    gains = {name: paired(of, own[RANDOM]) for name, of in own.items() if name != RANDOM}
    adjusted = {RANDOM: float("nan"), **holm({name: gain.p for name, gain in gains.items()})}
    lines = [_line(raw, name, target, losses, gains.get(name), adjusted[name]) for name in losses]
    lines.sort(key=lambda line: line.loss.mean)
    best, text = recommend(target, lines, own)
    return Verdict(
        target, raw["targets"][target]["held_out"], raw["model"]["loss"][target], tuple(lines), raw["overlap"][target],
        best, text,
    )  # fmt: skip


def _losses(raw: Mapping[str, Any], selector: str, target: str) -> dict[int, Mapping[str, float]]:
    found = [one for one in raw["trainings"] if one["selector"] == selector and one["target"] == target]
    return {one["seed"]: one["loss"] for one in found}


def _line(
    raw: Mapping[str, Any], name: str, target: str, losses: Mapping[str, Mapping[int, Mapping[str, float]]],
    gain: Interval | None, adjusted: float,
) -> Line:  # fmt: skip
    own, base = losses[name], losses[RANDOM]
    others = {}
    for other in (*raw["targets"], *raw["others"]):
        mine, its = ({seed: found[other] for seed, found in of.items()} for of in (own, base))
        if other != target:
            others[other] = interval(list(mine.values())) if name == RANDOM else paired(mine, its)
    made = [one for one in raw["selections"] if one["selector"] == name and one["target"] in (target, None)]

    def mean(key: str) -> float:
        return float(np.mean([one[key] for one in made]))

    scored = sum(one["scored"] + one["known"] for one in made[:1])
    return Line(
        name, interval([found[target] for found in own.values()]), gain, adjusted, others, mean("rows"), mean("tokens"),
        mean("mean_tokens"), mean("passes"), mean("distinct"), mean("clusters"), made[0]["seconds"],
        made[0]["known"] / scored if scored else 0.0, _shares(made),
    )  # fmt: skip


def _shares(made: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The share of every source in the rows kept, the largest first."""
    rows: dict[str, int] = {}
    for one in made:
        for source, count in one["sources"].items():
            rows[source] = rows.get(source, 0) + count
    total = sum(rows.values())
    return {source: count / total for source, count in sorted(rows.items(), key=lambda item: -item[1])}


def _facts(raw: Mapping[str, Any]) -> list[str]:
    pool, model, train = raw["pool"], raw["model"], raw["train"]
    sources = ", ".join(f"{name} {rows:,}" for name, rows in pool["sources"].items())
    about = model["given"] or "built-in, warmed up on the pool"
    return [
        f"pool: {pool['rows']:,} rows ({sources}), without {pool['repeating_held_out']:,} that repeat a measured row",
        f"model: {about}, {model['parameters']:,} parameters; every selection trains it on {train['tokens']:,} tokens, "
        f"{raw['seeds']} seeds",
        *(
            f"{name}: {found['rows']:,} rows, half of them for the selectors, losses on {found['held_out']:,} others"
            for name, found in raw["targets"].items()
        ),
        *(f"{name}: losses on {found['held_out']:,} rows" for name, found in raw["others"].items()),
    ]
