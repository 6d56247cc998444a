"""Near copies: band the signatures, compare what shares a bucket for real, resolve around the survivors.

Documents are numbered by survivor rank, 0 the most wanted; those of earlier releases come first. Signatures are
streamed once; band keys, candidate pairs and shingle sets of more than `Plan.memory` bytes go through temporary
files. What stays in memory is a few 32-bit integers per document and 16 bytes per compared pair.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa

from stages.dedup import kernels
from stages.dedup.joined import Joined
from stages.dedup.kernels import Bools, Floats, Hashes, Ints, Numbers, Signatures, pack, unpack
from stages.dedup.lsh import LEADERS, number_bits, pairs_of_band
from stages.dedup.resolve import Outcome, resolve
from stages.dedup.spool import Edges, Spool
from stages.dedup.verify import Load, Similarity, load_sets, threads

ROUNDS: Final = 16
"""How often large buckets get new leaders; only buckets full of documents that differ need more than two."""
_RANGES: Final = 4_096
_PER_PAIR: Final = 48
"""Bytes that sorting and comparing take for a pair."""


class Plan(NamedTuple):
    """What near copies depend on: bands, rows per band, the similarity and its threshold, how many documents (the
    first) are kept whatever they resemble, how to load shingle sets, and how many bytes to work in."""

    bands: int
    rows: int
    similarity: Similarity
    threshold: float
    fixed: int
    load: Load
    memory: int


def near_survivors(rows: Joined, documents: Numbers, sizes: Numbers, plan: Plan) -> Outcome:
    """`resolve` for the rows `documents`, given best first, with `sizes` distinct shingles each."""
    n, edges = len(documents), Edges()
    finder = _Finder(rows, documents, sizes, plan)
    active = np.ones(n, dtype=np.bool_)
    outcome = resolve(edges, n, plan.threshold)
    for _ in range(ROUNDS):
        pairs, more = finder.pairs(active, edges)
        _compare(pairs, documents, sizes, plan, edges)
        outcome = resolve(edges, n, plan.threshold)
        active = finder.large & (outcome.survivor == np.arange(n))
        if not more or not active.any():
            break
    return outcome


class _Finder:
    """Finds candidate pairs round by round; remembers who has led which large bucket."""

    def __init__(self, rows: Joined, documents: Numbers, sizes: Numbers, plan: Plan) -> None:
        self._sizes, self._plan = sizes, plan
        self._bits = number_bits(len(sizes))
        self._keys = self._banded(rows, documents)
        self._leaders: list[Ints] = [np.empty(0, dtype=np.int64)] * plan.bands
        self._most = 1  # one leader is enough where all are alike; who differs from it meets more
        self._lock = Lock()
        self.large = np.zeros(len(sizes), dtype=np.bool_)

    def pairs(self, active: Bools, known: Edges) -> tuple[Spool, bool]:
        """Packed pairs (better, worse) among the active documents, and whether a large bucket got new leaders.

        A pair comes once for every band that it shares, those of `known` do not.
        """
        found = Spool(self._plan.memory // 8)
        with ThreadPoolExecutor(min(threads(), self._plan.bands)) as pool:
            more = sum(pool.map(lambda band: self._band(band, active, known, found), range(self._plan.bands)))
        self._most = LEADERS
        return found, more > 0

    def _band(self, band: int, active: Bools, known: Edges, found: Spool) -> int:
        """Add the pairs of one band; returns how many leaders are new."""
        keys = _of(self._keys[band].all(), active, self._bits)
        served = np.zeros(len(active), np.bool_)
        served[self._leaders[band]] = True
        before = len(self._leaders[band])
        for pairs in pairs_of_band(keys, self._bits, self._plan.fixed, served, self.large, self._most):
            fresh = known.unknown(pairs[self._similar_sizes(pairs)])
            with self._lock:
                found.append(fresh)
        self._leaders[band] = np.flatnonzero(served)
        return len(self._leaders[band]) - before

    def _similar_sizes(self, pairs: Hashes) -> Bools:
        """Pairs that can reach the threshold at all: what both have in common is at most all of the smaller set."""
        better, worse = unpack(pairs)
        a, b = self._sizes[better], self._sizes[worse]
        most = b if self._plan.similarity == "containment" else np.maximum(a, b)
        return np.asarray(np.minimum(a, b) >= self._plan.threshold * most - 1e-9)

    def _banded(self, rows: Joined, documents: Numbers) -> list[Spool]:
        """The keys of every band."""
        plan, start = self._plan, 0
        spools = [Spool(plan.memory // 4 // plan.bands) for _ in range(plan.bands)]
        number = index_of(documents, len(rows))
        for batch in rows.scores(["signature"], number >= 0):
            numbers, start = _next_numbers(number, start, batch.num_rows)
            keys = kernels.band_keys(signature_values(batch["signature"]), numbers, plan.bands, plan.rows, self._bits)
            for spool, values in zip(spools, keys, strict=True):
                spool.append(values)
        return spools


def _next_numbers(number: Numbers, start: int, count: int) -> tuple[Numbers, int]:
    """The next `count` numbers from row `start` on that are not below 0, and the row behind them."""
    stop, found = start, np.empty(0, np.int32)
    while len(found) < count:
        stop = min(len(number), stop + 2 * (count - len(found)))
        found = number[start:stop]
        found = found[found >= 0]
    if len(found) > count:
        at = np.flatnonzero(number[start:stop] >= 0)[count]
        return found[:count], start + int(at)
    return found, stop


def _of(keys: Hashes, active: Bools, bits: int) -> Hashes:
    """The keys of active documents."""
    if active.all():
        return keys
    return keys[active[(keys & np.uint64((1 << bits) - 1)).astype(np.int64)]]


def index_of(numbers: Numbers, n: int) -> Numbers:
    """For each of `n` numbers its position in `numbers`, -1 for those that are not there."""
    out = np.full(n, -1, dtype=np.int32)
    out[numbers] = np.arange(len(numbers), dtype=np.int32)
    return out


def signature_values(column: pa.FixedSizeBinaryArray) -> Signatures:
    """A column of fixed-size signatures as an array of shape (rows, hashes)."""
    width = column.type.byte_width
    data = np.frombuffer(column.buffers()[1], dtype=np.uint8, count=len(column) * width, offset=column.offset * width)
    return data.view(np.uint32).reshape(len(column), width // 4)


def _compare(pairs: Spool, documents: Numbers, sizes: Numbers, plan: Plan, edges: Edges) -> None:
    """Add the pairs with their real similarity to `edges`, and close `pairs`.

    Connected documents lie side by side, and pairs are compared in that order, so that memory is used in turn.
    """
    component = _components(pairs, len(documents))
    touched = np.flatnonzero(component >= 0).astype(np.int32)
    wanted: Numbers = touched[np.argsort(component[touched], kind="stable")]
    del component
    if not len(wanted):
        return
    place = index_of(wanted, len(documents))
    values, starts = load_sets(documents[wanted], sizes[wanted], plan.load, plan.memory // 2)
    for keys in _runs(pairs, place, len(wanted), plan.memory // 4):
        worse, better = unpack(keys)
        placed = pack(place[better], place[worse])
        edges.add(keys, _similar(values, starts, sizes[wanted], placed, plan.similarity == "containment"))


def _similar(values: Hashes, starts: Ints, sizes: Numbers, pairs: Hashes, contained: bool) -> Floats:
    parts = np.array_split(pairs, threads())
    with ThreadPoolExecutor(len(parts)) as pool:
        found = pool.map(lambda part: kernels.similarities(values, starts, sizes, part, contained), parts)
        return np.concatenate(list(found))


def _components(pairs: Spool, n: int) -> Numbers:
    """The smallest member of each document's connected component, -1 for documents in no pair."""
    parent, touched = np.arange(n, dtype=np.int32), np.zeros(n, np.bool_)
    for block in pairs.blocks():
        kernels.join(block, parent)
        for half in unpack(block):
            touched[half] = True
    parent = kernels.roots(parent)
    parent[~touched] = -1
    return parent


def _runs(pairs: Spool, place: Numbers, n: int, memory: int) -> Iterator[Hashes]:
    """The distinct pairs as packed (worse, better), in ascending runs; a run's better documents lie close by."""
    counts = np.zeros(_RANGES, np.int64)
    width = -(-n // _RANGES)
    for block in pairs.blocks():
        counts += np.bincount(place[unpack(block)[0]] // width, minlength=_RANGES)
    run_of = np.cumsum(counts) * _PER_PAIR // max(memory, 1)
    run_of -= run_of[0]
    run_of = np.unique(run_of, return_inverse=True)[1]
    spools = [Spool(0 if run_of[-1] else memory) for _ in range(int(run_of[-1]) + 1)]
    for block in pairs.blocks():
        better, worse = unpack(block)
        run = run_of[place[better] // width]
        keys = pack(worse, better)
        for k in np.unique(run):
            spools[k].append(keys[run == k])
    pairs.close()
    for spool in spools:
        yield np.unique(spool.all())
        spool.close()
