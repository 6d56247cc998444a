"""What the built-in student learns from: a sample of the pool as texts, a vocabulary for them, and lists of tokens.

A record with an exchange teaches four things in turn, so that a student can tell how much a context helps: the response
after the turns before it, the response alone, the instruction after a request to guess it, and the instruction alone.
A record without one teaches its text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from stages.contract import IntArray, Pool
from stages.student.turns import GUESS, TURN_COLUMNS, Exchange, Turn, exchanges, plain
from stages.text import columns_for, render

START: Final = "<s>"
END: Final = "</s>"
_ROWS: Final = 20_000
"""Records that are sampled, at most: those of the lowest content hashes."""
_BATCH: Final = 2_000
_FORMS: Final = 6
_LONGEST: Final = 20_000
"""Characters of a text that are looked at; a student's window ends long before."""

Lesson = tuple[str, ...]
"""The texts of one record, one for each time it comes up."""


def lessons(pool: Pool) -> list[Lesson]:
    """The texts of a sample of the pool, in the order of content hashes; the same for any order of its records."""
    hashes = np.concatenate([np.empty(0, "S32"), *(_hashes(batch) for batch in pool.batches(["content_hash"]))])
    rows: IntArray = np.argsort(hashes, kind="stable")[:_ROWS]
    columns = list(dict.fromkeys([*TURN_COLUMNS, *columns_for("text")]))
    found: list[Lesson] = []
    for start in range(0, len(rows), _BATCH):
        table = pool.fetch(rows[start : start + _BATCH], columns).combine_chunks()
        found.extend(lesson for lesson in _taught(table.to_batches()[0], len(found)) if lesson)
    return found


def train_tokenizer(taught: Sequence[Lesson], vocabulary: int) -> Any:
    """A byte-level BPE tokenizer of at most `vocabulary` tokens: any text has tokens, and decodes to itself."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        special_tokens=[START, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator((lesson[0] for lesson in taught), trainer)
    return tokenizer


def token_lists(
    taught: Sequence[Lesson], tokenizer: Any, context: int, tokens: int, epochs: int, seed: int
) -> list[list[int]]:
    """Texts as tokens between `START` and `END`, cut to `context`: in random order, again and again up to `epochs`
    times, until there are `tokens` of them."""
    ids: list[list[int]] = []
    rng, total = np.random.default_rng(seed), 0
    start, end = tokenizer.token_to_id(START), tokenizer.token_to_id(END)
    for epoch in range(epochs):
        order = rng.permutation(len(taught))
        for at in range(0, len(order), _BATCH):
            texts = [taught[row][epoch % len(taught[row])] for row in order[at : at + _BATCH]]
            for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False):
                ids.append([start, *encoding.ids, end][:context])
                total += len(ids[-1])
                if total >= tokens:
                    return ids
    return ids


def _taught(batch: pa.RecordBatch, first: int) -> Iterator[Lesson]:
    texts = render(batch, "text").to_pylist()
    for number, (exchange, text) in enumerate(zip(exchanges(batch), texts, strict=True), first):
        if isinstance(exchange, Exchange):
            yield forms(exchange, number)
        elif text:
            yield (text[:_LONGEST],)


def forms(exchange: Exchange, number: int) -> Lesson:
    """The ways to tell an exchange; which one comes first goes round, half of the time the response in its place."""
    forward = plain(exchange.before) + exchange.response
    backward = plain([Turn("user", GUESS.format(response=exchange.response))]) + exchange.instruction
    ways = (forward, exchange.response, forward, backward, forward, exchange.instruction)
    return tuple(ways[(number + k) % _FORMS][:_LONGEST] for k in range(_FORMS))


def _hashes(batch: pa.RecordBatch) -> Any:
    return np.array(batch["content_hash"].to_pylist(), "S32")
