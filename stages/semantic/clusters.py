"""K-means, greedy removal of near vectors within a cluster, and distance from the centroid. Vectors have length one."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from stages.contract import BoolArray, IntArray
from stages.dedup.kernels import Hashes, pack
from stages.dedup.resolve import resolve
from stages.dedup.spool import Edges

Floats = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.float16]
Ties = npt.NDArray[np.uint64]

ROWS_PER_CLUSTER: Final = 1_000
_MOST_CLUSTERS: Final = 2_000
_SAMPLE: Final = 50_000
_BLOCK: Final = 1_024
_ITERATIONS: Final = 30
_EDGES: Final = 64 << 20
"""Bytes of pairs that stay in memory: rows that are all alike have many."""


class Clusters(NamedTuple):
    """Per row: its cluster, and the cosine of the angle to that cluster's centroid."""

    label: IntArray
    centrality: Floats


class Thinned(NamedTuple):
    """Per row: whether it stays, the kept row most similar to it in its cluster (-1 for none), and the cosine."""

    keep: BoolArray
    nearest: IntArray
    similarity: Floats


def cluster(vectors: Vectors, ties: Ties, count: int | None, seed: int) -> Clusters:
    """K-means on at most 50,000 rows (those of the lowest content hashes), then the nearest centroid for every row.

    The same whatever the order of the rows and the number of threads. `count` None: a cluster per 1,000 rows.
    """
    from sklearn.cluster import KMeans  # takes a second to import, and stages are imported to show what they are

    n = len(vectors)
    if not n:
        return Clusters(np.zeros(0, np.int64), np.zeros(0))
    wanted = count or min(_MOST_CLUSTERS, -(-n // ROWS_PER_CLUSTER))
    sample = np.argsort(ties, kind="stable")[:_SAMPLE]
    points = vectors[sample].astype(np.float32)
    wanted = min(wanted, len(np.unique(points, axis=0)))
    with threadpool_limits(1):
        model = KMeans(wanted, n_init=1, max_iter=_ITERATIONS, random_state=seed % 2**32).fit(points)
        centres = model.cluster_centers_.astype(np.float32)
        parts = [_assign(vectors[at : at + _BLOCK].astype(np.float32), centres) for at in range(0, n, _BLOCK)]
    return Clusters(np.concatenate([p.label for p in parts]), np.concatenate([p.centrality for p in parts]))


def thin(vectors: Vectors, clusters: Clusters, ties: Ties, limit: float) -> Thinned:
    """Within each cluster, from the row farthest from the centroid on, drop rows too similar to a kept one.

    Too similar: a cosine above `limit`. Unlike in the published method, a row that goes takes no other with it.
    """
    n = len(vectors)
    found = Thinned(np.ones(n, np.bool_), np.full(n, -1, np.int64), np.full(n, np.nan))
    order = np.lexsort((ties, clusters.centrality, clusters.label))
    ends = np.flatnonzero(np.diff(clusters.label[order])) + 1
    with threadpool_limits(1):
        for rows in np.split(order, ends):
            keep = _greedy(vectors[rows], limit)
            found.keep[rows] = keep
            found.nearest[rows], found.similarity[rows] = _nearest(vectors[rows], rows, keep)
    return found


def _assign(points: npt.NDArray[np.float32], centres: npt.NDArray[np.float32]) -> Clusters:
    products = points @ centres.T
    lengths = np.sqrt((centres**2).sum(axis=1))
    label = np.argmax(products - lengths**2 / 2, axis=1)
    cosine = products[np.arange(len(points)), label] / np.maximum(lengths[label], 1e-12)
    # Cosines that differ by rounding only are ties.
    return Clusters(label.astype(np.int64), np.round(cosine.astype(np.float64), 5))


def _greedy(vectors: Vectors, limit: float) -> BoolArray:
    """Going down the rows, keep each that is not too similar to one kept before: `dedup` decides, a block at a time."""
    keep = np.zeros(len(vectors), np.bool_)
    for start in range(0, len(vectors), _BLOCK):
        block, kept = vectors[start : start + _BLOCK].astype(np.float32), np.flatnonzero(keep[:start])
        found = resolve(_edges(block, vectors, kept, limit), len(kept) + len(block), limit)
        own = np.arange(len(kept), len(kept) + len(block))
        keep[start : start + len(block)] = found.survivor[own] == own
    return keep


def _edges(block: npt.NDArray[np.float32], vectors: Vectors, kept: IntArray, limit: float) -> Edges:
    """Pairs of a row of the block, numbered behind the kept ones, and a better row, whose cosine is above `limit`."""
    edges, first = Edges(_EDGES), len(kept)
    for at in range(0, first, _BLOCK):
        edges.add([_above(block @ vectors[kept[at : at + _BLOCK]].astype(np.float32).T, limit, first, at)])
    edges.add([_above(np.tril(block @ block.T, -1), limit, first, first)])
    return edges


def _above(cosines: npt.NDArray[np.float32], limit: float, row: int, column: int) -> tuple[Hashes, Floats]:
    """Packed pairs, ascending, and their cosines; `row` and `column` are the numbers of the first row and column."""
    worse, better = np.nonzero(cosines > limit)
    return pack(worse + row, better + column), cosines[worse, better].astype(np.float64)


def _nearest(vectors: Vectors, rows: IntArray, keep: BoolArray) -> tuple[IntArray, Floats]:
    """For each row the most similar kept one (not itself), as a row of the pool, and the cosine."""
    kept = np.flatnonzero(keep)
    pool = vectors[kept].astype(np.float32)
    position = np.cumsum(keep) - 1
    best, cosine = np.full(len(rows), -1, np.int64), np.full(len(rows), np.nan)
    for start in range(0, len(rows), _BLOCK):
        part = np.arange(start, min(start + _BLOCK, len(rows)))
        products = vectors[part].astype(np.float32) @ pool.T
        own = part[keep[part]]
        products[own - start, position[own]] = -np.inf
        at = np.argmax(products, axis=1)
        top = products[np.arange(len(part)), at].astype(np.float64)
        there = np.isfinite(top)
        best[part[there]], cosine[part[there]] = rows[kept[at[there]]], np.clip(top[there], -1, 1)
    return best, cosine
