"""The `reflect` stage: a language model criticises instructions and answers, and writes better ones."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, Self

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.errors import RecipeError
from stages.contract import Decisions, RecipePath, RunsIn, Scores, Stage, State
from stages.llm.endpoint import Budget, Endpoint
from stages.reflect.gates import Gates
from stages.reflect.prompts import SHIPPED, Call, Template, read_template
from stages.reflect.turns import TURN_COLUMNS

Mode = Literal["instruction", "response", "both"]
_CALLS: Final[Mapping[Mode, tuple[Call, ...]]] = {
    "instruction": ("instruction",),
    "response": ("response",),
    "both": ("instruction", "response"),
}
_NOT_SCORED: Final = frozenset({"budget", "replay", "endpoint"})
_DETAIL: Final = ("instruction_status", "response_status", "calls", "tokens_in", "tokens_out", "cost", "losses")


class Templates(BaseModel):
    """Prompt templates of your own: Jinja files that use `example` and `format`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    instruction: RecipePath | None = Field(None, description="For the new instruction with its answer.")
    response: RecipePath | None = Field(None, description="For the new answer.")


class Reflect(Stage):
    """Replace instructions and answers by better ones that a language model writes after criticising them.

    Reflection-Tuning asks twice per record: for a harder instruction with its answer, then for a better answer. What
    comes back replaces the last turn of a record only if it passes every gate; `rewrite_status` says what happened.
    `select: ifd` is Selective Reflection-Tuning: a student model must find the new instruction more instructive
    (higher IFD) and the new answer easier to trace to its instruction (lower r-IFD).
    """

    name: ClassVar[str] = "reflect"
    version: ClassVar[int] = 2
    reads: ClassVar[tuple[str, ...]] = ("content_hash", *TURN_COLUMNS)
    runs_in: ClassVar[RunsIn] = "stream"
    rewrites: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = ("regex",)

    endpoint: Endpoint = Field(
        description="The model: {url, model, price, ...}, or a plain URL with `model` and `price` beside it; "
        "without a URL only journals are replayed."
    )
    mode: Mode = Field("both", description="What is rewritten: instruction (with its answer), response, or both.")
    budget: Budget = Field(Budget(), description="What a run may spend: {usd, tokens, requests}.")
    replay: RecipePath | list[RecipePath] = Field(
        default_factory=list, description="Journals of earlier runs (files or folders) to take replies from."
    )
    select: Literal["none", "ifd"] = Field("none", description="ifd: take a rewrite only if `student` finds it better.")
    student: RecipePath | None = Field(None, description="Folder of the causal language model for `select: ifd`.")
    share: float = Field(1.0, gt=0, le=1, description="Share of the records to rewrite, chosen by content.")
    gates: Gates = Field(Gates(), description="Bounds for rewrites.")
    templates: Templates = Field(Templates(), description="Prompt templates of your own.")
    attempt: int = Field(1, ge=1, description="Raise it to ask again where no reply came, and only there.")

    @model_validator(mode="before")
    @classmethod
    def _plain_endpoint(cls, values: Any) -> Any:
        """`endpoint: URL` with `model` and `price` beside it, as one endpoint."""
        if not isinstance(values, dict):
            return values
        beside = {key: values[key] for key in ("model", "price") if key in values}
        given = values.get("endpoint")
        if isinstance(given, str) or given is None:
            given = {"url": given}
        elif not isinstance(given, dict):
            return values
        rest = {key: value for key, value in values.items() if key not in beside}
        return {**rest, "endpoint": {**given, **beside}}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.select == "ifd") != (self.student is not None):
            raise ValueError("`select: ifd` and `student` (the folder of a model) go together")
        if self.budget.usd is not None and self.endpoint.url and self.endpoint.price is None:
            raise ValueError(
                "a budget in usd needs the model's price: {input, output} in US dollars per million tokens"
            )
        return self

    def check(self) -> None:
        """Raise RecipeError where there is nothing to get replies from, or a template, journal or model is missing."""
        if self.endpoint.url is None and not self._replayed():
            raise RecipeError(
                "reflect: no model to ask and no journal to replay; set `endpoint` to the base URL of an "
                "OpenAI-compatible server, or `replay` to journals of an earlier run"
            )
        for path in self._replayed():
            if not Path(path).exists():
                raise RecipeError(f"reflect: no journal at {path}: name a .jsonl file or a folder of them")
        self._templates()
        if self.student is not None:
            from stages.student.models import check_model

            check_model(self.student)

    def inputs(self) -> Sequence[str]:
        """Templates of one's own, journals to replay, and the student's folders."""
        own = [path for path in (self.templates.instruction, self.templates.response) if path]
        return [*own, *self._replayed(), *self._student_folders()]

    def scoring(self) -> dict[str, Any]:
        """What rewrites depend on: not where the model is served, nor what may be spent."""
        from stages.sandbox import probe
        from stages.verify import VERSION

        kept = {key: value for key, value in super().scoring().items() if key not in _NOT_SCORED}
        return {
            **kept,
            "endpoint": self.endpoint.scoring(),
            "prompts": [template.version for template in self._templates()],
            "tests": {"interpreter": sys.version, "verifier": VERSION, "sandbox": probe().tier is not None},
            "student_libraries": [version(name) for name in ("torch", "transformers")] if self.student else [],
        }

    def task_rows(self) -> int:
        """Few: replies are in the journal anyway, what a kill loses is the student's work."""
        return 64

    def stream(self, batches: Iterator[pa.RecordBatch], state: State, folder: Path) -> Iterator[pa.RecordBatch]:
        """Rewrite batch by batch, with many records under way; replies are kept in `folder` as they arrive.

        Raises:
            GateError: once the budget is used up, after the requests under way are answered.
            RunError: if the server fails for good, or a reply is in no journal and there is no server.
        """
        from stages.llm import Client, Journal
        from stages.reflect.flow import Tools
        from stages.reflect.work import Scoring, Testing, rewritten_batches
        from stages.sandbox import probe

        with ExitStack() as stack:
            journal = stack.enter_context(Journal(folder, [Path(path) for path in self._replayed()]))
            client = Client(self.endpoint, journal, self.budget)
            testing = stack.enter_context(closing(Testing()))
            measure = None
            if self.student is not None:
                from stages.student.models import load

                measure = stack.enter_context(closing(Scoring(load(self.student)))).measure
            tools = Tools(self._templates(), self.gates, client.ask, testing.verify, measure, probe().tier is not None)
            yield from rewritten_batches(batches, tools, client, 4 * self.endpoint.concurrency, self.share)

    def decide(self, scores: Scores) -> Decisions:
        """Everybody stays; the reason is the status, the detail what came of each call and what was paid."""
        table = scores.table(["rewrite_status", *_DETAIL])
        rows = table.select(list(_DETAIL)).to_pylist()
        details = [_json(row) if row["calls"] else None for row in rows]
        status = table["rewrite_status"].combine_chunks()
        told = (_summary(table),) if any(details) else ()
        return Decisions(np.ones(len(rows), np.bool_), status, detail=details, warnings=told)

    def estimate(self, sample: pa.Table, rows: int) -> Mapping[str, str]:
        """Calls, tokens and money for `rows` records like those of `sample`."""
        from stages.reflect.forecast import forecast

        return forecast(self.endpoint, self._templates(), sample, rows * self.share)

    def _templates(self) -> tuple[Template, ...]:
        own = {"instruction": self.templates.instruction, "response": self.templates.response}
        return tuple(read_template(call, own[call] or SHIPPED[call]) for call in _CALLS[self.mode])

    def _replayed(self) -> list[str]:
        return [self.replay] if isinstance(self.replay, str) else list(self.replay)

    def _student_folders(self) -> Sequence[str]:
        if self.student is None:
            return ()
        from stages.student.models import folders

        return folders(self.student)


def _json(row: dict[str, Any]) -> str:
    return orjson.dumps({key: value for key, value in row.items() if value not in (None, [])}).decode()


def _summary(table: pa.Table) -> str:
    """What a run rewrote, and what the replies about its records took when they were paid for."""
    totals = (pc.sum(table[name]).as_py() or 0 for name in ("calls", "tokens_in", "tokens_out", "cost"))
    calls, sent, received, cost = totals
    new = pc.sum(pc.equal(table["rewrite_status"], "rewritten")).as_py()
    priced = f", {cost:,.2f} USD" if table["cost"].null_count == 0 else ""
    return (
        f"{new:,} of {table.num_rows:,} records rewritten; the replies about them: {calls:,}, {sent:,} tokens in, "
        f"{received:,} out{priced}"
    )
