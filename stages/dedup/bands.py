"""Tasks that find candidate pairs: band keys of some documents, and the pairs within one band."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.room import room
from stages.dedup import kernels
from stages.dedup.arrays import full, packed
from stages.dedup.items import Desk, Item
from stages.dedup.kernels import Bools, Bytes, Hashes, Ints, Numbers, Signatures, pack, unpack
from stages.dedup.lsh import number_bits, pairs_of_band
from stages.dedup.spool import Spool
from stages.dedup.verify import Piece, Similarity

RANGES: Final = 4_096
"""Ranges of documents whose pairs are counted, so that they can be compared a run of ranges at a time."""


@dataclass(frozen=True)
class Banding:
    """Documents (views, rows, numbers), whose keys go to `keys` from `start` on, band after band."""

    pieces: tuple[Piece, ...]
    bands: int
    rows: int
    bits: int
    keys: Item
    start: int


def write_keys(task: Banding) -> None:
    """Compute the keys of a task's documents."""
    parts = []
    for view, rows, numbers in task.pieces:
        signatures = signature_values(view.read(rows)["signature"].combine_chunks())
        parts.append(kernels.band_keys(signatures, numbers, task.bands, task.rows, task.bits))
    task.keys.write(task.start, np.concatenate(parts, axis=1).ravel())


@dataclass(frozen=True)
class Bucketing:
    """One band: its keys are `keys[start : start + count]` for each (start, count) of `spans`.

    `sizes` has the documents' numbers of shingles; `active`, if not None, marks those that still take part; `leaders`
    have led their bucket before; pairs of `known`, whose runs end at `bounds`, are left out.
    """

    keys: Item
    spans: Ints
    sizes: Item
    active: Item | None
    leaders: Numbers
    known: Item
    bounds: Ints
    fixed: int
    most: int
    similarity: Similarity
    threshold: float
    memory: int
    desk: Desk


class Candidates(NamedTuple):
    """What a band has: packed pairs (worse, better), ascending; how many there are in each range of worse documents;
    as bits, the documents in a pair and those in a large bucket; and all that have led a bucket."""

    pairs: Item
    counts: Ints
    touched: Bytes
    large: Bytes
    leaders: Numbers


def candidates(task: Bucketing) -> Candidates:
    """The pairs of one band that can be similar at all and were not compared before."""
    sizes, known = task.sizes.open(), task.known.open()
    n = len(sizes)
    served, large, touched = (full(n, 0, np.bool_) for _ in range(3))
    served[task.leaders] = True
    found, bits = Spool(task.memory), number_bits(n)
    for pairs in pairs_of_band(_keys(task, bits), bits, task.fixed, served, large, task.most):
        better, worse = unpack(pairs)
        near = _similar_sizes(sizes[better], sizes[worse], task)
        fresh = unknown(pack(worse[near], better[near]), known, task.bounds)
        for half in unpack(fresh):
            touched[half] = True
        found.append(fresh)
    ascending = found.all()
    ascending.sort()
    counts = np.diff(np.searchsorted(ascending, range_starts(n)))
    leaders = np.flatnonzero(served).astype(np.int32)
    return Candidates(task.desk.put(ascending), counts, packed(touched), packed(large), leaders)


def range_starts(n: int) -> Hashes:
    """Where the ranges of `n` worse documents begin, and where the last one ends: packed (worse, better)."""
    return np.arange(RANGES + 1, dtype=np.uint64) * np.uint64(-(-n // RANGES)) << np.uint64(32)


def unknown(pairs: Hashes, known: Hashes, bounds: Ints) -> Hashes:
    """Those of the packed pairs that are not in the ascending runs of `known`."""
    fresh = np.ones(len(pairs), np.bool_)
    for start, end in pairwise(bounds.tolist()):
        run = known[start:end]
        if len(run):
            fresh &= run[np.minimum(np.searchsorted(run, pairs), len(run) - 1)] != pairs
    return pairs[fresh]


def signature_values(column: pa.FixedSizeBinaryArray) -> Signatures:
    """A column of fixed-size signatures as an array of shape (rows, hashes)."""
    width = column.type.byte_width
    data = np.frombuffer(column.buffers()[1], dtype=np.uint8, count=len(column) * width, offset=column.offset * width)
    return data.view(np.uint32).reshape(len(column), width // 4)


def _keys(task: Bucketing, bits: int) -> Hashes:
    """The band's keys in an array of this task's own."""
    out, end = room(int(task.spans[:, 1].sum()), np.uint64, task.memory), 0
    for part in _active(task, bits):
        out[end : end + len(part)] = part
        end += len(part)
    return np.asarray(out[:end])


def _active(task: Bucketing, bits: int) -> Iterator[Hashes]:
    keys, active = task.keys.open(), None if task.active is None else task.active.open()
    for start, count in task.spans.tolist():
        part = keys[start : start + count]
        yield part if active is None else part[active[(part & np.uint64((1 << bits) - 1)).astype(np.int64)]]


def _similar_sizes(better: Numbers, worse: Numbers, task: Bucketing) -> Bools:
    """Whether sets of such sizes can reach the threshold: what they have in common is at most all of the smaller."""
    most: npt.NDArray[np.int32] = worse if task.similarity == "containment" else np.maximum(better, worse)
    return np.asarray(np.minimum(better, worse) >= task.threshold * most - 1e-9)
