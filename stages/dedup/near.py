"""Near copies: band the signatures, compare what shares a bucket for real, resolve around the survivors.

Documents are numbered by survivor rank, 0 the most wanted; those of earlier releases come first. The work is done by
tasks (`bands.py`, `verify.py`) that read what they need from files, on whatever node they run: nowhere are all
signatures, candidate pairs or shingle sets together. What comes back are the pairs that were compared. What grows with
the pool is in files beyond a few megabytes, here and in tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np

from schemas.room import room, slices
from stages.dedup.arrays import full, index_of, packed, span, unpacked
from stages.dedup.bands import RANGES, Banding, Bucketing, candidates, range_starts, write_keys
from stages.dedup.items import PAGE, Desk, Item, aligned
from stages.dedup.joined import Joined
from stages.dedup.kernels import Bools, Ints, Numbers
from stages.dedup.lsh import LEADERS, number_bits
from stages.dedup.resolve import Outcome, resolve
from stages.dedup.spool import Edges
from stages.dedup.verify import Comparing, Piece, Shingler, Shingling, Similarity, compared, write_sets

ROUNDS: Final = 16
"""How often large buckets get new leaders; only buckets full of documents that differ need more than two."""
TASK: Final = 1 << 21
"""Shingles of the documents that a task reads, about, where each document counts as `_PER_TEXT` more."""
RUN: Final = 1 << 17
"""Pairs, once for each band that finds them, that a task compares, about."""
_PER_TEXT: Final = 64
_PER_PAIR: Final = 48
"""Bytes that sorting and comparing take for a pair."""


class Plan(NamedTuple):
    """What near copies depend on: bands, rows per band, the similarity and its threshold, how many documents (the
    first) are kept whatever they resemble, how shingle sets are made of which columns, and how many bytes to work in.
    """

    bands: int
    rows: int
    similarity: Similarity
    threshold: float
    fixed: int
    shingler: Shingler
    columns: Sequence[str]
    memory: int


def near_survivors(rows: Joined, documents: Numbers, sizes: Numbers, plan: Plan) -> Outcome:
    """`resolve` for the rows `documents`, given best first, with `sizes` distinct shingles each."""
    n, active = len(documents), None
    outcome = Outcome.alone(n)
    if not n:
        return outcome
    search = _Search(rows, documents, sizes, plan)
    for _ in range(ROUNDS):
        more = search.round(active)
        outcome = resolve(search.edges, n, plan.threshold)
        active = search.large()
        for part in slices(n):
            active[part] &= outcome.survivor[part] == span(part)
        if not more or not active.any():
            break
    return outcome


class _Search:
    """Finds and compares pairs round by round; remembers who has led which large bucket."""

    def __init__(self, rows: Joined, documents: Numbers, sizes: Numbers, plan: Plan) -> None:
        self._rows, self._plan, self._desk = rows, plan, Desk(rows.shared)
        self._n, self._bits = len(documents), number_bits(len(documents))
        self._number, self._sizes, self._sent_sizes = index_of(documents, len(rows)), sizes, self._desk.put(sizes)
        self._starts = room(self._n, np.int64)
        self._leaders = [np.empty(0, np.int32)] * plan.bands
        self._most = 1  # one leader is enough where all are alike; who differs from it meets more
        self._large = packed(np.zeros(self._n, np.bool_))
        self.edges = Edges(plan.memory // 16)
        self._keys, self._spans = self._banded()

    def large(self) -> Bools:
        """The documents that have been in a large bucket, in an array of the caller's own."""
        return unpacked(self._large, self._n)

    def round(self, active: Bools | None) -> bool:
        """Compare the pairs among the active documents (None: all), and say whether a large bucket got new leaders.

        Pairs that were compared in an earlier round are not among them.
        """
        known, marks = self._desk.put(self.edges.keys), None if active is None else self._desk.put(active)
        pairs, counts, touched = list[Item](), np.zeros(RANGES, np.int64), np.zeros_like(self._large)
        before = sum(map(len, self._leaders))
        for band, found in enumerate(self._rows.map(candidates, self._bucketings(known, marks))):
            pairs.append(found.pairs)
            counts += found.counts
            touched |= found.touched
            self._large |= found.large
            self._leaders[band] = found.leaders
        self._most = LEADERS
        if counts.any():
            self._compare(pairs, counts, unpacked(touched, self._n))
        for item in (known, *pairs, *([marks] if marks else [])):
            item.drop()
        return sum(map(len, self._leaders)) > before

    def _banded(self) -> tuple[Item, Ints]:
        """The keys of all documents, and the (start, count) of what each task wrote, for the first band."""
        plan, spans, everybody = self._plan, list[tuple[int, int]](), full(self._n, 1, np.bool_)
        keys = self._desk.empty(plan.bands * self._n + self._gaps(everybody), np.uint64)

        def tasks() -> Iterator[Banding]:
            start = 0
            for pieces in self._pieces(["signature"], everybody):
                yield Banding(tuple(pieces), plan.bands, plan.rows, self._bits, keys, start)
                spans.append((start, sum(len(rows) for _, rows, _ in pieces)))
                start = aligned(start + plan.bands * spans[-1][1])

        for _ in self._rows.map(write_keys, tasks()):
            pass
        return keys, np.array(spans)

    def _bucketings(self, known: Item, active: Item | None) -> Iterator[Bucketing]:
        plan = self._plan
        for band in range(plan.bands):
            spans = self._spans @ np.array([[1, 0], [band, 1]])  # (start + band * count, count)
            yield Bucketing(
                self._keys, spans, self._sent_sizes, active,
                self._leaders[band], known, self.edges.bounds, plan.fixed, self._most, plan.similarity,
                plan.threshold, plan.memory // 16, self._desk,
            )  # fmt: skip

    def _compare(self, pairs: list[Item], counts: Ints, touched: Bools) -> None:
        """Add the pairs with their real similarity to `edges`; every text that is part of one is read once."""
        values = self._desk.empty(self._weight(touched)[1] + self._gaps(touched), np.uint64)
        for _ in self._rows.map(write_sets, self._shinglings(values, touched)):
            pass
        starts = self._desk.put(self._starts)
        self.edges.add(self._rows.map(compared, self._comparings(tuple(pairs), counts, values, starts)))
        for item in (values, starts):
            item.drop()

    def _shinglings(self, values: Item, touched: Bools) -> Iterator[Shingling]:
        start = 0
        for pieces in self._pieces(self._plan.columns, touched):
            yield Shingling(
                tuple((view, rows, self._sizes[numbers]) for view, rows, numbers in pieces),
                self._plan.shingler, values, start,
            )  # fmt: skip
            for _, _, numbers in pieces:
                ends = start + np.cumsum(self._sizes[numbers], dtype=np.int64)
                self._starts[numbers], start = ends - self._sizes[numbers], int(ends[-1])
            start = aligned(start)

    def _comparings(self, pairs: tuple[Item, ...], counts: Ints, values: Item, starts: Item) -> Iterator[Comparing]:
        """Tasks of about equal size; one's pairs come before the next one's."""
        limit = max(1, min(RUN, self._plan.memory // 4 // _PER_PAIR))
        firsts = np.unique(np.cumsum(counts) // limit, return_index=True)[1].tolist()
        bounds = range_starts(self._n)
        for first, last in pairwise([*firsts, RANGES]):
            if counts[first:last].any():
                low, high = bounds[first], bounds[last]
                yield Comparing(pairs, low, high, values, starts, self._sent_sizes, self._plan.similarity)

    def _pieces(self, columns: Sequence[str], wanted: Bools) -> Iterator[list[Piece]]:
        """The wanted documents in pool order, as much as a task should read at a time."""
        pieces, weight = list[Piece](), 0
        for part, view in self._rows.views(columns):
            numbers = self._number[part]
            rows = np.flatnonzero((numbers >= 0) & wanted[numbers])
            if not len(rows):
                continue
            pieces.append((view, rows, numbers[rows]))
            weight += _PER_TEXT * len(rows) + int(self._sizes[numbers[rows]].sum(dtype=np.int64))
            if weight >= TASK:
                yield pieces
                pieces, weight = [], 0
        if pieces:
            yield pieces

    def _weight(self, wanted: Bools) -> tuple[int, int]:
        """How many documents are wanted, and the number of their shingles."""
        shingles = (int(self._sizes[part].sum(dtype=np.int64, where=wanted[part])) for part in slices(self._n))
        return int(np.count_nonzero(wanted)), sum(shingles)

    def _gaps(self, wanted: Bools) -> int:
        """Hashes that fit between those of `_pieces`, at the most: each begins a page."""
        documents, shingles = self._weight(wanted)
        return ((_PER_TEXT * documents + shingles) // TASK + 1) * (PAGE // 8)
