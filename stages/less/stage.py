"""The `less` stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from stages.contract import DECIDES, Decisions, FitsOn, Pool, RecipePath, RunsIn, Scores, Stage, State
from stages.dsir.ngrams import word_counts
from stages.quad import cuts
from stages.quad.setup import READS, Counts, Setup, Which
from stages.student.builtin import Size
from stages.student.models import check_model, folders, require
from stages.text import On, render
from stages.zipfit.ranking import Keep, best_first, mask, quota, shortfall, tie_breaker, within
from stages.zipfit.targets import TargetSets, target_sources

if TYPE_CHECKING:
    from stages.less import engine


class Less(Stage):
    """Keep the rows whose Adam update points where a target's gradient does (LESS, Xia et al. 2024).

    A model is warmed up on a small part of the pool; a row's score is the highest cosine, over the target sets, between
    Adam's next update on it and the set's mean gradient, both randomly projected. Gradients are not stored, only the
    cosines: one checkpoint, the last, stands for the published four.
    """

    name: ClassVar[str] = "less"
    version: ClassVar[int] = 2
    reads: ClassVar[tuple[str, ...]] = READS
    runs_in: ClassVar[RunsIn] = "stream"
    internal: ClassVar[tuple[str, ...]] = (cuts.TARGETS,)
    libraries: ClassVar[tuple[str, ...]] = ("regex", "numpy", "torch", "transformers", "tokenizers", "peft")

    target: TargetSets = Field(description="Files of target rows, one per subtask; they take no weights.")
    keep: Keep = Field(0.05, description="A fraction, a row count, or {tokens: N}.", json_schema_extra=DECIDES)
    model: RecipePath | None = Field(
        None, description="Folder of a causal language model; default: a small one is trained on the pool."
    )
    student: Size = Field(default_factory=Size, description="Size and schooling of the built-in model.")
    layers: Which = Field("all", description="Weight matrices that count: all, attention or mlp.")
    on: On = Field("text", description="What is scored where a row has no response.")
    counts: Counts = Field("auto", description="Whose loss counts: response, text, or auto for either as it comes.")
    warm_up: float = Field(0.05, gt=0, le=1, description="Share of the pool that the model is warmed up on.")
    epochs: int = Field(4, ge=1, le=100, description="Passes over it.")
    rate: float = Field(2e-4, gt=0, description="Highest learning rate of the warm-up.")
    lora: int | None = Field(
        None, ge=0, le=1024, description="LoRA rank, 0 for all weights; default: 128 from 50 million parameters on."
    )
    dimensions: int = Field(8192, ge=4, le=65_536, description="Of the projected gradients.")
    seed: int = Field(0, ge=0, le=2**63 - 1, description="Of the adapter, the order of the warm-up and the projection.")

    @model_validator(mode="after")
    def _unweighted(self) -> Self:
        if any(item.weight != 1 for item in self.target):
            raise ValueError("a row's score is the highest over the targets, which takes no weights: leave them out")
        return self

    def check(self) -> None:
        """Raise RecipeError where a model or a library is missing."""
        require()
        if self.model is not None:
            check_model(self.model)

    def inputs(self) -> Sequence[str]:
        """The model's folders."""
        return () if self.model is None else folders(self.model)

    def sources(self) -> Mapping[str, Sequence[str]]:
        """The target files."""
        return target_sources(self.target)

    def task_rows(self) -> int:
        """What a crash can lose."""
        return 256

    def fits_on(self) -> FitsOn:
        """The pool, which the warm-up learns from."""
        return "pool"

    def fit(self, pool: Pool, inputs: Mapping[str, Pool]) -> State:
        """The warmed-up model, Adam's moments and the targets' gradients."""
        from stages.less import engine

        names = {role: paths[0] for role, paths in self.sources().items()}
        return engine.fit(self._setup(), self._lesson(), pool, inputs, names)

    def stream(self, batches: Iterator[pa.RecordBatch], state: State, folder: Path) -> Iterator[pa.RecordBatch]:
        """`less` (the highest of `cosines`), `cosines` (one per target), `loss`, `n_tokens` (words), `problem` and
        `lost` (tokens beyond the model's context).
        """
        from stages.less.engine import Scorer

        scorer = Scorer(self._setup(), self._lesson(), state)
        for batch in batches:
            sizes = word_counts(pc.fill_null(render(batch, self.on), "").to_pylist())
            found = scorer(batch)
            best = [None if each is None else max(each) for each in found["cosines"].to_pylist()]
            yield pa.RecordBatch.from_pydict({"less": pa.array(best, pa.float64()), **found, "n_tokens": sizes})

    def decide(self, scores: Scores) -> Decisions:
        """The best rows within the quota; equal scores by content hash."""
        table = scores.table(["less", "cosines", "problem", "n_tokens", "content_hash", cuts.LOST, cuts.TARGETS])
        score = pc.fill_null(table["less"], np.nan).to_numpy()
        ties = tie_breaker(table["content_hash"].combine_chunks().cast(pa.string()))
        limit = quota(self.keep, len(scores))
        tokens = table["n_tokens"].to_numpy().astype(np.int64)
        chosen = within(best_first(score, ties), tokens, limit)
        keep = mask(chosen, len(scores))
        paths = [item.path for item in self.target]
        details = [None if each is None else orjson.dumps({"cosines": each}).decode() for each in _lists(table)]
        return Decisions(
            keep, _reasons(keep, table["problem"].to_pylist()), score, detail=details,
            warnings=(*shortfall(len(chosen), limit), *cuts.notes(cuts.read(table), paths)),
        )  # fmt: skip

    def estimate(self, sample: pa.Table, rows: int) -> Mapping[str, str]:
        """Tokens and time of scoring every row, here and on a GPU; the warm-up takes `warm_up` x `epochs` as long."""
        from stages.quad.costs import estimate

        return estimate(self._setup(), sample, rows, 1.0, len(self.target))

    def _lesson(self) -> engine.Lesson:
        from stages.less import engine

        return engine.Lesson(self.warm_up, self.epochs, self.rate, self.lora, self.dimensions)

    def _setup(self) -> Setup:
        return Setup(self.model, self.student, self.layers, "identity", 0.1, self.on, self.counts, self.seed)


def _lists(table: pa.Table) -> list[list[float] | None]:
    found: list[list[float] | None] = table["cosines"].to_pylist()
    return found


def _reasons(keep: np.typing.NDArray[np.bool_], problems: list[str | None]) -> list[str]:
    def reason(kept: bool, problem: str | None) -> str:
        if problem:
            return f"no gradient; {problem}"
        return "kept: similarity to a target's gradient within the quota" if kept else "similarity below the cut"

    return [reason(kept, problem) for kept, problem in zip(keep.tolist(), problems, strict=True)]
