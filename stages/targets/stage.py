"""The `targets` stage: train on a reasoning model's response, on its answer, or on a summary and the answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Self

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from schemas.errors import RecipeError
from schemas.record import RECORD
from stages.contract import DECIDES, Decisions, RecipePath, RunsIn, Scores, Stage, State
from stages.llm.endpoint import Budget, Endpoint
from stages.targets.choose import BAD, Choice, Settings, choose, result
from stages.targets.counting import counter
from stages.targets.variants import CONTENT, Mode

if TYPE_CHECKING:
    from stages.targets.summaries import Summariser

RESULT: Final = pa.schema(
    [
        *(RECORD.field(name) for name in CONTENT),
        ("rewrite_status", pa.string()),
        ("tokens_r1", pa.int64()),
        ("tokens_r2", pa.int64()),
        ("tokens_r3", pa.int64()),
        ("loop_words", pa.int64()),
        ("model", pa.string()),
        ("prompt_version", pa.string()),
        ("tokens_in", pa.int64()),
        ("tokens_out", pa.int64()),
        ("cost", pa.float64()),
    ]
)
_TOKENS: Final = ["tokens_r1", "tokens_r2", "tokens_r3"]
_SUMMARISING: Final = ("summariser", "budget", "template", "max_words", "replay")


class Targets(Stage):
    """Choose what a model is trained on where a record holds a reasoning model's thought T and answer A.

    r1 is the original response, r2 is A alone, r3 is a summary of T by a smaller instruct model, then A (arXiv
    2504.09639). A response must hold one thought, an answer, and a regular end. A thought that loops is not trained
    on: r1 and r3 become r2. A summary must arrive at the result of A, or r3 becomes r2. `rewrite_status` says it all.
    """

    name: ClassVar[str] = "targets"
    version: ClassVar[int] = 2
    reads: ClassVar[tuple[str, ...]] = ("content_hash", "messages", "prompt", "completion", "reasoning", "meta")
    runs_in: ClassVar[RunsIn] = "stream"
    libraries: ClassVar[tuple[str, ...]] = ("regex", "tokenizers")
    rewrites: ClassVar[bool] = True

    mode: Mode = Field("r2", description="r1: original response; r2: answer alone; r3: summary and answer.")
    on_bad: Literal["keep", "drop"] = Field(
        "keep", description="What befalls a record whose response is no target.", json_schema_extra=DECIDES
    )
    loop_times: int = Field(4, ge=2, description="Fewest times in a row that a passage of a looping text occurs.")
    loop_words: int = Field(60, ge=2, description="Fewest words that these repeats cover.")
    tokenizer: RecipePath | None = Field(
        None, description="A tokenizer.json, or a folder with one, to count tokens with; else words count."
    )
    summariser: Endpoint | None = Field(None, description="Mode r3: the model that summarises: {url, model, ...}.")
    budget: Budget = Field(Budget(), description="Mode r3: {usd, tokens, requests} at most.", json_schema_extra=DECIDES)
    template: RecipePath | None = Field(None, description="Mode r3: a Jinja file instead of the shipped prompt.")
    max_words: int = Field(200, ge=10, description="Mode r3: how long a summary is asked for.")
    replay: tuple[RecipePath, ...] = Field(
        (), description="Mode r3: journals of replies to use before asking.", json_schema_extra=DECIDES
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.mode == "r3" and self.summariser is None:
            raise ValueError("mode r3 needs a `summariser` with url and model")
        return self

    def check(self) -> None:
        """Raise RecipeError if the tokenizer, the template or the server is not there."""
        counter(self.tokenizer)
        if self.mode == "r3" and self.summariser is not None:
            from stages.llm.reach import reachable

            self._summariser()
            reachable(self.summariser)

    def inputs(self) -> Sequence[str]:
        """The tokenizer's file, and the template where it is not the shipped one."""
        from stages.length import tokenizer_file

        files = [] if self.tokenizer is None else [str(tokenizer_file(self.tokenizer))]
        return [*files, *([self.template] if self.template and self.mode == "r3" else [])]

    def scoring(self) -> dict[str, Any]:
        """Without a model nothing about it matters; with one, only what its replies depend on."""
        parameters = super().scoring()
        rest = {key: value for key, value in parameters.items() if key not in _SUMMARISING}
        if self.mode != "r3" or self.summariser is None:
            return rest
        return {
            **rest, "summariser": self.summariser.scoring(), "max_words": self.max_words,
            "template": self._summariser().template.version,
        }  # fmt: skip

    def task_rows(self) -> int:
        """Few rows where each is paid for."""
        return 256 if self.mode == "r3" else super().task_rows()

    def rewrite(self, batch: pa.RecordBatch, state: State) -> pa.RecordBatch:
        """Modes r1 and r2: `messages`, `completion` and `reasoning`, `rewrite_status`, and the token counts."""
        settings = self._settings()
        return _batch([result(choose(row, settings), settings) for row in batch.to_pylist()])

    def stream(self, batches: Iterator[pa.RecordBatch], state: State, folder: Path) -> Iterator[pa.RecordBatch]:
        """The same, and in mode r3 the summaries, whose replies are kept in `folder`: no mode pays for one twice."""
        if self.mode != "r3":
            yield from super().stream(batches, state, folder)
            return
        for rows in self._summariser().stream(batches, self._settings(), folder):
            yield _batch(rows)

    def decide(self, scores: Scores) -> Decisions:
        """Keep every record, or with `on_bad: drop` all whose response is a target; the reason is the status.

        The score is the number of tokens of the mode's target, the detail has those of all three.
        """
        table = scores.table(["rewrite_status", *_TOKENS]).combine_chunks()
        status = table["rewrite_status"].combine_chunks()
        bad = pc.starts_with(status, BAD).to_numpy(zero_copy_only=False)
        own = table[f"tokens_{self.mode}"].cast(pa.float64()).to_numpy()
        details = [_detail(row) for row in table.select(_TOKENS).to_pylist()]
        return Decisions(~bad | np.bool_(self.on_bad == "keep"), status, own, detail=details)

    def estimate(self, sample: pa.Table, rows: int) -> Mapping[str, str]:
        """In mode r3: requests, tokens and money for `rows` records like those of the sample."""
        if self.mode != "r3" or not sample.num_rows:
            return {}
        from stages.llm.estimate import estimate
        from stages.targets.prompts import request

        summariser, settings = self._summariser(), self._settings()
        wanted = [choice.response for choice in self._choices(sample, settings) if choice.status is None]
        asked = [request(summariser.template, response, self.max_words) for response in wanted if response]
        expected = round(rows * len(asked) / sample.num_rows)
        return estimate(summariser.endpoint, asked, expected, 2.0 * self.max_words).lines()

    def _choices(self, sample: pa.Table, settings: Settings) -> list[Choice]:
        return [choose(row, settings) for row in sample.to_pylist()]

    def _settings(self) -> Settings:
        return Settings(self.mode, self.loop_times, self.loop_words, counter(self.tokenizer))

    def _summariser(self) -> Summariser:
        from stages.targets.prompts import read_template
        from stages.targets.summaries import Summariser

        if self.summariser is None:
            raise RecipeError("targets: mode r3 needs a `summariser` with url and model")
        template = read_template(self.template)
        return Summariser(self.summariser, self.budget, template, self.max_words, self.replay)


def _detail(tokens: dict[str, int | None]) -> str | None:
    known = {name: count for name, count in tokens.items() if count is not None}
    return orjson.dumps(known).decode() if known else None


def _batch(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(rows, RESULT)
