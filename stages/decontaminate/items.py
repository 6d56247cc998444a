"""What an evaluation item gives away: its question and its answer, as texts to look for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stages.contract import Pool
from stages.decontaminate.tokens import Ints
from stages.dedup.texts import composed
from stages.text import columns_for, first_solution, render

Field = Literal["question", "answer"]
FIELDS: Final[tuple[Field, ...]] = get_args(Field)
QUESTION, ANSWER = 0, 1
_READS: Final = tuple(
    dict.fromkeys(["origin", "kind", "text", "solutions", *columns_for("prompt"), *columns_for("response")])
)


class Texts(NamedTuple):
    """Texts of one sort: of which item (position in the evaluation set), of which field, from which file."""

    strings: pa.StringArray
    items: Ints
    fields: Ints
    files: Ints


class Items(NamedTuple):
    """Texts in words, and solutions in code, of an evaluation set."""

    words: Texts
    code: Texts


def read_items(pool: Pool) -> Items:
    """Question and answer of every item: its prompt (else the user's messages, else its text), and its response; for
    code problems the first solution instead, as code."""
    files: dict[str, int] = {}
    words, code = list[Texts](), list[Texts]()
    start = 0
    for batch in pool.batches(_READS):
        sources = _files(batch["origin"], files)
        questions, answers, solutions = _texts(batch)
        words += [_part(questions, QUESTION, start, sources), _part(answers, ANSWER, start, sources)]
        code.append(_part(solutions, ANSWER, start, sources))
        start += batch.num_rows
    return Items(_joined(words), _joined(code))


def file_of(origin: str) -> str:
    """The file in a record's origin (`file#row`)."""
    return origin.rpartition("#")[0] or origin


def _texts(batch: pa.RecordBatch) -> Iterator[pa.StringArray]:
    missing = pa.scalar(None, pa.string())
    code = pc.equal(batch["kind"], "code")
    yield pc.coalesce(render(batch, "prompt"), batch["text"])
    yield pc.if_else(code, missing, render(batch, "response"))
    yield pc.if_else(code, first_solution(batch["solutions"]), missing)


def _files(origins: pa.StringArray, known: dict[str, int]) -> Ints:
    names = (file_of(origin) for origin in origins.to_pylist())
    return np.array([known.setdefault(name, len(known)) for name in names], dtype=np.int64)


def _part(strings: pa.StringArray, field: int, start: int, files: Ints) -> Texts:
    rows = np.flatnonzero(np.asarray(pc.is_valid(strings)))
    return Texts(strings.drop_null(), rows + start, np.full(len(rows), field), files[rows])


def _joined(parts: list[Texts]) -> Texts:
    strings, *columns = zip(*parts, strict=True)
    items, fields, files = (np.concatenate(column) for column in columns)
    return Texts(composed(pa.concat_arrays(strings)), items, fields, files)
