"""From shared runs of tokens to matches: how much of an item's text a record repeats, and its longest stretch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from stages.decontaminate.grams import Grams
from stages.decontaminate.index import Targets
from stages.decontaminate.scan import Found
from stages.decontaminate.tokens import Ints
from stages.dedup.jitted import jit

Floats = npt.NDArray[np.float64]
FLOOR: Final = 0.2
"""Matches that repeat a smaller share of an item are not recorded."""


class Matches(NamedTuple):
    """Per match: row, target, share of the telling tokens found, and the longest stretch: its piece, first token
    and number of tokens. The stretches found are, counted in telling tokens of the target, `begins` to `stops`
    numbered `parts[m]` to `parts[m + 1]`."""

    rows: Ints
    targets: Ints
    shares: Floats
    pieces: Ints
    tokens: Ints
    lengths: Ints
    parts: Ints
    begins: Ints
    stops: Ints

    def take(self, chosen: Ints) -> Matches:
        """The chosen matches, in that order."""
        counts = np.diff(self.parts)[chosen]
        parts = np.append(0, np.cumsum(counts))
        inner = np.repeat(self.parts[chosen] - parts[:-1], counts) + np.arange(parts[-1])
        return Matches(
            self.rows[chosen], self.targets[chosen], self.shares[chosen], self.pieces[chosen], self.tokens[chosen],
            self.lengths[chosen], parts, self.begins[inner], self.stops[inner],
        )  # fmt: skip


def joined(parts: Sequence[Matches]) -> Matches:
    """All matches of all parts, in order."""
    counts = np.concatenate([np.diff(part.parts) for part in parts])
    rows, targets, shares, pieces, tokens, lengths, _, begins, stops = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    return Matches(rows, targets, shares, pieces, tokens, lengths, np.append(0, np.cumsum(counts)), begins, stops)


def matches(found: Found, posted: Grams, rows: Ints, targets: Targets) -> Matches:
    """One match per row and target with a share of at least `FLOOR`; `rows` gives the row of each piece."""
    target = posted.targets[found.posting].astype(np.int64)
    place = posted.places[found.posting].astype(np.int64)
    row = rows[found.piece]
    order = np.lexsort((place, found.token - place, found.piece, target, row))
    row, target, piece, token, place = (column[order] for column in (row, target, found.piece, found.token, place))
    return Matches(
        *_reduce(row, target, piece, token, place, targets.runs, targets.lengths, targets.rank, targets.offsets)
    )


@jit
def _longest(piece: Ints, token: Ints, place: Ints, start: int, stop: int, run: int) -> tuple[int, int]:
    """The hit that begins the longest stretch shared word for word, and its number of tokens."""
    best, length, first = start, run, start
    for k in range(start + 1, stop):
        joined = piece[k] == piece[k - 1] and token[k] - place[k] == token[k - 1] - place[k - 1]
        if not joined or place[k] - place[k - 1] > run:
            first = k
        if place[k] - place[first] + run > length:
            best, length = first, place[k] - place[first] + run
    return best, length


@jit
def _stretches(covered: npt.NDArray[np.bool_], rank: Ints, out: npt.NDArray[np.int64]) -> tuple[int, int]:
    """Covered stretches in telling tokens, written to `out`, shape (2, room); how many, and telling tokens in all."""
    count, total, k = 0, 0, 0
    while k < len(covered):
        if not covered[k]:
            k += 1
            continue
        first = k
        while k < len(covered) and covered[k]:
            k += 1
        out[0, count], out[1, count] = rank[first], rank[k]
        total += rank[k] - rank[first]
        count += 1
    return count, total


@jit
def _reduce(
    row: Ints, target: Ints, piece: Ints, token: Ints, place: Ints, runs: Ints, lengths: Ints, rank: Ints, offsets: Ints
) -> tuple[Ints, Ints, Floats, Ints, Ints, Ints, Ints, Ints, Ints]:
    room = len(row)
    who = np.empty((5, room), dtype=np.int64)  # row, target, piece, token, length
    shares = np.empty(room, dtype=np.float64)
    parts = np.zeros(room + 1, dtype=np.int64)
    pieces_of = np.empty((2, room), dtype=np.int64)  # a stretch has at least one hit
    used, start = 0, 0
    while start < room:
        stop, t = start + 1, target[start]
        while stop < room and row[stop] == row[start] and target[stop] == t:
            stop += 1
        covered = np.zeros(lengths[t], dtype=np.bool_)
        for k in range(start, stop):
            covered[place[k] : place[k] + runs[t]] = True
        telling = rank[offsets[t] : offsets[t + 1]]
        at = parts[used]
        count, total = _stretches(covered, telling, pieces_of[:, at:])
        if total >= FLOOR * telling[-1]:
            best, length = _longest(piece, token, place, start, stop, runs[t])
            who[0, used], who[1, used], who[2, used] = row[start], t, piece[best]
            who[3, used], who[4, used] = token[best], length
            shares[used] = total / telling[-1]
            used += 1
            parts[used] = at + count
        start = stop
    last = parts[used]
    return (
        who[0, :used], who[1, :used], shares[:used], who[2, :used], who[3, :used], who[4, :used],
        parts[: used + 1], pieces_of[0, :last], pieces_of[1, :last],
    )  # fmt: skip
