"""The `zipfit` stage: keep the rows that compress best together with a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from schemas.errors import RecipeError
from stages.contract import DECIDES, Decisions, Examiner, FitsOn, Pool, RunsIn, Scores, Stage, State
from stages.dsir.ngrams import ngram_column, word_counts
from stages.text import TEXT_COLUMNS, On, render
from stages.zipfit.alignment import Aggregation, Rule, fit_texts
from stages.zipfit.decision import Settings, decide
from stages.zipfit.features import feature_columns
from stages.zipfit.kernel import LEVELS, cores, gzip_lengths, zlib_is_classic
from stages.zipfit.native import native
from stages.zipfit.packed import Packed, pack_arrow
from stages.zipfit.ranking import Keep
from stages.zipfit.targets import Targets, TargetSets, from_state, read_targets, target_sources, to_state

Mode = Literal["debiased", "zipfit"]
CASCADE_FROM = 20_000
"""Rows from which on `cascade: auto` uses the cascade."""


class ZipFit(Stage):
    """Keep the rows that share the most with target rows, as gzip sees it.

    `mode: zipfit` ranks by the published alignment, the mean over targets t of (C(x) + C(t) - C(x+t)) / max(C(x), C(t))
    with C the gzip length, candidate first. That ranks mostly by length; `mode: debiased` ranks by the bytes saved
    compared with texts of the same compressed length, plus the row's DSIR weight per n-gram.
    """

    name: ClassVar[str] = "zipfit"
    version: ClassVar[int] = 3
    reads: ClassVar[tuple[str, ...]] = TEXT_COLUMNS
    examines: ClassVar[tuple[str, ...]] = TEXT_COLUMNS
    runs_in: ClassVar[RunsIn] = "thread"
    libraries: ClassVar[tuple[str, ...]] = ("regex",)
    internal: ClassVar[tuple[str, ...]] = ("ngrams", "overlap", "n_bytes")

    target: TargetSets = Field(description="Files of target rows: paths, or {path, weight} for sets of unequal share.")
    keep: Keep = Field(description="A fraction, a row count, or {tokens: N}.", json_schema_extra=DECIDES)
    on: On = Field("text", description="What is compared: text, prompt, response, messages or code.")
    mode: Mode = Field("debiased", description="debiased, or zipfit for the published score.")
    level: int = Field(6, ge=0, le=9, description="Gzip level, 1 to 9.")
    aggregate: Aggregation = Field("mean", description="Over targets: mean, max, or top_m (mean of the m best).")
    top_m: int = Field(8, ge=1, description="How many targets `aggregate: top_m` takes.")
    laplace: float = Field(0.1, ge=0, description="Added to every DSIR count.", json_schema_extra=DECIDES)
    per_target: bool = Field(False, description="Keep each row's alignment with every target as a score column.")
    cascade: bool | Literal["auto"] = Field(
        "auto", description="Score only rows that can be among the best exactly; auto: from 20,000 rows on."
    )
    max_similarity: float | None = Field(
        None, gt=0, le=1, description="Drop rows whose 5-gram Jaccard similarity to a kept one is at least this.",
        json_schema_extra=DECIDES,
    )  # fmt: skip

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.level not in LEVELS:
            raise ValueError("level 0 stores without compressing, which ranks by length alone; use 1 to 9 (default 6)")
        if self.aggregate != "mean" and any(item.weight != 1 for item in self.target):
            raise ValueError(
                f"a target's weight is its share in a mean: `aggregate: {self.aggregate}` takes none, leave weights out"
            )
        if self.per_target and self.cascade is True:
            raise ValueError("per_target needs exact scores for every row: set cascade to false")
        return self

    def check(self) -> None:
        """Raise RecipeError where neither the compiled kernel nor a classic zlib is there."""
        if native() is None and not zlib_is_classic():
            raise RecipeError("zipfit: the kernel is not built and this Python's zlib gives other lengths than gzip's")

    def sources(self) -> Mapping[str, Sequence[str]]:
        """The target files."""
        return target_sources(self.target)

    def fits_on(self) -> FitsOn:
        """The pool."""
        return "pool"

    def fit(self, pool: Pool, inputs: Mapping[str, Pool]) -> State:
        """The target texts, and whether the pool is large enough for the cascade."""
        wanted = not self.per_target and len(pool) >= CASCADE_FROM if self.cascade == "auto" else self.cascade
        return {**to_state(read_targets(self.target, inputs, self.on)), "cascade": np.array(wanted)}

    def score(self, batch: pa.RecordBatch, state: State) -> pa.RecordBatch:
        """`alignment`, `gain` (bytes), `c_x`, `n_tokens`, `best_target`; null where there is no text.

        In a cascade the first two and the last are null: `decide` finds them for the rows that need them.
        """
        texts, targets = render(batch, self.on), from_state(state)
        columns = self._cheap(pack_arrow(texts), targets) if state["cascade"] else self._exact(texts, targets)
        strings = pc.fill_null(texts, "").to_pylist()
        if self.mode == "debiased":
            columns["ngrams"], columns["n_tokens"] = ngram_column(strings)
        else:
            columns["n_tokens"] = word_counts(strings)
        missing = np.asarray(texts.is_null())
        if missing.any():
            hidden = pa.array(missing)
            public = [name for name in columns if name not in self.internal]
            columns |= {name: pc.if_else(hidden, pa.scalar(None, columns[name].type), columns[name]) for name in public}
        return pa.RecordBatch.from_pydict(columns)

    def examiner(self, state: State) -> Examiner:
        """Exact `alignment` and `gain` of the rows that a cascade wants to know for sure."""
        targets = from_state(state)

        def examine(batch: pa.RecordBatch) -> pa.RecordBatch:
            texts = pack_arrow(render(batch, self.on))
            found = fit_texts(texts, targets.texts, self.level, self._rule(targets), threads=cores())
            return pa.RecordBatch.from_pydict({"alignment": found.alignment, "gain": found.gain})

        return examine

    def decide(self, scores: Scores) -> Decisions:
        """The best rows within the quota; equal scores by content hash."""
        settings = Settings(self.mode, self.on, self.level, self.laplace, self.keep, self.max_similarity)
        targets = read_targets(self.target, scores.inputs, self.on)
        return decide(scores, settings, targets, self._rule(targets))

    def _rule(self, targets: Targets) -> Rule:
        return Rule(self.aggregate, self.top_m, targets.weights)

    def _exact(self, texts: pa.StringArray, targets: Targets) -> dict[str, pa.Array]:
        found = fit_texts(pack_arrow(texts), targets.texts, self.level, self._rule(targets), self.per_target)
        columns: dict[str, Any] = {
            "alignment": pa.array(found.alignment),
            "gain": pa.array(found.gain),
            "c_x": pa.array(found.c_x),
            "best_target": pa.array(targets.ids, pa.string()).take(pa.array(found.best)),
        }
        if found.each is not None:
            columns["per_target"] = pa.array(list(found.each), pa.list_(pa.float32()))
        return columns

    def _cheap(self, texts: Packed, targets: Targets) -> dict[str, pa.Array]:
        sizes = gzip_lengths(texts, targets.texts.part(0, 0), self.level).texts
        return {
            "alignment": pa.nulls(len(texts), pa.float64()),
            "gain": pa.nulls(len(texts), pa.float64()),
            "c_x": pa.array(sizes),
            "best_target": pa.nulls(len(texts), pa.string()),
            **feature_columns(texts, targets.texts),
        }
