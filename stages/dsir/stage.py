"""The `dsir` stage: importance resampling towards a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from schemas.room import computed, filled, room
from stages.contract import DECIDES, Decisions, IntArray, RunsIn, Scores, Stage, State
from stages.dedup.lazy import LazyStrings
from stages.dsir.ngrams import BUCKETS, ngram_column
from stages.dsir.weights import Normalise, counts, log_ratio, log_weights, weighted_counts
from stages.text import TEXT_COLUMNS, On, render
from stages.zipfit.ranking import Keep, Ties, best_first, mask, quota, reasons, shortfall, tie_breaker, within
from stages.zipfit.targets import TargetSets, read_targets, target_sources

Floats = npt.NDArray[np.float64]


class Dsir(Stage):
    """Keep rows whose n-grams are likelier in the target than in the pool.

    The defaults are the published method's: the log importance weight is a sum over n-grams, and rows are drawn without
    replacement by it (Gumbel top-k). A sum favours short rows; `normalise: per_token` with `laplace: 0.1` does not, and
    separates sources better. Unlike `data-selection`, no row is dropped for having fewer than 100 words unless
    `min_words` says so.
    """

    name: ClassVar[str] = "dsir"
    version: ClassVar[int] = 2
    reads: ClassVar[tuple[str, ...]] = TEXT_COLUMNS
    runs_in: ClassVar[RunsIn] = "thread"
    libraries: ClassVar[tuple[str, ...]] = ("regex",)
    internal: ClassVar[tuple[str, ...]] = ("ngrams",)

    target: TargetSets = Field(
        description="Files of target rows: paths, or {path, weight} for sets of unequal share.",
        json_schema_extra=DECIDES,
    )
    keep: Keep = Field(description="A fraction, a row count, or {tokens: N}.", json_schema_extra=DECIDES)
    on: On = Field("text", description="What is compared: text, prompt, response, messages or code.")
    buckets: int = Field(BUCKETS, ge=1, le=65_536, description="Buckets that n-grams are hashed into.")
    normalise: Normalise = Field("sum", description="sum, or per_token: the mean.", json_schema_extra=DECIDES)
    laplace: float = Field(0.0, ge=0, description="Added to every count.", json_schema_extra=DECIDES)
    choose: Literal["gumbel", "top"] | None = Field(
        None, description="Draw, or take the highest; by default draw for a sum, take for per_token.",
        json_schema_extra=DECIDES,
    )  # fmt: skip
    min_words: int = Field(0, ge=0, description="Drop rows of fewer words.", json_schema_extra=DECIDES)
    seed: int = Field(0, ge=0, le=2**64 - 1, description="Of the draw.", json_schema_extra=DECIDES)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.choose == "gumbel" and self.normalise == "per_token":
            raise ValueError("a draw needs weights of whole rows: `choose: gumbel` goes with `normalise: sum`")
        return self

    def sources(self) -> Mapping[str, Sequence[str]]:
        """The target files."""
        return target_sources(self.target)

    def score(self, batch: pa.RecordBatch, state: State) -> pa.RecordBatch:
        """`ngrams` (buckets, for `decide`) and `n_tokens`; null tokens where there is no text."""
        texts = render(batch, self.on)
        grams, sizes = ngram_column(pc.fill_null(texts, "").to_pylist(), self.buckets)
        sizes = pc.if_else(texts.is_null(), pa.scalar(None, pa.int32()), sizes)
        return pa.RecordBatch.from_pydict({"ngrams": grams, "n_tokens": sizes})

    def decide(self, scores: Scores) -> Decisions:
        """Draw or take rows by log importance weight, which is also the score of every row."""
        weight = self.weights(scores)
        tokens, ties = _sizes(scores)
        n, short = len(weight), (tokens >= 0) & (tokens < self.min_words)
        ranked = computed(n, np.float64, lambda at: np.where(short[at], np.nan, weight[at] + self._noise(ties[at])))
        limit = quota(self.keep, n)
        chosen = within(best_first(ranked, ties, limit.rows), np.maximum(tokens, 0), limit)
        keep = mask(chosen, n)

        def why(start: int, stop: int) -> pa.StringArray:
            usual = reasons(weight[start:stop], keep[start:stop], "importance")
            return pc.if_else(pa.array(short[start:stop]), f"fewer than {self.min_words} words", usual)

        return Decisions(keep, LazyStrings(n, why), weight, warnings=shortfall(len(chosen), limit))

    def weights(self, scores: Scores) -> Floats:
        """Log importance weight of every row, NaN where there is no text; the pool is the raw distribution."""
        targets = read_targets(self.target, scores.inputs, self.on)
        target, _ = ngram_column([text.decode("utf-8", "surrogatepass") for text in targets.texts], self.buckets)
        raw = counts((batch["ngrams"] for batch in scores.scores(["ngrams"])), self.buckets)
        ratio = log_ratio(weighted_counts(target, targets.weights, self.buckets), raw, self.laplace)
        parts = (self._weights(batch, ratio) for batch in scores.scores(["ngrams", "n_tokens"]))
        return filled(len(scores), np.float64, parts)

    def _weights(self, batch: pa.RecordBatch, ratio: Floats) -> Floats:
        missing = np.asarray(batch["n_tokens"].is_null())
        return np.where(missing, np.nan, log_weights(batch["ngrams"], ratio, self.normalise))

    def _noise(self, ties: npt.NDArray[np.uint64]) -> Floats:
        """Standard Gumbel noise from seed and content, so that the order of rows does not matter."""
        if self.choose == "top" or (self.choose is None and self.normalise == "per_token"):
            return np.zeros(len(ties))
        x = ties ^ np.uint64(np.random.SeedSequence(self.seed).generate_state(1, np.uint64)[0])
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        uniform = ((x ^ (x >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) + 0.5
        return np.asarray(-np.log(-np.log(uniform / 2.0**53)))


def _sizes(scores: Scores) -> tuple[IntArray, Ties]:
    """Words of every row, -1 where there is no text, and tie breakers."""
    tokens, ties, start = room(len(scores), np.int64), room(len(scores), np.uint64), 0
    for batch in scores.scores(["n_tokens", "content_hash"]):
        part = slice(start, start + len(batch))
        tokens[part] = pc.fill_null(batch["n_tokens"], -1).cast(pa.int64()).to_numpy()
        ties[part] = tie_breaker(batch["content_hash"])
        start = part.stop
    return tokens, ties
