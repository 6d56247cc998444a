"""Needle tests: how well a score finds hidden target rows among other rows.

Target rows are hidden fold by fold; the others are the target. All pairs are compressed once, and every test after
that only picks rows and columns of the same table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stages.dsir.ngrams import BUCKETS, ngram_column
from stages.dsir.weights import counts, log_ratio, log_weights
from stages.zipfit.debias import expected, fit_line, z_score
from stages.zipfit.kernel import GzipLengths, cores, gzip_lengths
from stages.zipfit.packed import pack_strings

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SCORES: Final = ("debiased", "alignment", "dsir", "gain")
"""`zipfit` as it is by default, with the published score, DSIR per token, bytes saved."""

FOLDS: Final = 5
TOP: Final = 0.01
_LEVEL: Final = 6
_LAPLACE: Final = 0.1
_PILOTS: Final = 500
_DRAWS: Final = 10  # targets drawn per size
_SMALLEST: Final = 8


class Field(NamedTuple):
    """Other rows (the first `n_hay`) and target rows after them, each against every target row."""

    n_hay: int
    n_target: int
    lengths: GzipLengths
    grams: pa.ListArray


class Hidden(NamedTuple):
    """What a score made of each hidden row: within the top 1%, and the share of other rows it beat."""

    found: npt.NDArray[np.bool_]
    beaten: Floats


@dataclass(frozen=True)
class Trial:
    """One score: share of hidden rows found in the top 1% with its 95% interval, and mean share of rows beaten."""

    score: str
    recall: float
    low: float
    high: float
    beaten: float


@dataclass(frozen=True)
class SizePoint:
    """Targets of `rows` rows drawn at random: recall of the default score (mean, 5th and 95th percentile of the draws),
    and how much of the top 1% of the pool it shares with the whole target's."""

    rows: int
    recall: float
    low: float
    high: float
    agreement: float


def prepare_field(hay: Sequence[str], targets: Sequence[str]) -> Field:
    """Compress every row with every target row, once."""
    rows = [*hay, *targets]
    lengths = gzip_lengths(pack_strings(rows), pack_strings(targets), _LEVEL, cores())
    return Field(len(hay), len(targets), lengths, ngram_column(rows)[0])


def folds(groups: Ints, seed: int) -> list[Ints]:
    """Target rows in up to five parts; rows of one group (near copies) stay together."""
    order = np.random.default_rng(seed).permutation(np.unique(groups))
    fold_of = dict(zip(order.tolist(), (np.arange(len(order)) % FOLDS).tolist(), strict=True))
    fold = np.array([fold_of[group] for group in groups.tolist()], np.int64)
    return [np.flatnonzero(fold == number) for number in np.unique(fold)]


def all_scores(field: Field, rows: Ints, shown: Ints) -> dict[str, Floats]:
    """Every score of the named rows of the field, the target being the rows `shown`; higher is closer to it."""
    texts, targets = field.lengths.texts[rows].astype(np.float64), field.lengths.targets[shown].astype(np.float64)
    gains = texts[:, None] + targets[None, :] - field.lengths.pairs[np.ix_(rows, shown)]
    gain = gains.mean(axis=1)
    gains /= np.maximum(texts[:, None], targets[None, :])
    dsir = _dsir(field, rows, shown)
    # Evenly spaced pilots: the rows are in random order already.
    pilots = np.linspace(0, len(rows) - 1, min(_PILOTS, len(rows))).astype(np.int64)
    line = fit_line(texts[pilots], gain[pilots])
    detrended = (gain - expected(line, texts)) / line.spread
    return {"debiased": detrended + z_score(dsir), "alignment": gains.mean(axis=1), "dsir": dsir, "gain": gain}


def hide(field: Field, parts: Sequence[Ints]) -> dict[str, Hidden]:
    """Hide every part in turn; the outcome for each target row, by score."""
    tests = [_one(field, hidden, _others(field, hidden)) for hidden in parts]
    return {
        name: Hidden(
            np.concatenate([test[name].found for test in tests]), np.concatenate([test[name].beaten for test in tests])
        )
        for name in SCORES
    }


