"""The index of the evaluation items: a hash table from runs of tokens to where in which target they occur."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stages.decontaminate.tokens import Bytes, Hashes, Ints
from stages.dedup.jitted import jit

Int32s = npt.NDArray[np.int32]


class Grams(NamedTuple):
    """Hash `keys[k]` occurs at `places[p]` (tokens) of target `targets[p]` for p in `starts[k]:starts[k + 1]`.

    `slots` finds k by hash.
    """

    keys: Hashes
    starts: Ints
    targets: Int32s
    places: Int32s
    slots: Int32s


def build(hashes: Hashes, targets: Ints, places: Ints) -> Grams:
    """The index of postings (all of one length)."""
    order = np.lexsort((places, targets, hashes))
    keys, first = np.unique(hashes[order], return_index=True)
    starts = np.append(first, len(order)).astype(np.int64)
    targets, places = targets[order], places[order]
    return Grams(keys, starts, targets.astype(np.int32), places.astype(np.int32), slots_of(keys))


def slots_of(keys: Hashes) -> Int32s:
    """An open-addressing table of distinct hashes: index + 1, 0 where free."""
    slots = np.zeros(1 << int(2 * len(keys) + 2).bit_length(), dtype=np.int32)
    _fill(keys, slots)
    return slots


def bitmap(hashes: Hashes) -> Bytes:
    """A bitmap of 2^k bits, some 16 per hash, in which the top k bits of each hash are set."""
    out = np.zeros(1 << max(int(2 * len(hashes)).bit_length(), 6), dtype=np.uint8)
    _mark(hashes, out)
    return out


def to_state(grams: Grams, prefix: str) -> dict[str, npt.NDArray[Any]]:
    """The index as arrays of a fitted state."""
    return {f"{prefix}_{name}": array for name, array in grams._asdict().items()}


def from_state(state: Mapping[str, npt.NDArray[Any]], prefix: str) -> Grams:
    """The inverse of `to_state`."""
    return Grams(*(state[f"{prefix}_{name}"] for name in Grams._fields))


@jit
def _fill(keys: Hashes, slots: Int32s) -> None:
    most = len(slots) - 1
    for k in range(len(keys)):
        at = np.int64(keys[k] & np.uint64(most))
        while slots[at] != 0:
            at = (at + 1) & most
        slots[at] = k + 1


@jit
def lookup(value: np.uint64, keys: Hashes, slots: Int32s) -> int:
    """The index of a hash in `keys`, -1 where it is absent."""
    most = len(slots) - 1
    at = np.int64(value & np.uint64(most))
    while slots[at] != 0:
        if keys[slots[at] - 1] == value:
            return int(slots[at] - 1)
        at = (at + 1) & most
    return -1


@jit
def _shift(filter_: Bytes) -> np.uint64:
    bits = 3
    while (1 << (bits - 3)) < len(filter_):
        bits += 1
    return np.uint64(64 - bits)


@jit
def _mark(hashes: Hashes, out: Bytes) -> None:
    shift = _shift(out)
    for value in hashes:
        bit = value >> shift
        out[np.int64(bit >> np.uint64(3))] |= np.uint8(1 << np.int64(bit & np.uint64(7)))


@jit
def maybe(value: np.uint64, filter_: Bytes, shift: np.uint64) -> bool:
    """Whether a bitmap may hold `value`; `shift` as `filter_shift` gives it."""
    bit = value >> shift
    return bool((filter_[np.int64(bit >> np.uint64(3))] >> np.int64(bit & np.uint64(7))) & 1)


filter_shift = _shift
