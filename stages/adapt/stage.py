"""The `adapt` stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from stages.adapt.decision import Plan, decide
from stages.adapt.memory import decision_files, pruned
from stages.adapt.selection import Share
from stages.contract import DECIDES, Decisions, FitsOn, Pool, RecipePath, RunsIn, Scores, Stage, State
from stages.dsir.ngrams import word_counts
from stages.quad import cuts
from stages.quad.setup import READS, Counts, Kind, Setup, Which
from stages.student.builtin import Size
from stages.student.models import check_model, folders, require
from stages.text import On, render
from stages.zipfit.ranking import Keep
from stages.zipfit.targets import TargetSets, target_sources

Selector = Literal["loss", "gradient_norm", "el2n", "influence", "ifd"]


class Adapt(Stage):
    """Rows for the next round of tuning, from a pool that does not grow (Adapt-inf, Maharana et al. 2024).

    Projected gradients are clustered into pseudo-skills. In each the selector whose scores have the highest entropy
    says which rows matter, and the skills' best rows are taken in turn. Where the pool is larger than `pool_rows`, the
    rows that most repeat a better one of their skill are pruned for good.

    Nothing is kept beside the runs: what a run pruned stands in its decisions, and `memory` names the runs whose pruned
    rows never come back, recognised by content. With a `model` of one's own, new rows cost only themselves.
    """

    name: ClassVar[str] = "adapt"
    version: ClassVar[int] = 2
    reads: ClassVar[tuple[str, ...]] = READS
    runs_in: ClassVar[RunsIn] = "stream"
    libraries: ClassVar[tuple[str, ...]] = ("regex", "numpy", "torch", "transformers", "tokenizers", "peft")
    internal: ClassVar[tuple[str, ...]] = ("vector", cuts.TARGETS)

    keep: Keep = Field(description="A fraction, a row count, or {tokens: N}.", json_schema_extra=DECIDES)
    target: TargetSets | None = Field(None, description="Target rows, for the selector `influence`.")
    model: RecipePath | None = Field(
        None, description="Folder of a causal language model, or of a LoRA adapter; default: a small one is trained."
    )
    student: Size = Field(default_factory=Size, description="Size and schooling of the built-in model.")
    layers: Which = Field("all", description="Weight matrices that count: all, attention or mlp.")
    factors: Kind = Field("ekfac", description="Curvature for `influence`: ekfac, kfac or identity.")
    damping: float = Field(0.1, gt=0, description="Of the curvature, in mean eigenvalues.")
    on: On = Field("text", description="What is scored where a row has no response.")
    counts: Counts = Field("auto", description="Whose loss counts: response, text, or auto for either as it comes.")
    dimensions: int = Field(256, ge=4, le=8192, description="Of the projected gradients.")
    selectors: Annotated[tuple[Selector, ...], Field(min_length=1)] = Field(
        ("loss", "gradient_norm", "el2n", "ifd"), description="What to choose from in each skill."
    )
    skills: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="Clusters; default: one per 100 rows, at most 2,000.",
        json_schema_extra=DECIDES,
    )
    share: Share = Field(
        "equal", description="Rows per skill: equal, or proportional to its size.", json_schema_extra=DECIDES
    )
    pool_rows: int | None = Field(
        None, ge=1, description="Rows that may stay for later runs; default: nothing is pruned.",
        json_schema_extra=DECIDES,
    )  # fmt: skip
    memory: tuple[RecipePath, ...] = Field(
        (), description="Outputs of earlier runs, whose pruned rows stay out.", json_schema_extra=DECIDES
    )
    seed: int = Field(0, ge=0, le=2**63 - 1, description="Of the projection, the curvature and the clusters.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if "influence" in self.selectors and self.target is None:
            raise ValueError("the selector `influence` needs a target")
        if len(set(self.selectors)) != len(self.selectors):
            raise ValueError("a selector is named twice")
        return self

    def check(self) -> None:
        """Raise RecipeError where a model, a library or a remembered run is missing."""
        require()
        if self.model is not None:
            check_model(self.model)
        for run in self.memory:
            decision_files(run)

    def inputs(self) -> Sequence[str]:
        """The model's folders."""
        return () if self.model is None else folders(self.model)

    def recalls(self) -> Sequence[str]:
        """Files that only `decide` reads: the remembered runs' decisions."""
        return [str(file) for run in self.memory for file in decision_files(run)]

    def sources(self) -> Mapping[str, Sequence[str]]:
        """The target files."""
        return {} if self.target is None else target_sources(self.target)

    def task_rows(self) -> int:
        """What a crash can lose."""
        return 256

    def fits_on(self) -> FitsOn:
        """The pool, for the built-in model; otherwise the targets, where there are any."""
        if self.model is None:
            return "pool"
        return "nothing" if self.target is None else "inputs"

    def fit(self, pool: Pool, inputs: Mapping[str, Pool]) -> State:
        """The built-in model, if none is given, and the targets' directions."""
        from stages.adapt import engine

        return engine.fit(self._setup(), pool, inputs, {role: paths[0] for role, paths in self.sources().items()})

    def stream(self, batches: Iterator[pa.RecordBatch], state: State, folder: Path) -> Iterator[pa.RecordBatch]:
        """`vector` (half precision, unit length), `loss` (nats per token), `gradient_norm`, `el2n`, `influence`, `ifd`,
        `n_tokens` (words), `problem`, null where a row has none; and `lost` (tokens beyond the model's context).
        """
        from stages.adapt.engine import Scorer

        scorer = Scorer(self._setup(), state, self.dimensions, self._weights(), "ifd" in self.selectors)
        for batch in batches:
            sizes = word_counts(pc.fill_null(render(batch, self.on), "").to_pylist())
            yield pa.RecordBatch.from_pydict({**scorer(batch), "n_tokens": sizes})

    def decide(self, scores: Scores) -> Decisions:
        """The skills' best rows; the score is that of the skill's own selector."""
        names = tuple(item.path for item in self.target or ())
        plan = Plan(self.keep, self.selectors, self.skills, self.share, self.pool_rows, self.seed, names)
        return decide(scores, plan, pruned(self.memory, self.name))

    def estimate(self, sample: pa.Table, rows: int) -> Mapping[str, str]:
        """Tokens and time of scoring every row, here and on a GPU."""
        from stages.quad.costs import estimate

        return estimate(self._setup(), sample, rows, 1.0, len(self.target or ()))

    def _weights(self) -> np.typing.NDArray[np.float64]:
        weights = np.array([item.weight for item in self.target or ()], np.float64)
        return weights / weights.sum() if len(weights) else weights

    def _setup(self) -> Setup:
        return Setup(self.model, self.student, self.layers, self.factors, self.damping, self.on, self.counts, self.seed)
