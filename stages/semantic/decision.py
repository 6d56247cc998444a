"""From vectors to decisions for `semdedup` and `d4`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stages.contract import BoolArray, Decisions, IntArray, Scores
from stages.semantic.clusters import Clusters, Floats, Thinned, Ties, Vectors, cluster, thin
from stages.zipfit.ranking import Quota, best_first, shortfall, tie_breaker, within


class Rows(NamedTuple):
    """The rows that have a vector: their position in the pool, vectors, words and tie breakers."""

    at: IntArray
    vectors: Vectors
    tokens: IntArray
    ties: Ties


class Copies(NamedTuple):
    """SemDeDup's outcome for `rows`."""

    rows: Rows
    clusters: Clusters
    thinned: Thinned


def find_copies(scores: Scores, epsilon: float, count: int | None, seed: int) -> Copies:
    """Cluster, then thin each cluster."""
    rows = _read(scores)
    clusters = cluster(rows.vectors, rows.ties, count, seed)
    return Copies(rows, clusters, thin(rows.vectors, clusters, rows.ties, 1 - epsilon))


def without_copies(copies: Copies, total: int, epsilon: float) -> Decisions:
    """Decisions of `semdedup`; rows without a text are kept."""
    found = copies.thinned
    dropped = _numbered(f"semantic copy: cosine above {1 - epsilon:g}; ", found.similarity, " with the kept row")
    reason = pc.if_else(pa.array(found.keep), "kept: no copy", dropped)
    return _decisions(copies, total, found.keep, reason, found.similarity, found.nearest, _detail(copies))


def without_prototypes(copies: Copies, total: int, limit: Quota, count: int | None, seed: int) -> Decisions:
    """Decisions of `d4`: of the rows that are no copies, the least prototypical within the quota."""
    rows, found = copies.rows, copies.thinned
    left = np.flatnonzero(found.keep)
    again = cluster(rows.vectors[left], rows.ties[left], count, seed)
    centrality = np.full(len(rows.at), np.nan)
    centrality[left] = again.centrality
    chosen = within(best_first(-centrality, rows.ties), rows.tokens, limit)
    keep = np.zeros(len(rows.at), np.bool_)
    keep[chosen] = True
    copy = _numbered("semantic copy; ", found.similarity, " with the kept row")
    typical = _numbered("prototypical: near the centre of its cluster; ", centrality, " from it")
    reason = pc.if_else(pa.array(keep), "kept: not prototypical", pc.if_else(pa.array(found.keep), typical, copy))
    # A copy's twin may have gone afterwards, as a prototype; it is still what the row is a copy of.
    twin = np.where(found.keep, -1, found.nearest)
    second = np.full(len(rows.at), -1, np.int64)
    second[left] = again.label
    detail = _detail(copies, Clusters(second, centrality))
    decisions = _decisions(copies, total, keep, reason, centrality, twin, detail)
    missing = np.ones(total, np.bool_)
    missing[rows.at] = False
    return Decisions(
        decisions.keep & ~missing, pc.if_else(pa.array(missing), "no text to compare", decisions.reason),
        decisions.score, decisions.related, detail=decisions.detail, warnings=shortfall(len(chosen), limit),
    )  # fmt: skip


def _read(scores: Scores) -> Rows:
    parts: list[Rows] = []
    start = 0
    for batch in scores.scores(["vector", "n_tokens", "content_hash"]):
        has = np.asarray(batch["vector"].is_valid())
        at = np.flatnonzero(has)
        found = batch.filter(pa.array(has))
        values = found["vector"].flatten().to_numpy().astype(np.float16)
        parts.append(
            Rows(
                at + start, values.reshape(len(at), -1) if len(at) else np.empty((0, 0), np.float16),
                found["n_tokens"].cast(pa.int64()).to_numpy(), tie_breaker(found["content_hash"]),
            )
        )  # fmt: skip
        start += len(batch)
    parts = [part for part in parts if len(part.at)]
    if not parts:
        return Rows(np.zeros(0, np.int64), np.empty((0, 1), np.float16), np.zeros(0, np.int64), np.zeros(0, np.uint64))
    return Rows(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _decisions(
    copies: Copies, total: int, keep: BoolArray, reason: pa.Array, score: Floats, nearest: IntArray, detail: pa.Array
) -> Decisions:
    """Answers for the rows that have a vector, spread over all rows of the pool."""
    at = copies.rows.at
    place = np.full(total, -1, np.int64)
    place[at] = np.arange(len(at))
    index = pa.array(place, mask=place < 0)
    all_keep, all_score, related = np.ones(total, np.bool_), np.full(total, np.nan), np.full(total, -1, np.int64)
    all_keep[at], all_score[at] = keep, score
    related[at] = np.where(nearest >= 0, at[nearest], -1) if len(at) else nearest
    related[all_keep] = -1
    reasons = pc.fill_null(reason.take(index), "kept: no text to compare")
    return Decisions(all_keep, reasons, all_score, related, detail=detail.take(index))


def _detail(copies: Copies, second: Clusters | None = None) -> pa.StringArray:
    pieces = [
        pa.scalar('{"cluster":'), pa.array(copies.clusters.label).cast(pa.string()),
        pa.scalar(',"similarity":'), _json(copies.thinned.similarity),
        pa.scalar(',"centrality":'), _json(copies.clusters.centrality),
    ]  # fmt: skip
    if second is not None:
        label = pa.array(second.label).cast(pa.string())
        pieces += [pa.scalar(',"second_cluster":'), pc.if_else(pa.array(second.label >= 0), label, "null")]
        pieces += [pa.scalar(',"second_centrality":'), _json(second.centrality)]
    return pc.binary_join_element_wise(*pieces, pa.scalar("}"), "")


def _json(values: Floats) -> pa.StringArray:
    text = pc.round(pa.array(np.nan_to_num(values)), 4).cast(pa.string())
    return pc.if_else(pa.array(np.isnan(values)), "null", text)


def _numbered(before: str, values: Floats, after: str) -> pa.StringArray:
    return pc.binary_join_element_wise(pa.scalar(before), _json(values), pa.scalar(after), "")
