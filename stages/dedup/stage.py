"""The `dedup` stage: exact copies by content hash, near copies by MinHash, LSH and verified Jaccard similarity."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from stages.contract import DECIDES, Decisions, Scores, Stage, State
from stages.dedup.columns import Columns, read_columns
from stages.dedup.lsh import best_bands
from stages.dedup.near import Plan, near_survivors
from stages.dedup.report import Outcome, decisions
from stages.dedup.resolve import Bools, Floats, Ints, exact_leaders, survivor_ranks
from stages.dedup.shingles import DEFAULT_SIZE, Sets, Unit, concatenate, shingle
from stages.dedup.sketch import Backend, Signatures, k_permutation, one_permutation, with_datasketch
from stages.dedup.texts import Texts, content_hashes, normalise
from stages.text import TEXT_COLUMNS, On, columns_for, render

_KEEP = r"^(longest|first|source_priority|best\([A-Za-z_][\w#]*\.\w+\))$"


class Dedup(Stage):
    """Drop exact and near copies; every drop names a kept twin whose real similarity reaches the threshold.

    Two empty texts are exact copies of each other, never near ones; a record that has nothing of what `on` names is
    kept. Of a group of copies the survivor is, by `keep`: the `longest` text (characters after normalisation), the
    `first` in run order, the row of the source named first in `priority` (sources not named come last), or the row
    with the highest score of an earlier stage: `best(length.n_tokens)`. Ties go to the first in run order.
    """

    name: ClassVar[str] = "dedup"
    reads: ClassVar[tuple[str, ...]] = TEXT_COLUMNS
    runs_in: ClassVar[Literal["process", "thread"]] = "thread"
    libraries: ClassVar[tuple[str, ...]] = ("datasketch", "pyarrow", "regex")
    internal: ClassVar[tuple[str, ...]] = ("exact_hash", "signature")

    mode: Literal["near", "exact"] = Field("near", description="`near` finds exact copies too.")
    on: On = Field("text", description="What is compared: text, prompt, response, messages or code.")
    lowercase: bool = Field(True, description="Compare without regard to case.")
    whitespace: bool = Field(True, description="Compare without regard to the kind and amount of white space.")
    shingles: Unit = Field("word", description="Compare runs of words, of characters, or of code tokens.")
    shingle_size: int | None = Field(
        None, ge=1, le=1000, description="Length of a run: 5 words or tokens, 9 characters."
    )
    num_hashes: int = Field(128, ge=2, le=4096, description="Values in a signature.")
    backend: Backend = Field("one-permutation", description="How signatures are made.")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="Seed of the hash functions.")
    threshold: float = Field(
        0.8, gt=0, le=1, description="Jaccard similarity from which a copy is near.", json_schema_extra=DECIDES
    )
    bands: int | None = Field(
        None, ge=1, description="LSH bands; default: for the threshold.", json_schema_extra=DECIDES
    )
    rows: int | None = Field(
        None, ge=1, description="Values per LSH band; default: for the threshold.", json_schema_extra=DECIDES
    )
    keep: Annotated[str, Field(pattern=_KEEP)] = Field(
        "longest", description="Which copy survives.", json_schema_extra=DECIDES
    )
    priority: tuple[str, ...] = Field((), description="Sources, the most wanted first.", json_schema_extra=DECIDES)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.bands is None) != (self.rows is None):
            raise ValueError("give both bands and rows, or neither")
        if self.bands and self.rows and self.bands * self.rows > self.num_hashes:
            raise ValueError(f"bands * rows = {self.bands * self.rows} exceeds num_hashes = {self.num_hashes}")
        if (self.keep == "source_priority") != bool(self.priority):
            raise ValueError("`keep: source_priority` and `priority: [source, ...]` go together")
        return self

    def score(self, batch: pa.RecordBatch, state: State) -> pa.RecordBatch:
        """`exact_hash` (16 bytes), `n_chars`; for `near` also `signature` (4 bytes per hash) and `n_shingles`.

        All null where the record has nothing to compare; the signature is null, too, where there is no shingle.
        """
        strings = render(batch, self.on)
        missing = np.asarray(strings.is_null())
        texts = self._normalise(strings)
        columns = {
            "exact_hash": pc.if_else(strings.is_null(), pa.scalar(None, pa.binary(16)), content_hashes(texts)),
            "n_chars": pa.array(texts.chars, mask=missing),
        }
        if self.mode == "near":
            sets = self._shingle(texts)
            sizes = sets.sizes()
            columns["n_shingles"] = pa.array(sizes, mask=missing)
            columns["signature"] = _signatures(self._sketch(texts, sets), sizes == 0)
        return pa.RecordBatch.from_pydict(columns)

    def decide(self, scores: Scores) -> Decisions:
        """Keep one of each group of copies. Deterministic, whatever the batch size; see `resolve` for the rule."""
        columns = read_columns(scores, self.mode == "near", self._best())
        rank = survivor_ranks(self._keys(columns), len(scores))
        leader = exact_leaders(columns.hashes, rank, columns.comparable)
        near, similarity = self._near(scores, columns, leader, rank)
        survivor = near[leader]
        copy = (survivor == leader) & (survivor != np.arange(len(scores)))
        similarity = np.where(copy, 1.0, similarity[leader])
        outcome = Outcome(survivor, similarity, copy, columns.comparable)
        return decisions(outcome, scores, columns.sources, columns.names)

    def _near(self, scores: Scores, columns: Columns, leader: Ints, rank: Ints) -> tuple[Ints, Floats]:
        """Survivor and similarity of every leader of an exact group (other rows: themselves)."""
        survivor, similarity = np.arange(len(scores)), np.zeros(len(scores))
        documents = np.flatnonzero((leader == survivor) & (columns.sizes > 0))
        documents = documents[np.argsort(rank[documents])]
        if self.mode == "near" and len(documents) > 1:
            bands, rows = self._bands()
            plan = Plan(bands, rows, self.threshold, lambda wanted: self._load(scores, wanted))
            kept, alike = near_survivors(scores, documents, columns.sizes[documents], plan)
            survivor[documents], similarity[documents] = documents[kept], alike
        return survivor, similarity

    def _bands(self) -> tuple[int, int]:
        if self.bands and self.rows:
            return self.bands, self.rows
        return best_bands(self.threshold, self.num_hashes)

    def _best(self) -> str | None:
        return self.keep[5:-1] if self.keep.startswith("best(") else None

    def _keys(self, columns: Columns) -> list[Floats]:
        if self.keep == "longest":
            return [-columns.chars.astype(np.float64)]
        if self.keep == "source_priority":
            order = {name: k for k, name in enumerate(self.priority)}
            return [np.array([order.get(name, len(order)) for name in columns.names], np.float64)[columns.sources]]
        return [-columns.best] if self._best() else []

    def _load(self, scores: Scores, rows: Ints) -> Sets:
        table = scores.fetch(rows, columns_for(self.on)).combine_chunks()
        parts = [self._shingle(self._normalise(render(batch, self.on))) for batch in table.to_batches()]
        return concatenate(parts)

    def _normalise(self, strings: pa.StringArray) -> Texts:
        return normalise(strings, self.lowercase, self.whitespace)

    def _shingle(self, texts: Texts) -> Sets:
        return shingle(texts, self.shingles, self._size())

    def _size(self) -> int:
        return self.shingle_size or DEFAULT_SIZE[self.shingles]

    def _sketch(self, texts: Texts, sets: Sets) -> Signatures:
        if self.backend == "datasketch":
            return with_datasketch(texts, self.shingles, self._size(), self.num_hashes, self.seed)
        sketch = one_permutation if self.backend == "one-permutation" else k_permutation
        return sketch(sets, self.num_hashes, self.seed)


def _signatures(values: Signatures, missing: Bools) -> pa.FixedSizeBinaryArray:
    validity = pa.py_buffer(np.packbits(~missing, bitorder="little"))
    return pa.Array.from_buffers(pa.binary(4 * values.shape[1]), len(values), [validity, pa.py_buffer(values)])
