"""From scores to decisions for `zipfit`: combine, rank, keep."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.room import computed, filled, room
from stages.contract import Decisions, IntArray, Scores
from stages.dedup.lazy import LazyStrings
from stages.dsir.ngrams import BUCKETS, ngram_column
from stages.dsir.weights import counts, log_ratio, log_weights
from stages.text import On
from stages.zipfit.alignment import Rule
from stages.zipfit.cascade import Affine, Found, Ranking, pilot_rows
from stages.zipfit.debias import expected, fit_line, z_score
from stages.zipfit.diversity import dissimilar
from stages.zipfit.ranking import Quota, TokenBudget, best_first, mask, quota, reasons, shortfall, tie_breaker, within
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


def decide(scores: Scores, settings: Settings, targets: Targets, rule: Rule) -> Decisions:
    """Keep the best rows within the quota."""
    columns = _read(scores, settings.mode)
    n, limit = len(columns.value), quota(settings.keep, len(columns.value))
    dsir = _dsir(scores, targets, settings.laplace) if settings.mode == "debiased" else np.zeros(n)
    dsir[np.isnan(columns.c_x)] = np.nan
    ranking, notes = _ranking(columns, dsir, settings.mode), list[str]()
    usable = ~np.isnan(columns.c_x)
    if usable.any() and np.isnan(columns.value).all():
        seeker = Seeker(scores, targets, rule, settings.level, settings.on, settings.mode == "debiased")
        wanted = _wanted(limit, columns.tokens, settings.max_similarity is not None)
        found, rank = seeker.find(columns.ties, usable, wanted, ranking)
        notes.append(_cascade_note(found, limit.rows))
    else:
        pilots = pilot_rows(columns.ties, usable)
        found, rank = Found(columns.value, usable, 0.0), ranking(pilots, columns.value[pilots])
    score, ties, exact = rank.scores(found.value), columns.ties, np.flatnonzero(found.is_exact)
    order = exact[best_first(score[exact], ties[exact])]
    if settings.max_similarity is not None:
        order = dissimilar(order, scores, settings.on, settings.max_similarity, limit.rows)
    chosen = within(order, columns.tokens, limit)
    keep = mask(chosen, n)
    what = "debiased gain" if settings.mode == "debiased" else "alignment"
    notes.extend(shortfall("zipfit", len(chosen), limit))
    return Decisions(
        keep,
        LazyStrings(n, lambda start, stop: reasons(score[start:stop], keep[start:stop], what)),
        score,
        detail=LazyStrings(n, lambda start, stop: _detail(found, dsir, settings.mode, slice(start, stop))),
        warnings=tuple(notes),
    )


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
    ratio = log_ratio(counts([target], BUCKETS), raw, laplace)
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


def _wanted(limit: Quota, tokens: IntArray, diverse: bool) -> int:
    """How many rows must be exact: the quota (rows of average size for a token budget), and more where some may go."""
    rows = min(limit.rows, _affordable(limit, tokens))
    return min(len(tokens), 2 * rows if diverse else rows)


def _affordable(limit: Quota, tokens: IntArray) -> int:
    if np.isinf(limit.tokens):
        return len(tokens)
    return int(1.5 * limit.tokens / max(1.0, float(tokens.mean()))) + 1


def _cascade_note(found: Found, rows: int) -> str:
    exact, n = int(found.is_exact.sum()), len(found.is_exact)
    kept = min(rows, exact)
    recall = kept / (kept + found.expected_missed) if kept else 1.0
    return f"zipfit: {exact:,} of {n:,} rows scored exactly (cascade), estimated recall {recall:.4f}"


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
