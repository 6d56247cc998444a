"""Making the index from the items: which runs of tokens tell an item apart, and where they stand in it."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from stages.decontaminate.code import Bools, lex, renamed
from stages.decontaminate.grams import Grams, bitmap, build
from stages.decontaminate.index import CODE, NEAR, SHINGLE, WHOLE, WORDS, Index, Sizes, Targets
from stages.decontaminate.items import QUESTION, Items, Texts
from stages.decontaminate.tokens import Hashes, Ints, Words, power_of, window, words
from stages.dedup.jitted import jit
from stages.dedup.shingles import Sets, ascending, shingle
from stages.dedup.texts import normalise

LETTERED: Final = 0.3
"""Share of words with letters that a run needs to tell anything: `30 - 2 = <<30-2=28>>28` is in many answers."""


class _Runs(NamedTuple):
    """All runs of tokens of some texts: hash, number of the text in the list given, first token."""

    hashes: Hashes
    owners: Ints
    places: Ints


class _Group(NamedTuple):
    """Targets of one sort: which texts, the length of their runs, the runs that tell, telling tokens per token."""

    texts: Ints
    runs: Ints
    telling: _Runs
    lengths: Ints
    rank: Ints


def make_index(items: Items, sizes: Sizes) -> Index:
    """The index of an evaluation set."""
    texts, tokens = items.words, words(items.words.strings)
    lengths = np.diff(tokens.ends)
    whole = _whole_hashes(tokens)
    chosen = _distinct(whole, texts.fields, lengths)
    long = chosen[lengths[chosen] >= sizes.short]
    questions = chosen[texts.fields[chosen] == QUESTION]
    in_words = _word_group(
        tokens, texts, long, np.where(lengths[long] < 2 * sizes.words, sizes.short, sizes.words), sizes
    )
    near = np.intersect1d(long, questions)
    in_shingles = _word_group(tokens, texts, near, np.full(len(near), SHINGLE), sizes)
    telling = long[_totals(in_words) > 0]
    entire = np.setdiff1d(questions, telling)
    in_code, code_filter = _code_group(items.code, sizes)
    groups = [in_words, in_shingles, _entire_group(whole, lengths, entire), in_code]
    every = _word_runs(tokens.stream, tokens.ends, long, np.full(len(long), SHINGLE))
    starts = np.cumsum([0, *(len(group.texts) for group in groups)])
    return Index(
        targets=_targets(groups, [texts, texts, texts, items.code]),
        words=_grams(groups[:2], starts[:2]),
        words_filter=bitmap(np.unique(every[0])),
        whole=_grams(groups[2:3], starts[2:3]),
        code=_grams(groups[3:], starts[3:4]),
        code_filter=bitmap(code_filter),
        near=_shingle_sets(texts, near, starts),
    )


def _distinct(hashes: Hashes, fields: Ints, lengths: Ints) -> Ints:
    """The first of equal texts of a field, ascending; empty ones left out."""
    rows = np.flatnonzero(lengths > 0)
    order = rows[np.lexsort((rows, hashes[rows], fields[rows]))]
    fresh = np.ones(len(order), dtype=np.bool_)
    fresh[1:] = (hashes[order[1:]] != hashes[order[:-1]]) | (fields[order[1:]] != fields[order[:-1]])
    return np.sort(order[fresh])


def _word_group(tokens: Words, texts: Texts, chosen: Ints, runs: Ints, sizes: Sizes) -> _Group:
    every = _Runs(*_word_runs(tokens.stream, tokens.ends, chosen, runs))
    starts = tokens.ends[chosen[every.owners]] + every.places
    before = np.append(0, np.cumsum(tokens.letters))
    worded = before[starts + runs[every.owners]] - before[starts] >= LETTERED * runs[every.owners]
    found = _Runs(every.hashes[worded], every.owners[worded], every.places[worded])
    return _group(found, chosen, runs, np.diff(tokens.ends)[chosen], texts.files[chosen], sizes.common)


def _code_group(texts: Texts, sizes: Sizes) -> tuple[_Group, Hashes]:
    """The group of code targets, and all their runs with variables alike."""
    tokens = lex(texts.strings)
    lengths = np.diff(tokens.ends)
    whole = _renamed_whole(tokens.ends, tokens.values, tokens.names)
    chosen = _distinct(whole, texts.fields, np.where(lengths < sizes.code, 0, lengths))
    runs = np.full(len(chosen), sizes.code)
    alike, owners, places = _word_runs(tokens.stream, tokens.ends, chosen, runs)
    starts = places + tokens.ends[chosen[owners]]
    found = _Runs(_renamed_runs(tokens.values, tokens.names, starts, sizes.code), owners, places)
    group = _group(found, chosen, runs, lengths[chosen], texts.files[chosen], sizes.common)
    return group, np.unique(alike)


def _entire_group(whole: Hashes, lengths: Ints, chosen: Ints) -> _Group:
    """Texts that are found as a whole: one run over all their tokens."""
    owners = np.arange(len(chosen))
    runs = lengths[chosen]
    found = _Runs(whole[chosen], owners, np.zeros(len(chosen), dtype=np.int64))
    return _Group(chosen, runs, found, runs, _rank(found, runs, runs))


def _group(found: _Runs, chosen: Ints, runs: Ints, lengths: Ints, files: Ints, common: int) -> _Group:
    keep = frequencies(found.hashes, found.owners, files[found.owners]) <= common
    telling = _Runs(found.hashes[keep], found.owners[keep], found.places[keep])
    return _Group(chosen, runs, telling, lengths, _rank(telling, runs, lengths))


def frequencies(hashes: Hashes, owners: Ints, files: Ints) -> Ints:
    """For every run, in how many texts of one file it occurs, in the file where that is most."""
    if not len(hashes):
        return np.zeros(0, dtype=np.int64)
    order = np.lexsort((owners, files, hashes))
    hashed, filed, owned = hashes[order], files[order], owners[order]
    new_hash = np.append(True, hashed[1:] != hashed[:-1])
    new_file = new_hash | np.append(True, filed[1:] != filed[:-1])
    new_text = new_file | np.append(True, owned[1:] != owned[:-1])
    per_file = np.add.reduceat(new_text.astype(np.int64), np.flatnonzero(new_file))
    per_hash = np.maximum.reduceat(per_file, np.flatnonzero(new_hash[new_file]))
    out = np.empty(len(order), dtype=np.int64)
    out[order] = per_hash[np.cumsum(new_hash) - 1]
    return out


def _rank(telling: _Runs, runs: Ints, lengths: Ints) -> Ints:
    """For each target, one after the other, telling tokens before token 0, 1, ... and after the last one."""
    offsets = np.append(0, np.cumsum(lengths + 1))
    return _count_telling(telling.owners, telling.places, runs, offsets)


def _totals(group: _Group) -> Ints:
    return group.rank[np.cumsum(group.lengths + 1) - 1]


def _targets(groups: list[_Group], texts: list[Texts]) -> Targets:
    pairs = list(zip(groups, texts, strict=True))
    lengths = np.concatenate([group.lengths for group in groups])
    return Targets(
        items=np.concatenate([text.items[group.texts] for group, text in pairs]),
        fields=np.concatenate([text.fields[group.texts] for group, text in pairs]),
        hows=np.repeat([WORDS, NEAR, WHOLE, CODE], [len(group.texts) for group in groups]),
        runs=np.concatenate([group.runs for group in groups]),
        lengths=lengths,
        rank=np.concatenate([group.rank for group in groups]),
        offsets=np.append(0, np.cumsum(lengths + 1)),
    )


def _grams(groups: list[_Group], starts: Ints) -> Grams:
    hashes, owners, places = (
        np.concatenate(column) for column in zip(*(group.telling for group in groups), strict=True)
    )
    shifts = np.repeat(starts, [len(group.telling.hashes) for group in groups])
    return build(hashes, owners + shifts, places)


def _shingle_sets(texts: Texts, near: Ints, starts: Ints) -> Sets:
    """The shingle sets of `dedup` for the near targets, empty ones for the others."""
    sets = ascending(shingle(normalise(texts.strings.take(near), True, True), "word", SHINGLE))
    before, after = np.zeros(starts[1], dtype=np.int64), np.full(starts[4] - starts[2], sets.offsets[-1])
    return Sets(sets.values, np.concatenate([before, sets.offsets, after]))


def _whole_hashes(tokens: Words) -> Hashes:
    return _each_whole(tokens.stream, tokens.ends)


@jit
def _each_whole(stream: Hashes, ends: Ints) -> Hashes:
    out = np.zeros(len(ends) - 1, dtype=np.uint64)
    for k in range(len(out)):
        size = ends[k + 1] - ends[k]
        out[k] = window(stream, ends[k], size, power_of(size))
    return out


@jit
def _word_runs(stream: Hashes, ends: Ints, texts: Ints, sizes: Ints) -> tuple[Hashes, Ints, Ints]:
    """Hash, owner (number in `texts`) and place of all runs of `sizes[k]` tokens of text `texts[k]`."""
    room = 0
    for k in range(len(texts)):
        room += max(ends[texts[k] + 1] - ends[texts[k]] - sizes[k] + 1, 0)
    hashes, owners = np.empty(room, dtype=np.uint64), np.empty(room, dtype=np.int64)
    places = np.empty(room, dtype=np.int64)
    used = 0
    for k in range(len(texts)):
        power = power_of(sizes[k])
        for start in range(ends[texts[k]], ends[texts[k] + 1] - sizes[k] + 1):
            hashes[used], owners[used] = window(stream, start, sizes[k], power), k
            places[used] = start - ends[texts[k]]
            used += 1
    return hashes, owners, places


@jit
def _renamed_runs(values: Hashes, names: Bools, starts: Ints, size: int) -> Hashes:
    out = np.empty(len(starts), dtype=np.uint64)
    for k in range(len(starts)):
        out[k] = renamed(values, names, starts[k], size)
    return out


@jit
def _renamed_whole(ends: Ints, values: Hashes, names: Bools) -> Hashes:
    out = np.empty(len(ends) - 1, dtype=np.uint64)
    for k in range(len(out)):
        out[k] = renamed(values, names, ends[k], ends[k + 1] - ends[k])
    return out


@jit
def _count_telling(owners: Ints, places: Ints, runs: Ints, offsets: Ints) -> npt.NDArray[np.int64]:
    told = np.zeros(offsets[-1], dtype=np.int64)
    for k in range(len(owners)):
        start = offsets[owners[k]] + places[k]
        told[start : start + runs[owners[k]]] = 1
    for k in range(len(offsets) - 1):
        before = 0
        for at in range(offsets[k], offsets[k + 1]):
            here = told[at]
            told[at] = before
            before += here
    return told
