"""IFD and its reverse, as functions of a student and texts; and the score columns of records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.errors import BadRow
from stages.student.loss import TOKENS_PER_BATCH, Losses, Pair, losses
from stages.student.models import Student
from stages.student.turns import Exchange, asked, asked_backwards, exchanges

Floats = npt.NDArray[np.float64]
Ratio = Literal["loss", "perplexity"]
REFUSED: Final = "refused by the chat template"

COLUMNS: Final = pa.schema(
    [
        ("ifd", pa.float64()),  # mean loss of the response after the prompt / alone (Cherry LLM)
        ("ifd_perplexity", pa.float64()),  # the same of perplexities (Selective Reflection-Tuning)
        ("loss_conditional", pa.float64()),  # nats per token of the response, after the prompt
        ("loss_alone", pa.float64()),  # nats per token of the response, after nothing
        ("n_target_tokens", pa.int32()),  # tokens of the response that were scored
        ("n_context_tokens", pa.int32()),  # tokens of the prompt that were looked at
        ("truncated", pa.bool_()),  # the prompt lost tokens from the left
        ("cut", pa.bool_()),  # the response lost tokens at its end
        ("problem", pa.string()),  # why there is no score
    ]
)
"""The columns of `score_exchanges`."""


class Difficulty(NamedTuple):
    """Losses of targets after their contexts, and of the same tokens after nothing."""

    conditional: Losses
    alone: Losses

    def ratio(self, of: Ratio = "loss") -> Floats:
        """One number per pair: the quotient of mean losses, or of perplexities. Not finite where it has no value."""
        return quotient(self.conditional.mean, self.alone.mean, of)


def quotient(conditional: Floats, alone: Floats, of: Ratio) -> Floats:
    """The quotient of two mean losses (nats), or of the perplexities they stand for."""
    with np.errstate(all="ignore"):
        return np.asarray(np.exp(conditional - alone) if of == "perplexity" else conditional / alone)


def difficulty(student: Student, pairs: Sequence[Pair], tokens_per_batch: int = TOKENS_PER_BATCH) -> Difficulty:
    """How hard each target is with and without its context; both are taken over the same tokens."""
    alone = [Pair("", pair.target) for pair in pairs]
    return Difficulty(losses(student, pairs, tokens_per_batch), losses(student, alone, tokens_per_batch))


def ifd(student: Student, said: Sequence[Exchange], tokens_per_batch: int = TOKENS_PER_BATCH) -> Difficulty:
    """Difficulty of each response given the turns before it. Above 1 the prompt makes it harder to foresee.

    Raises BadRow where the student's chat template refuses the turns of one.
    """
    return difficulty(student, [Pair(asked(student, each), each.response) for each in said], tokens_per_batch)


def reverse_ifd(student: Student, said: Sequence[Exchange], tokens_per_batch: int = TOKENS_PER_BATCH) -> Difficulty:
    """Difficulty of each instruction given its response and the request to guess it: r-IFD is `ratio("perplexity")`.

    The lower it is, the better the response tells what it answers (Selective Reflection-Tuning).
    """
    pairs = [Pair(asked_backwards(student, each.response), each.instruction) for each in said]
    return difficulty(student, pairs, tokens_per_batch)


def score_exchanges(
    batch: pa.RecordBatch, student: Student, tokens_per_batch: int = TOKENS_PER_BATCH
) -> pa.RecordBatch:
    """`COLUMNS` of each record (columns `TURN_COLUMNS`); null where there is no exchange, and `problem` says why."""
    asked_for = [_pair(student, found) for found in exchanges(batch)]
    rows = [row for row, found in enumerate(asked_for) if isinstance(found, Pair)]
    pairs = [found for found in asked_for if isinstance(found, Pair)]
    place = np.full(len(asked_for), -1)
    place[rows] = np.arange(len(rows))
    where = pa.array(place, mask=place < 0)
    columns = {
        name: column.take(where) for name, column in _columns(difficulty(student, pairs, tokens_per_batch)).items()
    }
    problems = [found if isinstance(found, str) else None for found in asked_for]
    return pa.RecordBatch.from_pydict({**columns, "problem": problems}, schema=COLUMNS)


def _columns(found: Difficulty) -> dict[str, pa.Array]:
    def numbers(values: Floats) -> pa.Array:
        return pa.array(values, mask=~np.isfinite(values))

    return {
        "ifd": numbers(found.ratio("loss")),
        "ifd_perplexity": numbers(found.ratio("perplexity")),
        "loss_conditional": numbers(found.conditional.mean),
        "loss_alone": numbers(found.alone.mean),
        "n_target_tokens": pa.array(found.conditional.tokens, pa.int32()),
        "n_context_tokens": pa.array(found.conditional.context_tokens, pa.int32()),
        "truncated": pa.array(found.conditional.truncated),
        "cut": pa.array(found.conditional.cut),
    }


def _pair(student: Student, found: Exchange | str) -> Pair | str:
    if isinstance(found, str):
        return found
    try:
        return Pair(asked(student, found), found.response)
    except BadRow:
        return REFUSED
