"""The `decontaminate` stage: drop records that repeat items of evaluation sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Self

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from stages.contract import DECIDES, Decisions, FitsOn, Pool, RecipePath, RunsIn, Scores, Stage, State
from stages.decontaminate.decision import Limits, decide
from stages.decontaminate.find import columns, find
from stages.decontaminate.fit import make_index
from stages.decontaminate.index import CODE, NEAR, SHINGLE, WORDS, Sizes, from_arrays, to_arrays
from stages.decontaminate.items import FIELDS, read_items
from stages.decontaminate.items import Field as ItemField
from stages.decontaminate.match import FLOOR
from stages.decontaminate.pieces import READS, pieces


class Decontaminate(Stage):
    """Drop records that repeat a question or an answer of the evaluation sets `against`.

    A record is contaminated if it shares at least `threshold` (`short_threshold` where the text is shorter than two
    runs) of the words of an item's question or answer in runs of `ngram` words (`short_ngram` for short texts), or of
    the code of its solution in runs of `code_ngram` tokens, whatever the variables are called; if one of its texts is a
    near copy of a question (Jaccard similarity `near`, for short ones `short_threshold`); or if a text, or a line of
    one, is a question too short for all this, word for word.
    """

    name: ClassVar[str] = "decontaminate"
    version: ClassVar[int] = 2
    reads: ClassVar[tuple[str, ...]] = READS
    runs_in: ClassVar[RunsIn] = "thread"
    libraries: ClassVar[tuple[str, ...]] = ("pyarrow", "regex")
    internal: ClassVar[tuple[str, ...]] = ("matches",)

    against: Annotated[tuple[RecipePath, ...], Field(min_length=1)] = Field(
        description="Files of evaluation items, in any format that a source may have."
    )
    threshold: float = Field(
        0.5, ge=FLOOR, le=1, description="Share of an item's text from which on a record is dropped.",
        json_schema_extra=DECIDES,
    )  # fmt: skip
    short_threshold: float = Field(
        0.9, ge=FLOOR, le=1, description="The same for texts shorter than two runs, which chance finds more easily.",
        json_schema_extra=DECIDES,
    )  # fmt: skip
    near: float | None = Field(
        0.6, ge=FLOOR, le=1, description="Jaccard similarity to a question from which on it is a copy; null: never.",
        json_schema_extra=DECIDES,
    )  # fmt: skip
    fields: tuple[ItemField, ...] = Field(
        FIELDS, min_length=1, description="What counts: questions, answers or both.", json_schema_extra=DECIDES
    )
    common: int | None = Field(
        100, ge=1, description="Stretches of an item found in more records than this, without most of the rest, are "
        "common phrases; null: none are.",
        json_schema_extra=DECIDES,
    )  # fmt: skip
    ngram: int = Field(13, ge=SHINGLE, le=100, description="Words in a run.")
    short_ngram: int = Field(8, ge=SHINGLE, le=100, description="Words in a run for texts shorter than two runs.")
    code_ngram: int = Field(24, ge=8, le=200, description="Code tokens in a run.")
    common_items: int = Field(10, ge=1, description="Runs in more items of one file than this are common phrases.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.short_ngram > self.ngram:
            raise ValueError(f"short_ngram = {self.short_ngram} is longer than ngram = {self.ngram}")
        return self

    def sources(self) -> Mapping[str, Sequence[str]]:
        """The evaluation sets."""
        return {"against": self.against}

    def fits_on(self) -> FitsOn:
        """The inputs."""
        return "inputs"

    def fit(self, pool: Pool, inputs: Mapping[str, Pool]) -> State:
        """The index of the items: it depends on them alone, so new records in the pool rescore nothing."""
        sizes = Sizes(self.ngram, self.short_ngram, self.code_ngram, self.common_items)
        return to_arrays(make_index(read_items(inputs["against"]), sizes))

    def score(self, batch: pa.RecordBatch, state: State) -> pa.RecordBatch:
        """`question`, `answer` (share found), `near` (Jaccard similarity), null without a match, and `matches`."""
        index, parts = from_arrays(state), pieces(batch)
        sizes = np.array([SHINGLE, self.short_ngram, self.ngram])
        return columns(find(parts, index, sizes, self.code_ngram), parts, index, batch.num_rows)

    def decide(self, scores: Scores) -> Decisions:
        """Drop what repeats an item; the score is the largest share, `related_id` names the item."""
        short = {WORDS: 2 * self.ngram, NEAR: 2 * self.ngram, CODE: 2 * self.code_ngram}
        return decide(scores, Limits(self.threshold, self.short_threshold, short, self.near, self.fields, self.common))
