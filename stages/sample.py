"""The `sample` stage: a seeded share or number of the rows, the same ones whatever their order."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash
from pydantic import Field, StrictFloat, StrictInt

from stages.contract import DECIDES, Decisions, Scores, Stage, State

Fraction = Annotated[StrictFloat, Field(gt=0, le=1)]
Count = Annotated[StrictInt, Field(ge=1)]
Draws = npt.NDArray[np.uint64]

_STEP: Final = np.uint64(0x9E3779B97F4A7C15)
_M1: Final = np.uint64(0xBF58476D1CE4E5B9)
_M2: Final = np.uint64(0x94D049BB133111EB)


class Sample(Stage):
    """Keep a fraction of the rows (`keep: 0.1`) or a number of them (`keep: 1000`); with `per: source`, of each source.

    Every row draws a number from the seed, its content and, among rows of equal content, its place in line; the
    lowest draws are kept. Adding rows therefore changes few of the earlier choices, and reordering changes none.
    """

    name: ClassVar[str] = "sample"
    reads: ClassVar[tuple[str, ...]] = ("content_hash",)
    libraries: ClassVar[tuple[str, ...]] = ()

    keep: Fraction | Count = Field(
        description="A fraction (with a decimal point, at most 1.0) or a number of rows.", json_schema_extra=DECIDES
    )
    per: Literal["source"] | None = Field(
        None, description="`source`: apply `keep` to each.", json_schema_extra=DECIDES
    )
    seed: int = Field(0, ge=0, le=2**64 - 1, description="Another seed, another sample.")

    def score(self, batch: pa.RecordBatch, state: State) -> pa.RecordBatch:
        """`draw`: a uniform 64-bit integer, a function of seed and content."""
        draws = [xxhash.xxh3_64_intdigest(text.encode(), self.seed) for text in batch["content_hash"].to_pylist()]
        return pa.RecordBatch.from_pydict({"draw": pa.array(draws, pa.uint64())})

    def decide(self, scores: Scores) -> Decisions:
        """Keep the lowest draws; the score is the row's draw as a fraction of its range."""
        table = scores.table(["draw", "source"])
        draws = scatter(table["draw"].to_numpy())
        groups = np.zeros(len(draws), dtype=np.int64)
        if self.per == "source":
            groups = table["source"].combine_chunks().dictionary_encode().indices.to_numpy()
        keep = self._lowest(draws, groups)
        reason = np.where(keep, "kept: sampled", "not sampled")
        return Decisions(keep=keep, reason=pa.array(reason, pa.string()), score=draws / 2.0**64)

    def _lowest(self, draws: Draws, groups: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """The rows with the lowest draws of each group, as many as asked for."""
        sizes = np.bincount(groups)
        quota = np.rint(self.keep * sizes) if isinstance(self.keep, float) else np.full(len(sizes), self.keep)
        order = np.lexsort((draws, groups))
        starts = np.cumsum(sizes) - sizes
        place = np.arange(len(draws)) - starts[groups[order]]
        keep = np.zeros(len(draws), dtype=np.bool_)
        keep[order] = place < quota[groups[order]]
        return keep


def scatter(draws: Draws) -> Draws:
    """Give rows of equal draw draws of their own: the k-th of them (k > 0) gets SplitMix64 of the draw and k."""
    order = np.argsort(draws, kind="stable")
    fresh = np.ones(len(draws), dtype=np.bool_)
    fresh[1:] = draws[order[1:]] != draws[order[:-1]]
    starts = np.flatnonzero(fresh)
    nth = np.zeros(len(draws), dtype=np.uint64)
    nth[order] = np.arange(len(draws)) - np.repeat(starts, np.diff(starts, append=len(draws)))
    x = draws + nth * _STEP
    x = (x ^ (x >> np.uint64(30))) * _M1
    x = (x ^ (x >> np.uint64(27))) * _M2
    return np.where(nth == 0, draws, x ^ (x >> np.uint64(31)))
