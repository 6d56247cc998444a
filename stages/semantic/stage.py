"""The `semdedup` and `d4` stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from stages.contract import DECIDES, Decisions, FitsOn, Pool, RecipePath, Scores, Stage, State
from stages.dsir.ngrams import word_counts
from stages.semantic.builtin import embed, fit
from stages.semantic.decision import find_copies, without_copies, without_prototypes
from stages.semantic.models import encoder, library
from stages.text import TEXT_COLUMNS, On, render
from stages.zipfit.ranking import Keep, quota


class SemDedup(Stage):
    """Drop rows that mean the same as a kept one (SemDeDup, Abbas et al. 2023).

    Rows become vectors and are clustered by k-means; within a cluster, from the row farthest from the centroid on, a
    row goes if its cosine similarity with a kept one exceeds `1 - epsilon`. Without `model`, vectors are tf-idf of
    hashed words and word pairs reduced by a truncated SVD fitted on the pool: it sees shared vocabulary, not synonyms,
    and new rows mean a new fit. With a model, vectors depend on the row alone and are kept.
    """

    name: ClassVar[str] = "semdedup"
    reads: ClassVar[tuple[str, ...]] = TEXT_COLUMNS
    libraries: ClassVar[tuple[str, ...]] = (
        "regex", "scikit-learn", "scipy", "numpy", "model2vec", "sentence-transformers",
    )  # fmt: skip
    internal: ClassVar[tuple[str, ...]] = ("vector",)

    on: On = Field("text", description="What is compared: text, prompt, response, messages or code.")
    epsilon: float = Field(
        0.02, ge=0, lt=1, description="A row goes above a cosine of 1 - epsilon.", json_schema_extra=DECIDES
    )
    clusters: int | None = Field(
        None, ge=1, le=100_000, description="Clusters; default: one per 1,000 rows.", json_schema_extra=DECIDES
    )
    model: RecipePath | None = Field(
        None, description="Folder of a model2vec or sentence-transformers model; default: the built-in embedding."
    )
    dimensions: int = Field(128, ge=2, le=1024, description="Of the built-in embedding.")
    seed: int = Field(0, ge=0, le=2**64 - 1, description="Of the SVD and of k-means.")

    def check(self) -> None:
        """Raise RecipeError where the model's library is missing."""
        if self.model is not None:
            library(self.model)

    def inputs(self) -> Sequence[str]:
        """The model's folder."""
        return () if self.model is None else (self.model,)

    def fits_on(self) -> FitsOn:
        """The pool."""
        return "pool"

    def fit(self, pool: Pool, inputs: Mapping[str, Pool]) -> State:
        """The built-in embedding's frequencies and directions; nothing for a model."""
        return fit(pool, self.on, self.dimensions, self.seed) if self.model is None else {}

    def score(self, batch: pa.RecordBatch, state: State) -> pa.RecordBatch:
        """`vector` (unit length, half precision) and `n_tokens`; null where there is no text, or no word in it."""
        texts = render(batch, self.on)
        strings = pc.fill_null(texts, "").to_pylist()
        vectors = embed(strings, state) if self.model is None else encoder(self.model)(strings)
        missing = ~vectors.any(axis=1) | np.asarray(texts.is_null())
        flat = pa.array(vectors.astype(np.float16).ravel())
        column = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1], mask=pa.array(missing))
        sizes = pc.if_else(pa.array(missing), pa.scalar(None, pa.int32()), word_counts(strings))
        return pa.RecordBatch.from_pydict({"vector": column, "n_tokens": sizes})

    def decide(self, scores: Scores) -> Decisions:
        """Drop copies; the score is the cosine similarity with the nearest kept row of the same cluster."""
        copies = find_copies(scores, self.epsilon, self.clusters, self.seed)
        return without_copies(copies, len(scores), self.epsilon)


class D4(SemDedup):
    """SemDeDup, then cluster anew and drop the most prototypical rows (D4, Tirumala et al. 2023).

    `keep` counts all rows the stage gets; those farthest from their centroid stay. It knows no target.
    """

    name: ClassVar[str] = "d4"

    keep: Keep = Field(description="A fraction, a row count, or {tokens: N}.", json_schema_extra=DECIDES)

    def decide(self, scores: Scores) -> Decisions:
        """Drop copies and prototypes; the score is the cosine similarity with the centroid of the second clustering."""
        copies = find_copies(scores, self.epsilon, self.clusters, self.seed)
        limit = quota(self.keep, len(scores))
        return without_prototypes(copies, len(scores), limit, self.clusters, self.seed)
