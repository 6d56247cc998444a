"""Token sequences and which of their tokens count, in batches of about equal size. Needs no torch."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.errors import RecipeError

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
TOKENS_PER_BATCH = 4096
"""Tokens, padding included, that go through the model at a time, unless told otherwise."""


@dataclass(frozen=True)
class Batch:
    """Some rows, padded at the right to one length."""

    rows: IntArray
    """Which rows of the set these are [n]."""
    ids: IntArray
    """Token ids [n, length]; padding repeats the row's last."""
    counted: BoolArray
    """Whether the token's own loss counts [n, length]; never the first token's, never padding's."""
    real: BoolArray
    """False for padding [n, length]."""


@dataclass(frozen=True)
class Batches:
    """A set of token sequences, handed out as padded batches: similar lengths together, order told by `Batch.rows`.

    `ids[i]` and `counted[i]` are row i's tokens and which of them count, `lost[i]` how many more it had than the
    context, `empty[i]` that nothing of it counts: such a row is in no batch and all its results are NaN.
    """

    ids: tuple[IntArray, ...]
    counted: tuple[BoolArray, ...]
    lost: IntArray
    tokens: int = TOKENS_PER_BATCH

    def __len__(self) -> int:
        """How many rows there are, empty ones included."""
        return len(self.ids)

    @property
    def empty(self) -> BoolArray:
        """Rows that have no token whose loss counts [rows]."""
        return np.array([not counted.any() for counted in self.counted], bool)

    @property
    def truncated(self) -> BoolArray:
        """Rows that were longer than the context [rows]."""
        return self.lost > 0

    @property
    def lengths(self) -> IntArray:
        """Tokens of every row [rows]."""
        return np.array([len(ids) for ids in self.ids], np.int64)

    def __iter__(self) -> Iterator[Batch]:
        """Padded batches of at most `tokens` tokens (one row at least), the longest rows first."""
        return map(self._padded, self.plan())

    def plan(self) -> list[IntArray]:
        """The rows of each batch."""
        lengths = self.lengths
        order = np.argsort(-lengths, kind="stable")
        groups: list[list[int]] = []
        room = 0
        for row in order[~self.empty[order]].tolist():
            if room < 1:
                room = max(1, self.tokens // int(lengths[row]))
                groups.append([])
            groups[-1].append(row)
            room -= 1
        return [np.array(group, np.int64) for group in groups]

    def take(self, rows: Sequence[int] | IntArray) -> Batches:
        """The named rows as a set of its own."""
        picked = [int(row) for row in rows]
        ids, counted = tuple(self.ids[row] for row in picked), tuple(self.counted[row] for row in picked)
        return Batches(ids, counted, self.lost[picked], self.tokens)

    def sample(self, rows: int, seed: int) -> Batches:
        """At most `rows` rows that are not empty, by chance of their content: whatever order they came in."""
        keys = self.keys(f"sample {seed}")
        usable = np.flatnonzero(~self.empty).tolist()
        return self.take(sorted(usable, key=lambda row: keys[row])[:rows])

    def keys(self, salt: str) -> list[bytes]:
        """16 bytes of each row by its content and `salt`; equal rows are told apart by how many went before."""
        seen: Counter[bytes] = Counter()
        keys = []
        for ids, counted in zip(self.ids, self.counted, strict=True):
            content = hashlib.blake2b(ids.tobytes() + counted.tobytes(), digest_size=16).digest()
            keys.append(hashlib.blake2b(b"%s %d " % (salt.encode(), seen[content]) + content, digest_size=16).digest())
            seen[content] += 1
        return keys

    def _padded(self, rows: IntArray) -> Batch:
        length = max(len(self.ids[row]) for row in rows)
        shape = (len(rows), length)
        ids, counted, real = np.zeros(shape, np.int64), np.zeros(shape, bool), np.zeros(shape, bool)
        for place, row in enumerate(rows):
            size = len(self.ids[row])
            ids[place, :size], counted[place, :size], real[place, :size] = self.ids[row], self.counted[row], True
            ids[place, size:] = self.ids[row][-1]  # the row's own: no other row's infinities come in by padding
        return Batch(rows, ids, counted, real)


def encode(
    ids: Sequence[Sequence[int] | IntArray],
    counted: Sequence[Sequence[bool] | BoolArray | None] | None = None,
    *,
    context: int,
    tokens: int = TOKENS_PER_BATCH,
) -> Batches:
    """Rows of token ids as `Batches`.

    Args:
        ids: token ids of each row; may be empty.
        counted: which tokens' loss counts (a response, not its prompt); None for all. A row's first token never does.
        context: longest sequence the model takes; longer rows lose their end, and `lost` says how much.
        tokens: tokens per batch, padding included.

    Raises:
        RecipeError: where `counted` does not match `ids`, or a limit is below 1.
    """
    if context < 1 or tokens < 1:
        raise RecipeError(f"influence: context ({context}) and tokens per batch ({tokens}) must be 1 or more")
    if counted is not None and len(counted) != len(ids):
        raise RecipeError(f"influence: {len(ids)} rows of token ids, but {len(counted)} rows of marks")
    marks = [None] * len(ids) if counted is None else counted
    rows = [_row(one, mark, context) for one, mark in zip(ids, marks, strict=True)]
    lost = np.array([max(0, len(one) - context) for one in ids], np.int64)
    return Batches(tuple(row for row, _ in rows), tuple(mark for _, mark in rows), lost, tokens)


def _row(
    ids: Sequence[int] | IntArray, counted: Sequence[bool] | BoolArray | None, context: int
) -> tuple[IntArray, BoolArray]:
    if counted is not None and len(counted) != len(ids):
        raise RecipeError(f"influence: a row of {len(ids)} token ids has {len(counted)} marks of what counts")
    marks = np.ones(len(ids), bool) if counted is None else np.array(counted, bool)
    marks[:1] = False
    return np.array(ids[:context], np.int64), marks[:context]


def tokenize(
    tokenizer: Any,
    rows: Sequence[Sequence[tuple[str, bool]]],
    *,
    context: int,
    tokens: int = TOKENS_PER_BATCH,
) -> Batches:
    """Rows of (text, whether its loss counts) pieces as `Batches`, each row tokenized as one text.

    `tokenizer` is a fast tokenizer of `transformers`; its own special tokens are added and count as the piece that
    they stand next to: one before the text never does, one after it does as the last piece does. A token across two
    pieces counts as the piece where it ends.
    """
    texts = ["".join(text for text, _ in row) for row in rows]
    found = tokenizer(texts, return_offsets_mapping=True, verbose=False) if texts else {}
    ids = found.get("input_ids", [])
    marks = [_marks(row, spans) for row, spans in zip(rows, found.get("offset_mapping", []), strict=True)]
    return encode(ids, marks, context=context, tokens=tokens)


def _marks(row: Sequence[tuple[str, bool]], spans: Sequence[tuple[int, int]]) -> BoolArray:
    """Whether each token (its characters' start and end; 0, 0 for a special one) counts."""
    ends = np.cumsum([0, *(len(text) for text, _ in row)])
    counts = np.array([False, *(count for _, count in row)])
    last, marks = 0, []
    for _, end in spans:
        last = max(last, end)  # a special token stands where the text before it ended
        marks.append(counts[np.searchsorted(ends, last)] if last else False)
    return np.array(marks, bool)
