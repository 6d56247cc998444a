"""From scores to decisions for `zipfit`: combine, rank, keep."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.room import computed, filled, room
from stages.contract import Decisions, IntArray, Scores
from stages.dedup.lazy import LazyStrings
from stages.dsir.ngrams import BUCKETS, ngram_column
from stages.dsir.weights import counts, log_ratio, log_weights, weighted_counts
from stages.text import On
from stages.zipfit.alignment import Rule
from stages.zipfit.cascade import Affine, Found, Ranking, Search, pilot_rows
from stages.zipfit.debias import expected, fit_line, z_score
from stages.zipfit.diversity import dissimilar
from stages.zipfit.filling import Filler, Filling, fill_from
from stages.zipfit.ranking import Quota, TokenBudget, best_first, mask, quota, reasons, shortfall, tie_breaker
from stages.zipfit.seek import Seeker
from stages.zipfit.targets import Targets

Floats = npt.NDArray[np.float64]


class Settings(NamedTuple):
    """The stage's parameters that a decision needs."""

    mode: str
    on: On
    level: int
    laplace: float
    keep: float | int | TokenBudget
    max_similarity: float | None


class Columns(NamedTuple):
    """Scalar score columns of all rows; NaN where a row has no value."""

    value: Floats  # gain in mode debiased, alignment in mode zipfit
    c_x: Floats
    tokens: IntArray
    ties: npt.NDArray[np.uint64]


class Outcome(NamedTuple):
    """What was kept, and what is known of every row."""

    found: Found
    score: Floats
    filling: Filling
    notes: tuple[str, ...]


def decide(scores: Scores, settings: Settings, targets: Targets, rule: Rule) -> Decisions:
    """Keep the best rows within the quota."""
    columns = _read(scores, settings.mode)
    n, limit = len(columns.value), quota(settings.keep, len(columns.value))
    dsir = _dsir(scores, targets, settings.laplace) if settings.mode == "debiased" else np.zeros(n)
    dsir[np.isnan(columns.c_x)] = np.nan
    filler = Filler(limit, columns.tokens, _admission(scores, settings, limit))
    found, score, filling, notes = _outcome(scores, columns, dsir, settings, targets, rule, filler)
    keep = mask(filling.rows, n)
    what = "debiased gain" if settings.mode == "debiased" else "alignment"
    return Decisions(
        keep,
        LazyStrings(n, lambda start, stop: reasons(score[start:stop], keep[start:stop], what)),
        score,
        detail=LazyStrings(n, lambda start, stop: _detail(found, dsir, settings.mode, slice(start, stop))),
        warnings=(*notes, *shortfall(len(filling.rows), limit)),
    )


def _admission(scores: Scores, settings: Settings, limit: Quota) -> Callable[[IntArray], IntArray]:
    threshold = settings.max_similarity
    if threshold is None:
        return lambda order: order
    return lambda order: dissimilar(order, scores, settings.on, threshold, limit.rows)


def _outcome(
    scores: Scores, columns: Columns, dsir: Floats, settings: Settings, targets: Targets, rule: Rule, filler: Filler
) -> Outcome:
    """Rank all rows by their exact scores, or search for the best where there are none yet."""
    ranking, usable = _ranking(columns, dsir, settings.mode), ~np.isnan(columns.c_x)
    if usable.any() and np.isnan(columns.value).all():
        seeker = Seeker(scores, targets, rule, settings.level, settings.on, settings.mode == "debiased")
        search = seeker.search(columns.ties, usable, ranking)
        filling = fill_from(search, filler, columns.ties, int(usable.sum()))
        return Outcome(Found(search.value, search.is_exact), search.score, filling, (_cascade_note(search, filling),))
    pilots = pilot_rows(columns.ties, usable)
    score = ranking(pilots, columns.value[pilots]).scores(columns.value)
    return Outcome(Found(columns.value, usable), score, filler.fill(best_first(score, columns.ties)), ())


def _read(scores: Scores, mode: str) -> Columns:
    name = "gain" if mode == "debiased" else "alignment"
    n = len(scores)
    columns = Columns(room(n, np.float64), room(n, np.float64), room(n, np.int64), room(n, np.uint64))
    start = 0
    for batch in scores.scores([name, "c_x", "n_tokens", "content_hash"]):
        for column, part in zip(columns, _part(batch, name), strict=True):
            column[start : start + len(batch)] = part
        start += len(batch)
    return columns


def _part(batch: pa.RecordBatch, name: str) -> Columns:
    return Columns(
        batch[name].to_numpy(zero_copy_only=False),
        batch["c_x"].cast(pa.float64()).to_numpy(zero_copy_only=False),
        pc.fill_null(batch["n_tokens"], 0).cast(pa.int64()).to_numpy(zero_copy_only=False),
        tie_breaker(batch["content_hash"]),
    )


def _dsir(scores: Scores, targets: Targets, laplace: float) -> Floats:
    """Mean log importance weight of each row's n-grams; the pool itself is the raw distribution."""
    target, _ = ngram_column([text.decode("utf-8", "surrogatepass") for text in targets.texts])
    raw = counts((batch["ngrams"] for batch in scores.scores(["ngrams"])), BUCKETS)
    ratio = log_ratio(weighted_counts(target, targets.weights, BUCKETS), raw, laplace)
    parts = (log_weights(batch["ngrams"], ratio, "per_token") for batch in scores.scores(["ngrams"]))
    return filled(len(scores), np.float64, parts)


def _ranking(columns: Columns, dsir: Floats, mode: str) -> Ranking:
    """How rows' values become scores, from exactly scored pilots: the same ones with and without a cascade."""
    n = len(columns.value)

    def debiased(pilots: IntArray, values: Floats) -> Affine:
        line, standard = fit_line(columns.c_x[pilots], values), z_score(dsir)

        def offset(part: slice) -> Floats:
            return np.asarray(standard[part] - expected(line, columns.c_x[part]) / line.spread)

        return Affine(1 / line.spread, computed(n, np.float64, offset))

    def published(pilots: IntArray, values: Floats) -> Affine:
        return Affine(1.0, computed(n, np.float64, lambda part: np.zeros(part.stop - part.start)))

    return debiased if mode == "debiased" else published


def _cascade_note(search: Search, filling: Filling) -> str:
    exact, n = int(search.is_exact.sum()), len(search.is_exact)
    best = filling.looked_at
    recall = best / (best + search.expected_missed(best)) if best else 1.0
    return f"{exact:,} of {n:,} rows scored exactly (cascade), estimated recall {recall:.4f}"


def _detail(found: Found, dsir: Floats, mode: str, rows: slice) -> pa.StringArray:
    """What the score of some rows was made of, as JSON."""
    name = "gain" if mode == "debiased" else "alignment"
    pieces = [pc.if_else(pa.array(found.is_exact[rows]), f'{{"exact":true,"{name}":', f'{{"exact":false,"{name}":')]
    pieces.append(_numbers(found.value[rows]))
    if mode == "debiased":
        pieces += [pa.scalar(',"dsir":'), _numbers(dsir[rows])]
    return pc.binary_join_element_wise(*pieces, pa.scalar("}"), "")


def _numbers(values: Floats) -> pa.StringArray:
    text = pc.round(pa.array(np.nan_to_num(values, nan=0.0)), 6).cast(pa.string())
    return pc.if_else(pa.array(np.isnan(values)), "null", text)
