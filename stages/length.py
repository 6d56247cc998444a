"""The `length` stage: characters, words and tokens of a text, limits for each, and texts that were cut off."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Final, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator
from tokenizers import Tokenizer

from schemas.errors import RecipeError
from schemas.room import filled
from stages.contract import DECIDES, REASONS, BoolArray, Decisions, RecipePath, RunsIn, Scores, Stage, State
from stages.fences import FENCE_LINE, left_open
from stages.text import TEXT_COLUMNS, On, render

Unit = Literal["chars", "words", "tokens"]
Floats = npt.NDArray[np.float64]
UNITS: Final[tuple[Unit, ...]] = ("chars", "words", "tokens")

# Scripts written without spaces count a word per character. RE2 has no class subtraction: a double negation stands in.
_UNSPACED: Final = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_CHARACTER: Final = rf"[{_UNSPACED}]"
_WORD: Final = rf"(?:[^\P{{L}}{_UNSPACED}]|[^\P{{N}}{_UNSPACED}]|[^\P{{M}}{_UNSPACED}]|_)+"


class _Limit(NamedTuple):
    unit: Unit
    least: int | None
    most: int | None


class _Rule(NamedTuple):
    hit: BoolArray
    reason: pa.Array | pa.Scalar
    score: Floats
    drop: bool


class Length(Stage):
    """Drop texts that are too short, and drop or flag those that are too long.

    A text counts as truncated when it opens a code fence or a `<think>` block that it never closes: its generation
    hit a limit.
    """

    name: ClassVar[str] = "length"
    version: ClassVar[int] = 2
    reads: ClassVar[tuple[str, ...]] = TEXT_COLUMNS
    runs_in: ClassVar[RunsIn] = "thread"
    libraries: ClassVar[tuple[str, ...]] = ("pyarrow", "tokenizers")

    on: On = Field("text", description="What is measured: text, prompt, response, messages or code.")
    tokenizer: RecipePath | None = Field(
        None, description="A tokenizer.json, or a folder with one, to count tokens with."
    )
    min_chars: int | None = Field(None, ge=0, description="Fewest characters.", json_schema_extra=DECIDES)
    max_chars: int | None = Field(None, ge=1, description="Most characters.", json_schema_extra=DECIDES)
    min_words: int | None = Field(None, ge=0, description="Fewest words.", json_schema_extra=DECIDES)
    max_words: int | None = Field(None, ge=1, description="Most words.", json_schema_extra=DECIDES)
    min_tokens: int | None = Field(None, ge=0, description="Fewest tokens.", json_schema_extra=DECIDES)
    max_tokens: int | None = Field(None, ge=1, description="Most tokens.", json_schema_extra=DECIDES)
    overlong: Literal["drop", "flag"] = Field(
        "drop", description="What befalls too long a text.", json_schema_extra=DECIDES
    )
    truncated: Literal["keep", "drop"] = Field(
        "keep", description="What befalls a truncated text.", json_schema_extra=DECIDES
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for unit, least, most in self._limits():
            if least is not None and most is not None and least > most:
                raise ValueError(f"min_{unit} = {least} is more than max_{unit} = {most}")
        if self.tokenizer is None and (self.min_tokens is not None or self.max_tokens is not None):
            raise ValueError("min_tokens and max_tokens need a `tokenizer`")
        return self

    def check(self) -> None:
        """Raise RecipeError unless the tokenizer can be loaded."""
        if self.tokenizer is None:
            return
        path = tokenizer_file(self.tokenizer)
        if not path.is_file():
            raise RecipeError(f"length: no tokenizer at {path}: give a tokenizer.json or a folder with one")
        try:
            _tokenizer(str(path))
        except Exception as error:  # the library raises bare Exception
            raise RecipeError(f"length: {path} is not a tokenizer: {error}") from error

    def inputs(self) -> Sequence[str]:
        """The tokenizer's file."""
        return () if self.tokenizer is None else (str(tokenizer_file(self.tokenizer)),)

    def score(self, batch: pa.RecordBatch, state: State) -> pa.RecordBatch:
        """`n_chars`, `n_words`, `n_tokens` (null without a tokenizer) and `truncated`; null where there is no text."""
        texts = render(batch, self.on)
        words = pc.add(pc.count_substring_regex(texts, _WORD), pc.count_substring_regex(texts, _CHARACTER))
        columns = {
            "n_chars": pc.utf8_length(texts).cast(pa.int64()),
            "n_words": words.cast(pa.int64()),
            "n_tokens": self._tokens(texts),
            "truncated": is_truncated(texts),
        }
        return pa.RecordBatch.from_pydict(columns)

    def decide(self, scores: Scores) -> Decisions:
        """Apply the limits: a reason to drop goes before a flag, and characters before words before tokens.

        The score is the length in the unit of the reason; for rows within the limits, in the first unit with one.
        """
        parts = [self._decide(batch) for batch in scores.scores(["n_chars", "n_words", "n_tokens", "truncated"])]
        return Decisions(
            keep=filled(len(scores), np.bool_, [keep for keep, _, _ in parts]),
            reason=pa.chunked_array([reason.dictionary_encode() for _, reason, _ in parts], REASONS),
            score=filled(len(scores), np.float64, [score for _, _, score in parts]),
        )

    def _decide(self, batch: pa.RecordBatch) -> tuple[BoolArray, pa.StringArray, Floats]:
        rules = sorted(self._rules(batch), key=lambda rule: not rule.drop)
        keep = np.ones(batch.num_rows, np.bool_)
        for rule in rules:
            keep &= ~(rule.hit & rule.drop)
        fine = pc.if_else(batch["n_chars"].is_valid(), "kept: within limits", "kept: no text to measure")
        unit: Unit = next((limit.unit for limit in self._limits()), "chars")
        if not rules:
            return keep, fine, _lengths(batch, unit)
        hits = pa.StructArray.from_arrays([pa.array(rule.hit) for rule in rules], [str(k) for k in range(len(rules))])
        reason = pc.case_when(hits, *(rule.reason for rule in rules), fine)
        score = np.select([rule.hit for rule in rules], [rule.score for rule in rules], _lengths(batch, unit))
        return keep, reason, score

    def _rules(self, batch: pa.RecordBatch) -> Iterator[_Rule]:
        for limit in self._limits():
            lengths, shown = _lengths(batch, limit.unit), batch[f"n_{limit.unit}"].cast(pa.string())
            if limit.least is not None:
                text = pc.binary_join_element_wise(f"too short: under {limit.least} {limit.unit};", shown, " ")
                yield _Rule(lengths < limit.least, text, lengths, True)
            if limit.most is not None:
                verdict = "too long" if self.overlong == "drop" else "flagged: too long"
                text = pc.binary_join_element_wise(f"{verdict}: over {limit.most} {limit.unit};", shown, " ")
                yield _Rule(lengths > limit.most, text, lengths, self.overlong == "drop")
        if self.truncated == "drop":
            hit = pc.fill_null(batch["truncated"], False).to_numpy(zero_copy_only=False)
            yield _Rule(hit, pa.scalar("truncated"), _lengths(batch, "chars"), True)

    def _tokens(self, texts: pa.StringArray) -> pa.Array:
        if self.tokenizer is None:
            return pa.nulls(len(texts), pa.int64())
        tokenizer = _tokenizer(str(tokenizer_file(self.tokenizer)))
        encoded = tokenizer.encode_batch_fast(pc.fill_null(texts, "").to_pylist(), add_special_tokens=False)
        counts = np.array([len(encoding) for encoding in encoded], dtype=np.int64)
        return pa.array(counts, mask=np.asarray(texts.is_null()))

    def _limits(self) -> Iterator[_Limit]:
        """The units that have a limit."""
        for unit in UNITS:
            least, most = getattr(self, f"min_{unit}"), getattr(self, f"max_{unit}")
            if least is not None or most is not None:
                yield _Limit(unit, least, most)


