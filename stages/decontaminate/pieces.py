"""The texts of a record one by one: every column, message and solution that could repeat an evaluation item.

Several turns of the user are one text more, joined as `items` joins those of an evaluation item: an item that is a
conversation of short turns stands in no message alone. It comes last, so that a stretch that lies in one message is
told to be there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stages.decontaminate.tokens import Ints
from stages.text import explode, turns

_PLAIN: Final = ("text", "prompt", "completion", "rejected", "reasoning", "answer")
READS: Final = (*_PLAIN, "messages", "solutions")
_PATHS: Final = (
    *_PLAIN,
    "messages[{}].content",
    "messages[{}].reasoning",
    "messages[{}].tool_calls[{}].arguments",
    "solutions[{}].code",
    "messages[user]",
)


class Pieces(NamedTuple):
    """Texts (no nulls) of a batch: which row each belongs to, and where in the record it stands."""

    strings: pa.StringArray
    rows: Ints
    kinds: Ints
    first: Ints
    second: Ints

    def path(self, piece: int) -> str:
        """`prompt`, `messages[2].content`, or `messages[user]`: the user's messages joined by newlines."""
        return _PATHS[self.kinds[piece]].format(self.first[piece], self.second[piece])


class _Part(NamedTuple):
    strings: pa.StringArray
    rows: Ints
    first: Ints
    second: Ints


def pieces(batch: pa.RecordBatch) -> Pieces:
    """Every text of every row of `batch` (columns `READS`), grouped by where in the record it stands."""
    parts = [_present(part) for part in _parts(batch)]
    strings, rows, first, second = zip(*parts, strict=True)
    kinds = np.repeat(np.arange(len(parts)), [len(part.strings) for part in parts])
    return Pieces(pa.concat_arrays(strings), np.concatenate(rows), kinds, np.concatenate(first), np.concatenate(second))


def _parts(batch: pa.RecordBatch) -> Iterator[_Part]:
    """One part per path, in the order of `_PATHS`."""
    rows = np.arange(batch.num_rows)
    for name in _PLAIN:
        yield _Part(batch[name], rows, rows, rows)
    messages, parents = explode(batch["messages"])
    number = _numbers(parents)
    for name in ("content", "reasoning"):
        yield _Part(messages.field(name), parents, number, number)
    calls, owners = explode(messages.field("tool_calls"))
    yield _Part(calls.field("arguments"), parents[owners], number[owners], _numbers(owners))
    solutions, parents = explode(batch["solutions"])
    number = _numbers(parents)
    yield _Part(solutions.field("code"), parents, number, number)
    yield _asked(batch["messages"])


def _asked(messages: pa.ListArray) -> _Part:
    """The user's turns of each row that has several."""
    flat, parents = explode(messages)
    asked = pc.fill_null(pc.equal(flat.field("role"), "user"), False).to_numpy(zero_copy_only=False)
    rows = np.flatnonzero(np.bincount(parents[asked], minlength=len(messages)) > 1)
    return _Part(turns(messages.take(pa.array(rows)), "user"), rows, rows, rows)


def _numbers(parents: Ints) -> Ints:
    """Position of each item among those of the same parent (parents ascending)."""
    return np.arange(len(parents)) - np.searchsorted(parents, parents)


def _present(part: _Part) -> _Part:
    keep = np.flatnonzero(np.asarray(pc.is_valid(part.strings)))
    if len(keep) == len(part.strings):
        return part
    return _Part(part.strings.drop_null(), part.rows[keep], part.first[keep], part.second[keep])
