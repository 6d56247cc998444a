"""The `dedup` stage: exact copies by content hash, near copies by MinHash, LSH and verified Jaccard similarity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, field_validator, model_validator

from schemas.record import Kind
from schemas.room import slices
from stages.contract import DECIDES, BoolArray, Decisions, RunsIn, Scores, Stage, State
from stages.dedup.arrays import identity, taken, where
from stages.dedup.columns import best_scores, numbers, present, sources
from stages.dedup.compared import columns_read, rendered
from stages.dedup.joined import Joined
from stages.dedup.kernels import Bools, Floats, Numbers, Signatures
from stages.dedup.lsh import best_bands
from stages.dedup.near import Plan, near_survivors
from stages.dedup.releases import PREVIOUS, Release, published_first
from stages.dedup.report import decisions
from stages.dedup.resolve import Outcome, best_first, exact_leaders
from stages.dedup.shingles import DEFAULT_SIZE, Sets, Unit, ascending, shingle
from stages.dedup.sketch import Backend, k_permutation, one_permutation, with_datasketch
from stages.dedup.texts import Texts, content_hashes, normalise
from stages.dedup.verify import Similarity
from stages.text import TEXT_COLUMNS, On

_KEEP = r"^(longest|first|newest|source_priority|best\([A-Za-z_][\w#]*\.\w+\))$"
_AGAINST = "against"


class Dedup(Stage):
    """Drop exact and near copies; every drop names a kept twin whose real similarity reaches the threshold.

    Two empty texts are exact copies of each other, never near ones; a record that has nothing of what `on` names is
    kept. Of a group of copies the survivor is, by `keep`: the `longest` text (characters after normalisation), the
    `first` in run order, the `newest`, which is the last in run order (the source named last in the recipe, the file
    last by name, the last row), the row of the source named first in `priority` (sources not named come last), or the
    row with the highest score of an earlier stage: `best(length.n_tokens)`. Ties go to the first in run order.
    Records of `against` are there already: they survive whatever the rule, and are not compared with each other.
    With `previous` among them, rows that the output directory holds already win over all that it does not hold.
    """

    name: ClassVar[str] = "dedup"
    version: ClassVar[int] = 2
    reads: ClassVar[tuple[str, ...]] = ("kind", *TEXT_COLUMNS)
    runs_in: ClassVar[RunsIn] = "thread"
    libraries: ClassVar[tuple[str, ...]] = ("datasketch", "pyarrow", "regex")
    internal: ClassVar[tuple[str, ...]] = ("exact_hash", "signature")
    scores_inputs: ClassVar[bool] = True

    mode: Literal["near", "exact"] = Field("near", description="`near` finds exact copies too.")
    on: On | dict[Kind, On] = Field(
        "text",
        description="What is compared: text, prompt, response, messages or code; or one of these for each kind of "
        "record, as in {code: prompt, sft: response}: kinds not named are compared by their text.",
    )
    lowercase: bool = Field(True, description="Compare without regard to case.")
    whitespace: bool = Field(True, description="Compare without regard to the kind and amount of white space.")
    shingles: Unit = Field("word", description="Compare runs of words, of characters, or of code tokens.")
    shingle_size: int | None = Field(
        None, ge=1, le=1000, description="Length of a run: 5 words or tokens, 9 characters."
    )
    num_hashes: int = Field(128, ge=2, le=4096, description="Values in a signature.")
    backend: Backend = Field("one-permutation", description="How signatures are made.")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="Seed of the hash functions.")
    against: tuple[Release, ...] = Field(
        (), description="Earlier releases: directories of runs, or any files. `previous` is what the output directory "
        "holds when the run starts; a directory of that name is `./previous`.",
        json_schema_extra=DECIDES,
    )  # fmt: skip
    similarity: Similarity = Field(
        "jaccard",
        description="`jaccard`: shared shingles among all shingles of both; `containment`: among those of the copy.",
        json_schema_extra=DECIDES,
    )
    threshold: float = Field(
        0.8, gt=0, le=1, description="Similarity from which a copy is near.", json_schema_extra=DECIDES
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
    memory_mb: int = Field(
        256, ge=1, description="Megabytes to work in while deciding; what needs more goes through temporary files.",
        json_schema_extra=DECIDES,
    )  # fmt: skip

    @field_validator("against", mode="before")
    @classmethod
    def _listed(cls, against: Any) -> Any:
        return (against,) if isinstance(against, str) else against

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
        strings = rendered(batch, self.on)
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

    def sources(self) -> Mapping[str, Sequence[str]]:
        """The earlier releases to compare with, each a role of its own: their files have the same names."""
        paths = [path for path in self.against if path != PREVIOUS]
        return {_AGAINST if k == 0 else f"{_AGAINST}-{k + 1}": (path,) for k, path in enumerate(paths)}

    def prefers_published(self) -> bool:
        """Whether `previous` is among the releases to compare with."""
        return PREVIOUS in self.against

    def decide(self, scores: Scores) -> Decisions:
        """Keep one of each group of copies. Deterministic, whatever the batch size; see `resolve` for the rule."""
        return self.decide_preferring(scores, np.zeros(len(scores), np.bool_))

    def decide_preferring(self, scores: Scores, published: BoolArray) -> Decisions:
        """The same; rows that are published survive the others, whatever the rule."""
        rows = Joined([*(scores.inputs[role] for role in self.sources()), scores])
        fixed = len(rows) - len(scores)
        order = published_first(best_first(self._key(rows), fixed, len(rows)), published)
        leader = exact_leaders(rows.column("exact_hash"), order, self.memory_mb << 18)
        found = self._near(rows, leader, order, fixed) if self.mode == "near" else Outcome.alone(len(rows))
        return decisions(found.spread(leader), leader, present(rows, "exact_hash"), fixed, rows)

    def _near(self, rows: Joined, leader: Numbers, order: Numbers, fixed: int) -> Outcome:
        """What becomes of every leader of an exact group (other rows: nothing)."""
        sizes = numbers(rows, "n_shingles")
        documents = taken(
            order, where(len(order), lambda part: (leader[order[part]] == order[part]) & (sizes[order[part]] > 0))
        )
        known = sum(int(np.count_nonzero(documents[part] < fixed)) for part in slices(len(documents)))
        bands, width = self._bands()
        plan = Plan(
            bands, width, self.similarity, self.threshold, known, self._sets, columns_read(self.on),
            self.memory_mb << 20,
        )  # fmt: skip
        return near_survivors(rows, documents, taken(sizes, documents), plan).of_rows(documents, len(rows))

    def _bands(self) -> tuple[int, int]:
        if self.bands and self.rows:
            return self.bands, self.rows
        return best_bands(lowest_jaccard(self.threshold, self.similarity), self.num_hashes)

    def _best(self) -> str | None:
        return self.keep[5:-1] if self.keep.startswith("best(") else None

    def _key(self, rows: Joined) -> Numbers | Floats | None:
        """What rows are preferred by, ascending; None for run order."""
        if self.keep == "newest":
            keys = identity(len(rows))
            return np.negative(keys, out=keys)
        if self.keep == "longest":
            keys = numbers(rows, "n_chars")
            return np.negative(keys, out=keys)
        if self.keep == "source_priority":
            found, wanted = sources(rows), {name: k for k, name in enumerate(self.priority)}
            return taken(np.array([wanted.get(name, len(wanted)) for name in found.names], np.int32), found.codes)
        best = self._best()
        scores = best_scores(rows, best) if best else None
        return None if scores is None else np.negative(scores, out=scores)

    def _sets(self, batch: pa.RecordBatch) -> Sets:
        return ascending(self._shingle(self._normalise(rendered(batch, self.on))))

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


def lowest_jaccard(threshold: float, similarity: Similarity) -> float:
    """The Jaccard similarity for which bands are chosen.

    A copy with a share c of its shingles in a text of twice its size has a Jaccard similarity of c / (3 - c): copies
    contained in even longer texts are found with a lower probability.
    """
    return threshold / (3 - threshold) if similarity == "containment" else threshold


def _signatures(values: Signatures, missing: Bools) -> pa.FixedSizeBinaryArray:
    validity = pa.py_buffer(np.packbits(~missing, bitorder="little"))
    return pa.Array.from_buffers(pa.binary(4 * values.shape[1]), len(values), [validity, pa.py_buffer(values)])