def tokenizer_file(path: str) -> Path:
    """The tokenizer.json that `path` names, itself or as the folder that holds it."""
    given = Path(path)
    return given / "tokenizer.json" if given.is_dir() else given


def is_truncated(texts: pa.StringArray) -> pa.BooleanArray:
    """Whether a text leaves a code fence or a `<think>` block open."""
    thinks = pc.subtract(pc.count_substring(texts, "<think>"), pc.count_substring(texts, "</think>"))
    return pc.or_(_left_open(texts), pc.greater(thinks, 0))


def _left_open(texts: pa.StringArray) -> pa.BooleanArray:
    """`left_open` of every text; only those with an odd number of fences are taken apart."""
    odd = pc.equal(pc.bit_wise_and(pc.count_substring_regex(texts, FENCE_LINE), 1), 1)
    found = odd.to_numpy(zero_copy_only=False).astype(object)
    rows = np.flatnonzero(pc.fill_null(odd, False))
    found[rows] = [left_open(text) for text in texts.take(pa.array(rows)).to_pylist()]
    return pa.array(found, pa.bool_())


def _lengths(batch: pa.RecordBatch, unit: Unit) -> Floats:
    """Lengths as floats, NaN (which breaks no limit) where there is none."""
    return np.asarray(batch[f"n_{unit}"].cast(pa.float64()).to_numpy(zero_copy_only=False))


@lru_cache(maxsize=4)
def _tokenizer(path: str) -> Tokenizer:
    tokenizer = Tokenizer.from_file(path)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