def summary(name: str, hidden: Hidden) -> Trial:
    """Recall with Wilson's 95% interval."""
    low, high = _wilson(int(hidden.found.sum()), len(hidden.found))
    return Trial(name, float(hidden.found.mean()), low, high, float(hidden.beaten.mean()))


def sizes(field: Field, parts: Sequence[Ints], seed: int) -> list[SizePoint]:
    """The default score with smaller and smaller targets: 8 rows, twice as many, and so on up to all that are shown."""
    most = min(field.n_target - len(part) for part in parts)
    steps = [size for size in (_SMALLEST * 2**k for k in range(32)) if size < 0.75 * most]
    draw = np.random.default_rng(seed)
    whole = [_default(field, part, _others(field, part)) for part in parts]
    return [_point(field, parts, whole, size, draw) for size in (*steps, most)]


def surely_better(one: Hidden, other: Hidden, seed: int) -> bool:
    """Whether `one` finds more than `other` in at least 97.5% of 2,000 bootstrap samples of the hidden rows."""
    difference = one.found.astype(np.int64) - other.found.astype(np.int64)
    draws = np.random.default_rng(seed).integers(0, len(difference), (2_000, len(difference)))
    return bool(np.percentile(difference[draws].mean(axis=1), 2.5) > 0)


def _point(
    field: Field, parts: Sequence[Ints], whole: Sequence[Floats], size: int, draw: np.random.Generator
) -> SizePoint:
    recalls, shared = [], []
    for number in range(max(_DRAWS, len(parts))):
        part, full = parts[number % len(parts)], whole[number % len(parts)]
        score = _default(field, part, draw.choice(_others(field, part), size, replace=False))
        recalls.append(float(_outcome(score, len(part)).found.mean()))
        shared.append(_agreement(score[: field.n_hay], full[: field.n_hay]))
    low, high = np.percentile(recalls, [5, 95])
    return SizePoint(size, float(np.mean(recalls)), float(low), float(high), float(np.mean(shared)))


def _one(field: Field, hidden: Ints, shown: Ints) -> dict[str, Hidden]:
    found = all_scores(field, _rows(field, hidden), shown)
    return {name: _outcome(score, len(hidden)) for name, score in found.items()}


def _default(field: Field, hidden: Ints, shown: Ints) -> Floats:
    return all_scores(field, _rows(field, hidden), np.sort(shown))["debiased"]


def _rows(field: Field, hidden: Ints) -> Ints:
    return np.concatenate([np.arange(field.n_hay), field.n_hay + hidden])


def _others(field: Field, hidden: Ints) -> Ints:
    return np.setdiff1d(np.arange(field.n_target), hidden)


def _outcome(score: Floats, n_hidden: int) -> Hidden:
    """The hidden rows are the last ones. Equal scores count against them."""
    hay = np.sort(score[:-n_hidden])
    hidden = score[-n_hidden:]
    beaten = np.searchsorted(hay, hidden, side="left")
    above = len(hay) - beaten + (hidden[None, :] > hidden[:, None]).sum(axis=1)
    top = max(n_hidden, ceil(TOP * len(score)))
    return Hidden(above < top, beaten / max(1, len(hay)))


def _agreement(one: Floats, other: Floats) -> float:
    top = ceil(TOP * len(one))
    best = [set(np.argsort(-score, kind="stable")[:top].tolist()) for score in (one, other)]
    return len(best[0] & best[1]) / max(1, top)


def _dsir(field: Field, rows: Ints, shown: Ints) -> Floats:
    grams = field.grams.take(pa.array(rows))
    target = counts([field.grams.take(pa.array(field.n_hay + shown))], BUCKETS)
    return log_weights(grams, log_ratio(target, counts([grams], BUCKETS), _LAPLACE), "per_token")


def _wilson(hits: int, total: int) -> tuple[float, float]:
    z, share = 1.96, hits / total
    centre, width = share + z * z / (2 * total), z * sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    low, high = ((centre + sign * width) / (1 + z * z / total) for sign in (-1, 1))
    return min(share, max(0.0, low)), max(share, min(1.0, high))  # rounding must not leave the share outside
