"""The `ifd` stage: keep the rows whose prompt helps a model least to foresee the response."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from stages.contract import DECIDES, Decisions, FitsOn, Pool, RecipePath, RunsIn, Scores, Stage, State
from stages.ifd.decision import Settings, decide
from stages.ifd.estimate import estimate
from stages.ifd.measure import Ratio, score_exchanges
from stages.student.builtin import Size, fit, from_state
from stages.student.models import Student, check_model, folders, load, require
from stages.student.turns import TURN_COLUMNS
from stages.zipfit.ranking import Keep


class Ifd(Stage):
    """Keep the rows of the highest instruction-following difficulty (Cherry LLM, Li et al. 2023; Superfiltering 2024).

    IFD is the loss of a response after its prompt over the loss of the response alone: near 0 the prompt gives the
    response away, near 1 it is no help, above 1 it misleads. Without `model`, a small model is trained on a sample of
    the pool: it knows nothing but the pool, and new rows mean a new one. With a model, scores depend on the row alone.
    """

    name: ClassVar[str] = "ifd"
    reads: ClassVar[tuple[str, ...]] = TURN_COLUMNS
    runs_in: ClassVar[RunsIn] = "stream"
    libraries: ClassVar[tuple[str, ...]] = ("torch", "transformers", "tokenizers", "peft")

    keep: Keep = Field(description="A fraction, a row count, or {tokens: N}.", json_schema_extra=DECIDES)
    model: RecipePath | None = Field(
        None, description="Folder of a causal language model or LoRA adapter; default: one trained on the pool."
    )
    ratio: Ratio = Field(
        "loss", description="Of mean losses (Cherry LLM) or of perplexities.", json_schema_extra=DECIDES
    )
    max_ifd: float | None = Field(
        1.0, gt=0, description="Rows above are dropped; null: none.", json_schema_extra=DECIDES
    )
    min_tokens: int = Field(1, ge=1, description="Fewest tokens of a response.", json_schema_extra=DECIDES)
    student: Size = Field(Size(), description="Size and schooling of the model trained on the pool.")
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="What the model computes in.")
    device: str = Field(
        "auto", description="As torch names it; auto: a GPU if there is one.", json_schema_extra=DECIDES
    )
    # It changes no score, so it counts as `DECIDES`, as `device` does.
    tokens_per_batch: int = Field(
        2048, ge=1, description="Tokens at once, padding included.", json_schema_extra=DECIDES
    )

    def check(self) -> None:
        """Raise RecipeError where the model or a library is missing."""
        require() if self.model is None else check_model(self.model)

    def inputs(self) -> Sequence[str]:
        """The model's folder, and its base model's for an adapter."""
        return () if self.model is None else folders(self.model)

    def task_rows(self) -> int:
        """Few: a kill loses at most so many rows."""
        return 512

    def fits_on(self) -> FitsOn:
        """The pool, unless a model is given."""
        return "pool" if self.model is None else "nothing"

    def fit(self, pool: Pool, inputs: Mapping[str, Pool]) -> State:
        """The built-in student; nothing for a model."""
        return fit(pool, self.student) if self.model is None else {}

    def score(self, batch: pa.RecordBatch, state: State) -> pa.RecordBatch:
        """`ifd`, `ifd_perplexity`, both losses, token counts and what was cut; null with a `problem` where none is."""
        return score_exchanges(batch, self._student(state), self.tokens_per_batch)

    def stream(self, batches: Iterator[pa.RecordBatch], state: State, folder: Path) -> Iterator[pa.RecordBatch]:
        """`score` of each batch, by a model that is loaded once."""
        student = self._student(state)
        for batch in batches:
            yield score_exchanges(batch, student, self.tokens_per_batch)

    def decide(self, scores: Scores) -> Decisions:
        """The hardest rows within the quota, of those that the prompt does not mislead."""
        return decide(scores, Settings(self.keep, self.ratio, self.max_ifd, self.min_tokens))

    def estimate(self, sample: pa.Table, rows: int) -> Mapping[str, str]:
        """Tokens, and the time they take here."""
        return estimate(sample, rows, self.model, self.student, self.device, self.dtype)

    def _student(self, state: State) -> Student:
        if self.model is None:
            return from_state(state, self.device)
        return load(self.model, self.device, self.dtype)
