"""Clusters of the pool, and which of them are neighbours."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from stages.contract import BoolArray, IntArray
from stages.quad.bandit import Floats, Neighbours
from stages.semantic.clusters import Vectors, cluster

Ties = npt.NDArray[np.uint64]
_MOST: Final = 2_000
"""K-means takes time in proportion to their number; a user with millions of rows may ask for more."""
_ROWS_PER_CLUSTER: Final = 100
_BLOCK: Final = 512


class Grouping(NamedTuple):
    """Clusters of the usable rows.

    Attributes:
        label: per row its cluster, -1 for a row that is not usable.
        centres: unit vectors, one per cluster; zero for the cluster of rows whose own vector is zero.
        rows: per cluster its rows, in the order in which they are drawn.
    """

    label: IntArray
    centres: Floats
    rows: tuple[IntArray, ...]


def default_clusters(n: int) -> int:
    """A cluster per 100 rows, at least 8 and at most 2,000."""
    return min(_MOST, max(8, n // _ROWS_PER_CLUSTER))


def group(vectors: Vectors, usable: BoolArray, ties: Ties, count: int | None, seed: int) -> Grouping:
    """K-means over the usable rows, those with a zero vector apart; the same whatever the order of the rows.

    Args:
        vectors: (rows, dimensions), of unit length or zero.
        usable: (rows,), which of them to group.
        ties: per row a hash of its content.
        count: clusters wanted; there may be fewer, never an empty one. None: `default_clusters`.
    """
    wanted = count or default_clusters(int(usable.sum()))
    has = np.flatnonzero(usable & vectors.any(axis=1))
    label = np.full(len(vectors), -1, np.int64)
    label[usable] = wanted
    label[has] = cluster(vectors[has], ties[has], min(wanted, max(1, len(has))), seed).label
    # Clusters that no row is nearest to go; the others are numbered anew.
    label[usable] = np.unique(label[usable], return_inverse=True)[1].reshape(-1)
    rows = np.flatnonzero(usable)
    order = rows[np.argsort(shuffled(ties[rows], seed), kind="stable")]
    order = order[np.argsort(label[order], kind="stable")]
    ends = np.flatnonzero(np.diff(label[order])) + 1
    members = tuple(np.split(order, ends)) if len(order) else ()
    return Grouping(label, _centres(vectors, members), members)


def shuffled(ties: Ties, seed: int) -> Ties:
    """Keys whose order is a random one, fixed by content and seed (the finaliser of splitmix64)."""
    with np.errstate(over="ignore"):
        key = ties + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % 2**64)
        key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(key ^ (key >> np.uint64(31)))


def neighbours(centres: Floats, limit: float) -> Neighbours:
    """Clusters within cosine distance `limit` of each other, with weights 1 - distance / limit; each is its own."""
    arms: list[IntArray] = []
    weights: list[Floats] = []
    for start in range(0, len(centres), _BLOCK):
        # Rounded, so that a neighbour at the limit does not depend on the order of a sum.
        distance = np.round(1 - centres[start : start + _BLOCK] @ centres.T, 6)
        distance[np.arange(len(distance)), start + np.arange(len(distance))] = 0
        for row in np.maximum(distance, 0):
            near = np.flatnonzero(row < limit)
            arms.append(near)
            weights.append(1 - row[near] / limit)
    return Neighbours(arms, weights)


def caps(sizes: IntArray, quota: float, total: int, share: float | None) -> IntArray:
    """What each cluster may give: `share` times what it would give to a random selection, at least one.

    All in rows, or all in tokens: `sizes` of the clusters, the `quota`, and the `total` of what can be chosen from.
    """
    if share is None:
        return sizes
    return np.minimum(sizes, np.ceil(share * quota * sizes / max(1, total)).astype(np.int64))


def _centres(vectors: Vectors, rows: tuple[IntArray, ...]) -> Floats:
    means = [vectors[part].astype(np.float64).mean(axis=0) for part in rows]
    out = np.array(means).reshape(len(rows), vectors.shape[1])
    return np.asarray(out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12))
