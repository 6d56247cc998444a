"""The `quad` stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from stages.contract import DECIDES, Decisions, Examiner, FitsOn, Pool, RecipePath, Scores, Stage, State
from stages.dsir.ngrams import ngram_column
from stages.quad.decision import Plan, decide
from stages.quad.policies import Policy
from stages.quad.setup import READS, Counts, Kind, Setup, Which
from stages.semantic.builtin import BUCKETS
from stages.semantic.models import encoder, library
from stages.student.builtin import Size
from stages.student.models import check_model, folders, require
from stages.text import On, render
from stages.zipfit.ranking import Keep
from stages.zipfit.targets import TargetSets, target_sources


class Quad(Stage):
    """Keep the rows that lower a language model's loss on a target, scoring few of them (Quad, arXiv 2409.16986).

    The influence of a row z on a target V is g_V^T H^-1 g_z, with H the curvature by Kronecker factors. The pool is
    clustered, and a bandit over the clusters decides which rows are worth scoring: a cluster whose drawn rows help
    gives a batch of its rows. `policy: full` scores every row and keeps the best; `policy: positive_random` keeps
    random rows of positive influence. Without `model`, a small model is trained on the pool first.

    Only rows asked for are scored, and their influence is stored by content: another quota, number of clusters or
    policy scores what was never scored before. With a `model`, what is stored does not depend on the pool at all.
    """

    name: ClassVar[str] = "quad"
    version: ClassVar[int] = 3
    reads: ClassVar[tuple[str, ...]] = READS
    examines: ClassVar[tuple[str, ...]] = READS
    libraries: ClassVar[tuple[str, ...]] = ("regex", "numpy", "torch", "transformers", "tokenizers", "peft")
    internal: ClassVar[tuple[str, ...]] = ("vector", "terms")

    target: TargetSets = Field(description="Files of target rows: paths, or {path, weight} for sets of unequal share.")
    keep: Keep = Field(description="A fraction, a row count, or {tokens: N}.", json_schema_extra=DECIDES)
    model: RecipePath | None = Field(
        None, description="Folder of a causal language model, or of a LoRA adapter; default: a small one is trained."
    )
    student: Size = Field(default_factory=Size, description="Size and schooling of the built-in model.")
    layers: Which = Field("all", description="Weight matrices that count: all, attention (as published) or mlp.")
    factors: Kind = Field("ekfac", description="Curvature: ekfac, kfac, or identity for none (TracIn).")
    damping: float = Field(0.1, gt=0, description="Of the curvature, in mean eigenvalues.")
    on: On = Field("text", description="What is clustered, and scored where a row has no response.")
    counts: Counts = Field("auto", description="Whose loss counts: response, text, or auto for either as it comes.")
    policy: Policy = Field("quad", description="quad, full or positive_random.", json_schema_extra=DECIDES)
    clusters: int | None = Field(
        None, ge=1, le=100_000, description="Default: one per 100 rows, at most 2,000.", json_schema_extra=DECIDES
    )
    alpha: float = Field(
        0.05, ge=0, description="Weight of exploration, in standard deviations.", json_schema_extra=DECIDES
    )
    threshold: float = Field(
        0.0, description="What a mean influence must exceed, in standard deviations.", json_schema_extra=DECIDES
    )
    relative: bool = Field(
        True, description="Whether that counts from the mean of all scored rows, or from zero (as published).",
        json_schema_extra=DECIDES,
    )  # fmt: skip
    sweep: bool = Field(
        True, description="Draw from every cluster once before any gives rows (published: no).",
        json_schema_extra=DECIDES,
    )  # fmt: skip
    arms: int | None = Field(
        None, ge=1, description="Clusters per round; default: a tenth of them, at most 50.", json_schema_extra=DECIDES
    )
    draws: int = Field(10, ge=1, description="Rows scored per cluster and round.", json_schema_extra=DECIDES)
    batch: int | None = Field(
        None, ge=1, description="Rows a good cluster gives at a time; default: a third of an average one.",
        json_schema_extra=DECIDES,
    )  # fmt: skip
    neighbour_distance: float = Field(
        0.2, gt=0, le=2, description="Clusters within this cosine distance share rewards.", json_schema_extra=DECIDES
    )
    max_share: float | None = Field(
        3.0, ge=1, description="No cluster gives more than this times its share of the quota; null: no limit.",
        json_schema_extra=DECIDES,
    )  # fmt: skip
    max_scored: float = Field(
        1.0, gt=0, le=1, description="Largest share of the pool to score (not in policy full).",
        json_schema_extra=DECIDES,
    )  # fmt: skip
    embedding: RecipePath | None = Field(
        None, description="Folder of a model2vec or sentence-transformers model; default: the built-in embedding."
    )
    dimensions: int = Field(64, ge=2, le=1024, description="Of the built-in embedding.", json_schema_extra=DECIDES)
    seed: int = Field(0, ge=0, le=2**63 - 1, description="Of the curvature's sampled labels, clusters and draws.")

    def check(self) -> None:
        """Raise RecipeError where a model or a library is missing."""
        require()
        if self.model is not None:
            check_model(self.model)
        if self.embedding is not None:
            library(self.embedding)

    def inputs(self) -> Sequence[str]:
        """The models' folders."""
        model = () if self.model is None else folders(self.model)
        return (*model, *(() if self.embedding is None else (self.embedding,)))

    def sources(self) -> Mapping[str, Sequence[str]]:
        """The target files."""
        return target_sources(self.target)

    def scoring(self) -> dict[str, Any]:
        """All but what only `decide` reads, the targets' weights among that."""
        return {**super().scoring(), "target": ["<input>"] * len(self.target)}

    def task_rows(self) -> int:
        """Hashing words is quick, and influence is asked for in smaller slices anyway."""
        return 4_096

    def fits_on(self) -> FitsOn:
        """The targets alone where a model is given: new rows in the pool then change no score."""
        return "pool" if self.model is None else "inputs"

    def fit(self, pool: Pool, inputs: Mapping[str, Pool]) -> State:
        """The built-in model, if none is given, and the targets' directions."""
        from stages.quad import engine

        names = {role: paths[0] for role, paths in self.sources().items()}
        return engine.fit(self._setup(), pool, inputs, names)

    def score(self, batch: pa.RecordBatch, state: State) -> pa.RecordBatch:
        """`n_tokens` (words), and `terms` (hashed words) or, with an `embedding`, `vector`; null without a text."""
        texts = render(batch, self.on)
        strings = pc.fill_null(texts, "").to_pylist()
        terms, sizes = ngram_column(strings, BUCKETS)
        missing = np.asarray(texts.is_null()) | (sizes.to_numpy() == 0)
        words = pc.if_else(pa.array(missing), pa.scalar(None, pa.int32()), sizes)
        if self.embedding is None:
            return pa.RecordBatch.from_pydict({"terms": terms, "n_tokens": words})
        vectors = encoder(self.embedding)(strings)
        flat = pa.array(vectors.astype(np.float16).ravel())
        column = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1], mask=pa.array(missing))
        return pa.RecordBatch.from_pydict({"vector": column, "n_tokens": words})

    def examiner(self, state: State) -> Examiner:
        """`influences` (one per target), `loss` (nats per counted token), `problem` and `lost` (tokens beyond the
        model's context) of a row.
        """
        from stages.quad.engine import Examiner as Engine

        return Engine(self._setup(), state)

    def decide(self, scores: Scores) -> Decisions:
        """Ask for influence where the policy wants it; the score is the influence, null where it was never asked."""
        total = sum(item.weight for item in self.target)
        weights = np.array([item.weight / total for item in self.target])
        return decide(
            scores,
            Plan(
                self.policy, self.keep, weights, self.clusters, self.neighbour_distance, self.max_share,
                self.max_scored, self.dimensions, self.seed, self.embedding is not None, self.alpha, self.threshold,
                self.relative, self.sweep, self.arms, self.draws, self.batch,
                tuple(item.path for item in self.target),
            ),
        )  # fmt: skip

    def estimate(self, sample: pa.Table, rows: int) -> Mapping[str, str]:
        """Tokens and time of scoring, here and on a GPU."""
        from stages.quad.costs import estimate

        return estimate(
            self._setup(), sample, rows, 1.0 if self.policy == "full" else self.max_scored, len(self.target)
        )

    def _setup(self) -> Setup:
        return Setup(self.model, self.student, self.layers, self.factors, self.damping, self.on, self.counts, self.seed)
