"""Packing sequences into contexts of a fixed length: best fit, longest first.

Sequences are placed by falling length, each into the pack with the least room that still takes it (Ding et al. 2024,
"Fewer Truncations Improve Language Modeling": nothing is cut and almost nothing is wasted). Lengths are whole numbers
of at most `context`, so packs are kept by their room and the best fit is the next room that has a pack, found in a
bitmap: O(n log n) for the sort, then at most context / 64 words per sequence.

Everything is pure and deterministic: equal lengths in, equal packs out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numba
import numpy as np
import numpy.typing as npt

from schemas.errors import RecipeError

Ints = npt.NDArray[np.int64]
Overlong = Literal["drop", "split", "keep"]


@dataclass(frozen=True)
class Pieces:
    """What is packed: tokens `start` to `end` (exclusive) of sequence `source`; all arrays of shape [pieces].

    `truncated` marks pieces whose sequence goes on but is cut off: its loss is masked by overlong filtering.
    """

    source: Ints
    start: Ints
    end: Ints
    truncated: npt.NDArray[np.bool_]
    dropped: int
    """Sequences left out because they are longer than the context."""
    lost_tokens: int
    """Tokens that are in no piece: of dropped sequences, and behind the cut of truncated ones."""

    @property
    def lengths(self) -> Ints:
        """Tokens per piece."""
        return self.end - self.start


@dataclass(frozen=True)
class Packs:
    """Which pieces stand in which pack: those of pack p are `order[offsets[p]:offsets[p + 1]]`, in that order."""

    order: Ints
    offsets: Ints
    context: int
    tokens: int

    def __len__(self) -> int:
        """Number of packs."""
        return len(self.offsets) - 1

    def __getitem__(self, pack: int) -> Ints:
        """The pieces of a pack."""
        return self.order[self.offsets[pack] : self.offsets[pack + 1]]

    @property
    def efficiency(self) -> float:
        """Share of the contexts' positions that hold a token; 1 where there is nothing to pack."""
        return self.tokens / (len(self) * self.context) if len(self) else 1.0


def cut(lengths: Sequence[int] | Ints, starts: Callable[[int], Ints], context: int, overlong: Overlong) -> Pieces:
    """Pieces of at most `context` tokens.

    Args:
        lengths: tokens of each sequence; empty ones make no piece.
        starts: of a sequence's number, the rising positions where an exchange starts: where `split` may cut it. Asked
            only for sequences to be split.
        context: most tokens per piece.
        overlong: what happens to longer sequences. `drop` leaves them out. `split` cuts them between exchanges, as few
            times as possible, and inside an exchange only where that is longer than the context itself; no token is
            lost. `keep` keeps the first `context` tokens and marks them as truncated.

    Raises RecipeError for a context that is not positive.
    """
    if context < 1:
        raise RecipeError(f"context: {context} is not a positive number of tokens")
    sizes = np.asarray(lengths, np.int64)
    long = sizes > context
    fits = np.flatnonzero((sizes > 0) & ~long)
    source, start, end = [fits], [np.zeros(len(fits), np.int64)], [sizes[fits]]
    for at in np.flatnonzero(long).tolist() if overlong != "drop" else ():
        spans = split(int(sizes[at]), starts(at), context) if overlong == "split" else [(0, context)]
        edges = np.array(spans, np.int64)
        source.append(np.full(len(spans), at, np.int64))
        start.append(edges[:, 0])
        end.append(edges[:, 1])
    sources, first, last = np.concatenate(source), np.concatenate(start), np.concatenate(end)
    order = np.lexsort((first, sources))
    truncated = (long & (overlong == "keep"))[sources]
    dropped = int(long.sum()) if overlong == "drop" else 0
    lost = int(sizes.sum() - (last - first).sum())
    return Pieces(sources[order], first[order], last[order], truncated[order], dropped, lost)


