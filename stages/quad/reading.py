"""Records as token sequences, with which of their tokens count. Importing this imports torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import pyarrow as pa

from schemas.errors import BadRow
from stages.contract import IntArray, Pool
from stages.influence.batches import Batches, tokenize
from stages.quad.setup import READS, Counts
from stages.student.models import Student
from stages.student.turns import Exchange, asked, exchanges
from stages.text import On, render

Pieces = list[tuple[str, bool]]

TOKENS_PER_BATCH: Final = 4096


def read_batch(batch: pa.RecordBatch, student: Student, on: On, counts: Counts) -> Batches:
    """Each record's tokens. A record with nothing that counts is an empty row.

    Args:
        batch: columns `READS`.
        student: whose tokenizer and context they are for.
        on: the text of a record that has no response, or of every record with `counts: text`.
        counts: whose loss counts.
    """
    texts = [[(text, True)] if text else [] for text in render(batch, on).to_pylist()]
    if counts != "text":
        answers = [_answer(found, student) for found in exchanges(batch)]
        texts = [answer or (text if counts == "auto" else []) for answer, text in zip(answers, texts, strict=True)]
    return tokenize(student.tokenizer, texts, context=student.context, tokens=TOKENS_PER_BATCH)


def read_pool(pool: Pool, student: Student, on: On, counts: Counts, most: int | None = None) -> Batches:
    """The tokens of a pool's records, or of its `most` of the lowest content hashes. They are held in memory."""
    columns = list(READS)
    if most is not None and len(pool) > most:
        table = pool.fetch(_lowest(pool, most), columns).combine_chunks()
        return read_batch(table.to_batches()[0], student, on, counts)
    return joined([read_batch(batch, student, on, counts) for batch in pool.batches(columns)])


def joined(parts: list[Batches]) -> Batches:
    """Several sets as one."""
    return Batches(
        tuple(ids for part in parts for ids in part.ids),
        tuple(counted for part in parts for counted in part.counted),
        np.concatenate([np.zeros(0, np.int64), *(part.lost for part in parts)]),
        TOKENS_PER_BATCH,
    )


def _answer(found: Exchange | str, student: Student) -> Pieces:
    """What leads to a response, and the response, which counts; nothing where there is none to be had."""
    if isinstance(found, str):
        return []
    try:
        return [(asked(student, found), False), (found.response, True)]
    except BadRow:  # the model's chat template refuses the turns; the record counts as a text then
        return []


def _lowest(pool: Pool, most: int) -> IntArray:
    hashes = np.array([name for part in _hashes(pool) for name in part], "S32")
    return np.sort(np.argsort(hashes, kind="stable")[:most]).astype(np.int64)


def _hashes(pool: Pool) -> Iterator[list[str]]:
    for batch in pool.batches(["content_hash"]):
        yield batch["content_hash"].to_pylist()
