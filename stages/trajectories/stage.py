"""The `trajectories` stage: keep agent runs that were accurate and efficient."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal, Self

import pyarrow as pa
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from schemas.hashing import digest
from schemas.record import Kind
from stages.contract import DECIDES, Decisions, Scores, Stage, State
from stages.trajectories.actions import conversation, last_words, question, read_run
from stages.trajectories.decision import decide
from stages.trajectories.gains import entity_scores, gains
from stages.trajectories.outcome import Tells, outcome

SCORES: Final = pa.schema(
    [
        ("success", pa.bool_()),
        ("success_source", pa.string()),
        ("outcome", pa.string()),
        ("n_steps", pa.int32()),
        ("n_actions", pa.int32()),
        ("n_repeated", pa.int32()),
        ("n_same_result", pa.int32()),
        ("n_unique", pa.int32()),
        ("efficiency", pa.float64()),
        ("n_required", pa.int32()),
        ("n_found", pa.int32()),
        ("isr", pa.float64()),
        ("ise", pa.float64()),
        ("task", pa.string()),
    ]
)


class MetaFlag(BaseModel):
    """A field of `meta` that says whether a run succeeded, where the record has no column for it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    field: str = Field(min_length=1, description="Path within meta: is_solved, info.exit_status.")
    values: tuple[bool | int | float | str, ...] = Field(
        (True, 1, "true", "True", "success", "resolved"), description="The values that mean success."
    )


def _of_meta(task: str) -> str:
    if task not in ("question", "source_id") and not (task.startswith("meta.") and len(task) > len("meta.")):
        raise ValueError(f"task is '{task}', not question, source_id or meta.FIELD")
    return task


class Trajectories(Stage):
    """Keep runs of agents that were right and did not waste their steps.

    Right: by a verifier's score, a flag in meta, the record's reward, the verdict on its solution, or its final answer,
    whichever the record has first. Efficient: few calls repeated with the same arguments, something new per call.
    Where a task's required entities are known, also ISR > 0.3 (share of them found) and ISE > 0.1 (found per step), as
    in WebLeaper; where they are few, ISE varies too much between runs, and runs of one task compete instead.
    """

    name: ClassVar[str] = "trajectories"
    version: ClassVar[int] = 2
    reads: ClassVar[tuple[str, ...]] = ("messages", "prompt", "completion", "answer", "solutions", "reward")

    kinds: tuple[Kind, ...] | Literal["all"] = Field(
        ("trajectory",), description="Kinds of records to judge, or all; the others stay.", json_schema_extra=DECIDES
    )
    accurate: tuple[Tells, ...] = Field(
        ("reward", "verdict", "answer"), description="What tells success; the first that a record has."
    )
    min_reward: float = Field(1.0, description="Least reward of a success.")
    verifier: str | None = Field(
        None, description="Score column of an earlier stage that goes first: tests.verified.", json_schema_extra=DECIDES
    )
    flag: MetaFlag | None = Field(
        None, description="{field, values}: a field of meta that goes next.", json_schema_extra=DECIDES
    )
    unknown: Literal["keep", "drop"] = Field(
        "drop", description="What befalls a run whose success nothing tells.", json_schema_extra=DECIDES
    )
    min_steps: int | None = Field(None, ge=0, description="Fewest steps.", json_schema_extra=DECIDES)
    max_steps: int | None = Field(None, ge=1, description="Most steps.", json_schema_extra=DECIDES)
    max_repeated: float = Field(
        0.5, ge=0, le=1, description="Largest share of calls made before with equal arguments.",
        json_schema_extra=DECIDES,
    )  # fmt: skip
    repeats: Literal["call", "call_and_result"] = Field(
        "call", description="What makes a repeat: the call, or the call and its result.", json_schema_extra=DECIDES
    )
    min_efficiency: float = Field(
        0.1, ge=0, le=1, description="New results per call must be over this.", json_schema_extra=DECIDES
    )
    entities: Literal["answer"] | Annotated[str, Field(pattern=r"^meta\..+")] | None = Field(
        None, description="Where the required entities are listed: answer, or meta.FIELD."
    )
    search_tools: tuple[str, ...] = Field(
        ("search",), description="Results of tools with such a part in their name are snippets, not visits."
    )
    min_isr: float = Field(0.3, ge=0, le=1, description="ISR must be over this.", json_schema_extra=DECIDES)
    min_ise: float = Field(0.1, ge=0, description="ISE must be over this.", json_schema_extra=DECIDES)
    few_entities: int = Field(
        5, ge=0, description="With fewer required entities, ISE must reach its task's median instead.",
        json_schema_extra=DECIDES,
    )  # fmt: skip
    task: Annotated[str, AfterValidator(_of_meta)] = Field(
        "question", description="What makes runs one task: question, source_id, meta.FIELD.", json_schema_extra=DECIDES
    )
    per_task: int | None = Field(None, ge=1, description="Keep the N best of each task.", json_schema_extra=DECIDES)
    best: Literal["shortest", "efficient"] = Field(
        "shortest", description="Best: fewest steps, or most gained per step.", json_schema_extra=DECIDES
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.min_steps is not None and self.max_steps is not None and self.min_steps > self.max_steps:
            raise ValueError(f"min_steps = {self.min_steps} is more than max_steps = {self.max_steps}")
        return self

    def score(self, batch: pa.RecordBatch, state: State) -> pa.RecordBatch:
        """Counts of steps, actions, repeats and gains, and what the record says of its success.

        `n_steps` and the counts are null for records without a conversation; ratios are null without calls. `isr` and
        `ise` are null unless `entities: answer` lists any: those in meta are no content, and `decide` reads them.
        """
        return pa.RecordBatch.from_pylist([self._row(row) for row in batch.to_pylist()], SCORES)

    def decide(self, scores: Scores) -> Decisions:
        """Drop what failed, what wasted its steps, and what others of its task did better, in this order.

        The score is ISE where entities are known, else the efficiency. The detail holds the task, what told success,
        and the rank within the task where runs compete.
        """
        return decide(scores, self)

    def _row(self, row: dict[str, Any]) -> dict[str, Any]:
        messages = conversation(row)
        run = read_run(messages)
        told = outcome(row, run.actions, last_words(messages), self.accurate, self.min_reward)
        columns: dict[str, Any] = {"success": told.success, "success_source": told.source, "outcome": told.text}
        if not messages:
            return columns
        count, n = gains(run.actions), len(run.actions)
        columns |= {
            "n_steps": run.steps, "n_actions": n, "n_repeated": count.repeated, "n_same_result": count.same_result,
            "n_unique": count.unique, "efficiency": count.unique / n if n else None,
            "task": digest(question(messages).encode("utf-8", "surrogatepass")).hex(),
        }  # fmt: skip
        if self.entities == "answer":
            columns |= entity_scores(row["answer"], messages, self.search_tools)
        return columns