def split(length: int, starts: Ints | Sequence[int], context: int) -> list[tuple[int, int]]:
    """Spans that cover `length` tokens, each of at most `context` and as long as the allowed cuts let it be."""
    allowed = np.asarray(starts, np.int64)
    spans = []
    at = 0
    while length - at > context:
        inside = allowed[(allowed > at) & (allowed <= at + context)]
        end = int(inside[-1]) if len(inside) else at + context
        spans.append((at, end))
        at = end
    return [*spans, (at, length)]


def pack(lengths: Sequence[int] | Ints, context: int) -> Packs:
    """Best-fit-decreasing packs of pieces with these lengths (1 to `context` tokens each).

    Pieces of equal length keep their order; packs come in the order in which they were opened. RecipeError for a
    length outside the range.
    """
    sizes = np.asarray(lengths, np.int64)
    if len(sizes) and (sizes.min() < 1 or sizes.max() > context):
        raise RecipeError(f"a piece of {sizes.min()} or {sizes.max()} tokens is not between 1 and {context}")
    falling = np.argsort(-sizes, kind="stable")
    bins, count = _best_fit(sizes[falling], context)
    by_pack = np.argsort(bins, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(bins, minlength=count))]).astype(np.int64)
    return Packs(falling[by_pack], offsets, context, int(sizes.sum()))


def one_each(lengths: Sequence[int] | Ints, context: int) -> Packs:
    """A pack per piece: no packing, in the same form."""
    sizes = np.asarray(lengths, np.int64)
    return Packs(np.arange(len(sizes)), np.arange(len(sizes) + 1), context, int(sizes.sum()))


@numba.njit(cache=True)
def _best_fit(sizes: Ints, context: int) -> tuple[Ints, int]:
    """The pack of each piece of falling length, and the number of packs.

    `head[room]` is the newest open pack with that much room, `below` the pack under it in that stack; `words` is a
    bitmap of the rooms that have a pack.
    """
    bins = np.empty(len(sizes), np.int64)
    below = np.full(len(sizes), -1, np.int64)
    head = np.full(context + 1, -1, np.int64)
    words = np.zeros((context >> 6) + 1, np.uint64)
    count = 0
    for at in range(len(sizes)):
        size = sizes[at]
        room = _next_room(words, size)
        if room < 0:
            chosen, room = count, context
            count += 1
        else:
            chosen = head[room]
            head[room] = below[chosen]
            if head[room] < 0:
                words[room >> 6] &= ~(np.uint64(1) << np.uint64(room & 63))
        bins[at] = chosen
        left = room - size
        if left > 0:
            below[chosen] = head[left]
            head[left] = chosen
            words[left >> 6] |= np.uint64(1) << np.uint64(left & 63)
    return bins, count


@numba.njit(cache=True)
def _next_room(words: npt.NDArray[np.uint64], size: int) -> int:
    """The smallest room of at least `size` that has a pack; -1 where none has."""
    at = size >> 6
    word = words[at] >> np.uint64(size & 63) << np.uint64(size & 63)
    while word == 0:
        at += 1
        if at == len(words):
            return -1
        word = words[at]
    bit = 0
    while word & np.uint64(1) == 0:
        word >>= np.uint64(1)
        bit += 1
    return (at << 6) + bit


def positions(lengths: Ints | Sequence[int]) -> Ints:
    """Position ids of a pack: 0, 1, … anew for every piece. Shape [tokens]."""
    sizes = np.asarray(lengths, np.int64)
    return np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)


def cumulative(lengths: Ints | Sequence[int]) -> npt.NDArray[np.int32]:
    """`cu_seqlens` of a pack: 0 and the end of each piece. Shape [pieces + 1]."""
    return np.concatenate([[0], np.cumsum(np.asarray(lengths, np.int64))]).astype(np.int32)


def summary(pieces: Pieces, packs: Packs) -> dict[str, Any]:
    """What packing did, for logs and reports."""
    return {
        "sequences": len(np.unique(pieces.source)),
        "pieces": len(pieces.source),
        "packs": len(packs),
        "tokens": packs.tokens,
        "context": packs.context,
        "efficiency": round(packs.efficiency, 6),
        "truncated": int(pieces.truncated.sum()),
        "dropped": pieces.dropped,
        "lost_tokens": pieces.lost_tokens,
    }
