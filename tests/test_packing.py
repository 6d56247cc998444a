"""Packing: nothing lost, nothing too long, always the same, and never worse than first fit."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.packing import cumulative, cut, one_each, pack, positions, split, summary
from schemas.errors import RecipeError

LENGTHS = st.lists(st.integers(0, 300), max_size=80)
CONTEXT = st.integers(1, 130)


def first_fit(lengths: list[int], context: int) -> int:
    """Number of packs when each piece, as it comes, goes into the first pack with room."""
    rooms: list[int] = []
    for length in lengths:
        for at, room in enumerate(rooms):
            if room >= length:
                rooms[at] -= length
                break
        else:
            rooms.append(context - length)
    return len(rooms)


def best_fit_decreasing(lengths: list[int], context: int) -> list[int]:
    """How full each pack is, by the definition: the least room that takes the piece."""
    rooms: list[int] = []
    for length in sorted(lengths, reverse=True):
        takers = [at for at, room in enumerate(rooms) if room >= length]
        if takers:
            rooms[min(takers, key=lambda at: rooms[at])] -= length
        else:
            rooms.append(context - length)
    return sorted(context - room for room in rooms)


@settings(deadline=None)
@given(LENGTHS, CONTEXT)
def test_the_definition(lengths: list[int], context: int) -> None:
    fitting = [length for length in lengths if 1 <= length <= context]
    packs = pack(fitting, context)
    full = [int(np.array(fitting)[packs[at]].sum()) for at in range(len(packs))]
    assert sorted(full) == best_fit_decreasing(fitting, context)
    assert max(full, default=0) <= context
    assert sorted(packs.order.tolist()) == list(range(len(fitting)))
    assert packs.efficiency == (sum(fitting) / (len(packs) * context) if fitting else 1.0)


@settings(deadline=None)
@given(LENGTHS, CONTEXT, st.sampled_from(["drop", "split", "keep"]), st.data())
def test_every_token_is_in_one_pack_or_reported(
    lengths: list[int], context: int, overlong: str, data: st.DataObject
) -> None:
    starts = [np.array(sorted(data.draw(st.sets(st.integers(1, max(1, n - 1)), max_size=4)))) for n in lengths]
    pieces = cut(lengths, starts.__getitem__, context, overlong)  # type: ignore[arg-type]
    packs = pack(pieces.lengths, context)
    seen = [np.zeros(n, int) for n in lengths]
    for at in range(len(packs)):
        assert pieces.lengths[packs[at]].sum() <= context
        for piece in packs[at]:
            seen[pieces.source[piece]][pieces.start[piece] : pieces.end[piece]] += 1
    assert all((each <= 1).all() for each in seen)
    assert sum(int((each == 0).sum()) for each in seen) == pieces.lost_tokens
    long = [at for at, n in enumerate(lengths) if n > context]
    assert pieces.dropped == (len(long) if overlong == "drop" else 0)
    assert sorted(pieces.source[pieces.truncated].tolist()) == (long if overlong == "keep" else [])
    if overlong == "split":
        assert pieces.lost_tokens == 0


@settings(deadline=None)
@given(st.integers(1, 200), st.sets(st.integers(1, 199), max_size=10), st.integers(1, 60))
def test_split_cuts_between_exchanges(length: int, starts: set[int], context: int) -> None:
    allowed = sorted(at for at in starts if at < length)
    spans = split(length, allowed, context)
    assert [start for start, _ in spans] == [0, *(end for _, end in spans[:-1])]
    assert spans[-1][1] == length
    for start, end in spans[:-1]:
        inside = [at for at in allowed if start < at <= start + context]
        assert end == (inside[-1] if inside else start + context)


def test_split_by_hand() -> None:
    assert split(25, [4, 9, 14, 20], 10) == [(0, 9), (9, 14), (14, 20), (20, 25)]
    assert split(25, [2], 10) == [(0, 2), (2, 12), (12, 22), (22, 25)]


@settings(deadline=None)
@given(st.lists(st.integers(1, 64), min_size=1, max_size=60))
def test_deterministic_and_never_more_packs_than_first_fit(lengths: list[int]) -> None:
    packs, again = pack(lengths, 64), pack(np.array(lengths), 64)
    assert (packs.order.tolist(), packs.offsets.tolist()) == (again.order.tolist(), again.offsets.tolist())
    # BFD needs at most 11/9 OPT + 6/9 packs; first fit at least OPT
    assert len(packs) <= 11 / 9 * first_fit(lengths, 64) + 6 / 9


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 1000))
def test_more_efficient_than_first_fit_on_realistic_lengths(seed: int) -> None:
    lengths = np.clip(np.random.default_rng(seed).lognormal(5.5, 1.0, 1500), 8, 2048).astype(int)
    packs = pack(lengths, 2048)
    assert len(packs) <= first_fit(lengths.tolist(), 2048)
    assert packs.efficiency > 0.95


def test_a_million_lengths() -> None:
    pack([3, 2], 8)  # compiled
    lengths = np.clip(np.random.default_rng(0).lognormal(6, 1.2, 1_000_000), 8, 8192).astype(int)
    started = time.process_time()
    packs = pack(lengths, 8192)
    assert time.process_time() - started < 5
    assert packs.efficiency > 0.99
    assert np.bincount(packs.order).max() == 1


def test_positions_and_cumulative_lengths() -> None:
    assert positions([3, 1, 2]).tolist() == [0, 1, 2, 0, 0, 1]
    assert cumulative([3, 1, 2]).tolist() == [0, 3, 4, 6]
    assert (positions([]).tolist(), cumulative([]).tolist()) == ([], [0])


def test_summary_and_no_packing() -> None:
    pieces = cut([5, 12, 0, 3], lambda at: np.zeros(0, int), 8, "keep")
    assert summary(pieces, pack(pieces.lengths, 8)) == {
        "sequences": 3, "pieces": 3, "packs": 2, "tokens": 16, "context": 8, "efficiency": 1.0,
        "truncated": 1, "dropped": 0, "lost_tokens": 4,
    }  # fmt: skip
    assert one_each([3, 4], 8).offsets.tolist() == [0, 1, 2]


def test_refusals() -> None:
    with pytest.raises(RecipeError, match="between 1 and 8"):
        pack([9], 8)
    with pytest.raises(RecipeError, match="positive"):
        cut([1], lambda at: np.zeros(0, int), 0, "drop")
