"""Adapt-inf's choices (Maharana et al. 2024): a selector per pseudo-skill, its best rows, and what is redundant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

import numpy as np

from stages.contract import BoolArray, IntArray
from stages.quad.bandit import Floats
from stages.quad.clustering import Grouping, Ties
from stages.semantic.clusters import Vectors

Share = Literal["equal", "proportional"]
BINS: Final = 50
_MOST_MISSING: Final = 0.1
_BLOCK: Final = 1_024


class Chosen(NamedTuple):
    """Per cluster the selector's place in the list and its entropy in nats; per row its value and its rank (from 0)."""

    selector: IntArray
    entropy: Floats
    value: Floats
    rank: IntArray


def entropy(values: Floats, low: float, high: float) -> float:
    """Entropy in nats of a histogram of `values` (none of them NaN) in 50 bins from `low` to `high`."""
    if not len(values) or not high > low:
        return 0.0
    places = np.clip(((values - low) / (high - low) * BINS).astype(np.int64), 0, BINS - 1)
    share = np.bincount(places, minlength=BINS) / len(values)
    share = share[share > 0]
    return float(-(share * np.log(share)).sum())


def choose(groups: Grouping, selectors: Mapping[str, Floats], ties: Ties) -> Chosen:
    """For each cluster the selector whose scores have the highest entropy, and every row's rank by it.

    Bins span the middle 99% of a selector's scores over the whole pool, so that scores of any scale compare. A selector
    that more than a tenth of a cluster's rows lack does not stand for it; equal entropies: the first one listed.
    """
    n = len(groups.label)
    found = Chosen(np.zeros(len(groups.rows), np.int64), np.zeros(len(groups.rows)), np.full(n, np.nan), np.full(n, -1))
    table = list(selectors.values())
    spans = [_span(values[groups.label >= 0]) for values in table]
    for arm, rows in enumerate(groups.rows):
        found_in = [_entropy(values[rows], *span) for values, span in zip(table, spans, strict=True)]
        best = int(np.argmax(found_in))
        found.selector[arm], found.entropy[arm] = best, max(0.0, found_in[best])
        found.value[rows] = table[best][rows]
        # NaN sorts last: a row without the score comes after all that have one.
        found.rank[rows[np.lexsort((ties[rows], -table[best][rows]))]] = np.arange(len(rows))
    return found


def in_turn(groups: Grouping, chosen: Chosen, share: Share, ties: Ties) -> IntArray:
    """Rows that have a score, in the order in which they are taken: each cluster's best, then each one's second, ...

    `proportional`: clusters come up in proportion to their size.
    """
    rows = np.flatnonzero((groups.label >= 0) & ~np.isnan(chosen.value))
    sizes = np.array([len(part) for part in groups.rows], np.float64)
    turn = chosen.rank[rows].astype(np.float64)
    if share == "proportional":
        turn = (turn + 0.5) / sizes[groups.label[rows]]
    return np.asarray(rows[np.lexsort((ties[rows], turn))])


class Redundancy(NamedTuple):
    """Per row: the highest cosine with a row of its cluster that ranks above it (NaN for none), and that row (-1)."""

    cosine: Floats
    nearest: IntArray


def redundancy(vectors: Vectors, groups: Grouping, rank: IntArray) -> Redundancy:
    """How much each row repeats a better one: of two twins only the one of lower rank is redundant."""
    found = Redundancy(np.full(len(rank), np.nan), np.full(len(rank), -1, np.int64))
    for part in groups.rows:
        rows = part[np.argsort(rank[part], kind="stable")]
        points = vectors[rows].astype(np.float32)
        for start in range(0, len(rows), _BLOCK):
            stop = min(start + _BLOCK, len(rows))
            cosine = points[start:stop] @ points[:stop].T
            cosine[np.arange(start, stop)[:, None] <= np.arange(stop)[None, :]] = -np.inf
            best = np.argmax(cosine, axis=1)
            top = cosine[np.arange(stop - start), best]
            there = np.isfinite(top)
            found.cosine[rows[start:stop][there]] = np.round(np.clip(top[there], -1, 1), 5)
            found.nearest[rows[start:stop][there]] = rows[best[there]]
    return found


def prune(found: Redundancy, able: BoolArray, count: int, ties: Ties) -> IntArray:
    """The `count` most redundant of the rows that `able` marks; fewer where fewer are redundant at all."""
    rows = np.flatnonzero(able & ~np.isnan(found.cosine))
    return np.asarray(rows[np.lexsort((ties[rows], -found.cosine[rows]))][: max(0, count)])


def _span(values: Floats) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    return (float(np.quantile(known, 0.005)), float(np.quantile(known, 0.995))) if len(known) else (0.0, 0.0)


def _entropy(values: Floats, low: float, high: float) -> float:
    known = values[np.isfinite(values)]
    return entropy(known, low, high) if len(known) >= (1 - _MOST_MISSING) * len(values) else -1.0
