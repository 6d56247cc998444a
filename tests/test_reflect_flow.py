"""One record's way through `reflect`, with replies and losses given by hand; the stage's parameters and columns."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pools import records
from pydantic import ValidationError

from schemas.errors import GateError, RecipeError, RunError
from schemas.record import RECORD, content_hash, content_of
from stages.llm.request import NoReply, Reply, Request
from stages.reflect.columns import result_batch
from stages.reflect.flow import Outcome, Tools, rewrite
from stages.reflect.gates import Gates
from stages.reflect.parsing import mark_for
from stages.reflect.prompts import SHIPPED, read_template
from stages.reflect.selecting import Measure
from stages.reflect.stage import Reflect
from stages.reflect.turns import Pair, Turn
from stages.reflect.work import in_share

INSTRUCTION = read_template("instruction", SHIPPED["instruction"])
RESPONSE = read_template("response", SHIPPED["response"])
ROW = {"kind": "sft", "prompt": "Explain tides.", "completion": "The moon pulls the water of the seas."}
HARDER = "Explain why most coasts have two tides a day and not one."
FIRST = "The near ocean is pulled more than the Earth, and the Earth more than the far ocean, so both sides rise."
SECOND = "Two bulges face the moon and its opposite; a coast turns through both of them within one day and an hour."


def said(finish: str = "stop", cost: float | None = 0.25, **parts: str) -> Reply:
    text = json.dumps({"critique": "short", **parts})
    return Reply(text, finish, "teacher", 100, 10, cost, False)


@dataclass
class Teacher:
    """Gives prepared answers in order and remembers what was asked."""

    answers: Sequence[Reply | NoReply]
    asked: list[Request] = field(default_factory=list)

    async def ask(self, request: Request) -> Reply | NoReply:
        self.asked.append(request)
        return self.answers[len(self.asked) - 1]


async def passes(row: Any, answer: str) -> str | None:
    return None


def run(answers: Sequence[Reply | NoReply], row: dict[str, Any] = ROW, **changes: Any) -> tuple[Outcome, Teacher]:
    teacher = Teacher(answers)
    tools = replace(Tools((INSTRUCTION, RESPONSE), Gates(), teacher.ask, passes), **changes)
    return asyncio.run(rewrite(row, tools)), teacher


def columns(outcome: Outcome, row: dict[str, Any] = ROW) -> dict[str, Any]:
    batch = records([row]).to_batches()[0]
    return dict(result_batch(batch.select(list(Reflect.reads)), [outcome]).to_pylist()[0])


def test_the_answer_is_rewritten_for_the_new_instruction() -> None:
    outcome, teacher = run([said(instruction=HARDER, answer=FIRST), said(answer=SECOND)])
    assert outcome.status == "rewritten"
    assert outcome.pair == Pair(HARDER, SECOND)
    assert HARDER in teacher.asked[1].messages[0]["content"]
    assert FIRST in teacher.asked[1].messages[0]["content"]
    told = columns(outcome)
    assert (told["prompt"], told["completion"]) == (HARDER, SECOND)
    assert (told["tokens_in"], told["tokens_out"], told["cost"], told["calls"]) == (200, 20, 0.5, 2)
    assert told["prompt_version"] == f"{INSTRUCTION.version}+{RESPONSE.version}"
    assert told["model"] == "teacher"


def test_an_answer_that_fails_leaves_the_new_instruction_with_its_own_answer() -> None:
    outcome, _ = run([said(instruction=HARDER, answer=FIRST), said(answer="I'm sorry, but I cannot help with this.")])
    assert outcome.pair == Pair(HARDER, FIRST)
    assert columns(outcome)["response_status"] == "kept: refusal (answer); I'm sorry"


def test_an_instruction_that_fails_leaves_its_answer_unused_too() -> None:
    outcome, teacher = run([said(instruction="Explain tides!", answer=FIRST), said(answer=SECOND)])
    assert outcome.pair == Pair(ROW["prompt"], SECOND)
    assert FIRST not in teacher.asked[1].messages[0]["content"]


def test_everything_refused_keeps_every_column() -> None:
    bad = said(instruction=HARDER, answer="N/A")
    outcome, _ = run([bad, said(answer="N/A")])
    assert outcome.status == "kept: empty (answer)"
    told = columns(outcome)
    assert (told["prompt"], told["completion"], told["calls"]) == (ROW["prompt"], ROW["completion"], 2)


def test_an_unreadable_reply_is_asked_for_once_more_in_another_form() -> None:
    mark = mark_for("", ROW["prompt"], ROW["completion"])
    text = f"[[{mark} critique]]\nshort\n[[{mark} end]]\n[[{mark} answer]]\n{SECOND}\n[[{mark} end]]"
    garbled, second = replace(said(), text="Certainly!"), replace(said(), text=text)
    outcome, teacher = run([garbled, second], templates=(RESPONSE,))
    assert outcome.pair == Pair(ROW["prompt"], SECOND)
    assert [asked.json_schema is None for asked in teacher.asked] == [False, True]
    assert teacher.asked[0].key("m") != teacher.asked[1].key("m")
    outcome, teacher = run([garbled, garbled, second], templates=(RESPONSE,))
    assert outcome.status == "failed: unreadable reply; no answer in the reply"
    assert len(teacher.asked) == 2
    assert columns(outcome)["tokens_in"] == 200


def test_a_reply_that_was_cut_off_is_not_used_and_not_asked_for_again() -> None:
    outcome, teacher = run([said("length", answer=SECOND)], templates=(RESPONSE,))
    assert outcome.status == "kept: reply cut off; finish reason length"
    assert len(teacher.asked) == 1


def test_no_reply_for_a_record_fails_only_that_call() -> None:
    outcome, _ = run([NoReply("timeout", "no answer in 300 s", 6), said(answer=SECOND)])
    assert outcome.pair == Pair(ROW["prompt"], SECOND)
    assert columns(outcome)["instruction_status"] == "failed: timeout"
    outcome, _ = run([NoReply("context_length", "too long", 1)], templates=(RESPONSE,))
    assert outcome.status == "failed: context length"
    told = columns(outcome)
    assert (told["model"], told["cost"], told["calls"]) == (None, 0, 0)


@pytest.mark.parametrize(("kind", "error"), [("budget", GateError), ("circuit_open", RunError)])
def test_what_is_about_the_run_stops_it(kind: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="used up"):
        run([NoReply(kind, "used up", 0)])


def test_an_unknown_price_is_not_zero() -> None:
    outcome, _ = run([said(cost=None, answer=SECOND)], templates=(RESPONSE,))
    assert columns(outcome)["cost"] is None


def test_records_that_can_be_checked_keep_their_instruction() -> None:
    row = {**ROW, "answer": "42", "completion": "It is six times seven. #### 42"}
    outcome, teacher = run([said(answer=f"{SECOND}\n#### 42")], row)
    assert [asked.template for asked in teacher.asked] == [RESPONSE.version]
    assert "`####`" in teacher.asked[0].messages[0]["content"]
    assert outcome.status == "rewritten"
    assert columns(outcome, row)["completion"].endswith("#### 42")
    outcome, teacher = run([], row, templates=(INSTRUCTION,))
    assert outcome.status == "kept: its instruction must stay"
    assert teacher.asked == []


def test_a_failed_check_keeps_the_record() -> None:
    async def fails(row: Any, answer: str) -> str:
        return "tests fail; wrong_answer in test 1"

    outcome, _ = run([said(answer=SECOND)], templates=(RESPONSE,), verify=fails)
    assert outcome.status == "kept: tests fail; wrong_answer in test 1"


def test_nothing_is_paid_for_what_cannot_be_verified() -> None:
    row = {**ROW, "kind": "code", "tests": [{"input": "1", "output": "2"}], "completion": "```python\nx\n```"}
    outcome, teacher = run([], row, can_test=False)
    assert outcome.status == "kept: its tests cannot be run here"
    assert teacher.asked == []


# Selection


def student(losses: dict[tuple[str, str], tuple[float, float] | str]) -> Any:
    """Measures by pair: (log IFD, log r-IFD), or why there is none."""

    async def measure(turn: Turn) -> Measure | str:
        found = losses[turn.pair.instruction, turn.pair.answer]
        return found if isinstance(found, str) else Measure(2 + found[0], 2.0, 3 + found[1], 3.0, 10, 5)

    return measure


OLD_PAIR = (ROW["prompt"], ROW["completion"])


def select(losses: dict[tuple[str, str], tuple[float, float] | str]) -> tuple[Outcome, Teacher]:
    return run([said(instruction=HARDER, answer=FIRST), said(answer=SECOND)], measure=student(losses))


def test_the_second_call_is_about_the_branch_that_was_kept() -> None:
    outcome, teacher = select({OLD_PAIR: (-0.5, -0.1), (HARDER, FIRST): (-0.4, -0.2), (HARDER, SECOND): (-0.3, -0.3)})
    assert outcome.pair == Pair(HARDER, SECOND)
    assert set(outcome.measures) == {"original", "instruction", "response"}
    worse = {OLD_PAIR: (-0.4, -0.1), (HARDER, FIRST): (-0.5, -0.2), (ROW["prompt"], SECOND): (-0.3, -0.3)}
    outcome, teacher = select(worse)
    assert outcome.pair == Pair(ROW["prompt"], SECOND)
    assert HARDER not in teacher.asked[1].messages[0]["content"]
    assert len(teacher.asked) == 2


def test_the_answer_is_compared_within_its_branch() -> None:
    """r-IFD falls against the original, but not against the branch that was kept."""
    outcome, _ = select({OLD_PAIR: (-0.5, -0.1), (HARDER, FIRST): (-0.4, -0.3), (HARDER, SECOND): (-0.3, -0.2)})
    assert outcome.pair == Pair(HARDER, FIRST)
    assert "r-IFD does not fall" in str(columns(outcome)["response_status"])


def test_both_ratios_must_be_below_one_in_the_end() -> None:
    outcome, _ = select({OLD_PAIR: (-0.5, 0.2), (HARDER, FIRST): (0.1, 0.2), (HARDER, SECOND): (0.1, -0.2)})
    assert outcome.status.startswith("kept: IFD or r-IFD not below 1")
    assert outcome.pair is None


def test_what_the_student_cannot_measure_stays() -> None:
    """An error counted as a ratio of 0 would pass every comparison."""
    outcome, teacher = select({OLD_PAIR: "too long for the student"})
    assert outcome.status == "kept: too long for the student"
    assert teacher.asked == []
    outcome, _ = select({OLD_PAIR: (-0.5, -0.1), (HARDER, FIRST): "no loss", (ROW["prompt"], SECOND): "no loss"})
    assert outcome.status == "kept: no loss"


def test_losses_and_token_counts_are_columns() -> None:
    outcome, _ = select({OLD_PAIR: (-0.5, -0.1), (HARDER, FIRST): (-0.4, -0.2), (HARDER, SECOND): (-0.3, -0.3)})
    first = columns(outcome)["losses"][0]
    assert first == {
        "of": "original", "answer": 1.5, "answer_alone": 2.0, "instruction": 2.9, "instruction_alone": 3.0,
        "answer_tokens": 10, "instruction_tokens": 5,
    }  # fmt: skip


# Columns and parameters


def test_content_columns_come_back_as_they_were_where_nothing_was_rewritten() -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Q", "name": "eve"},
             {"role": "assistant", "content": "A", "weight": 0.5}]  # fmt: skip
    table = records([{"kind": "sft", "messages": turns}, ROW, {"kind": "text", "text": "x"}])
    batch = table.select(list(Reflect.reads)).combine_chunks().to_batches()[0]
    outcomes = [Outcome("kept: x"), Outcome("rewritten", Pair("Q2", "A2")), Outcome("kept: not an instruction")]
    result = pa.Table.from_batches([result_batch(batch, outcomes)])
    after = table
    for name in ("messages", "prompt", "completion"):
        after = after.set_column(after.schema.get_field_index(name), RECORD.field(name), result[name])
    hashes = [[content_hash(content_of(row)) for row in each.select(CONTENT).to_pylist()] for each in (table, after)]
    assert [one == other for one, other in zip(*hashes, strict=True)] == [True, False, True]


CONTENT = ["kind", "messages", "text", "prompt", "completion"]


def test_a_plain_url_with_model_and_price_beside_it() -> None:
    short = Reflect.model_validate(
        {"endpoint": "http://localhost:8000/v1", "model": "m", "price": {"input": 1, "output": 2}, "budget": {"usd": 5}}
    )
    assert short.endpoint.url == "http://localhost:8000/v1"
    assert short.endpoint.price is not None
    assert Reflect.model_validate({"endpoint": {"url": "http://localhost:8000/v1", "model": "m"}}).endpoint.model == "m"
    assert Reflect.model_validate({"endpoint": "", "model": "m"}).endpoint.url is None


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"endpoint": "http://x/v1", "model": "m", "select": "ifd"}, "student"),
        ({"endpoint": "http://x/v1", "model": "m", "student": "s"}, "select"),
        ({"endpoint": "http://x/v1", "model": "m", "budget": {"usd": 5}}, "price"),
        ({"endpoint": "http://x/v1"}, "model"),
        ({"endpoint": "http://user:pass@x/v1", "model": "m"}, "key"),
        ({"endpoint": "http://x/v1", "model": "m", "share": 0}, "share"),
    ],
)
def test_parameters_that_contradict_each_other(values: dict[str, Any], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        Reflect.model_validate(values)


def test_check_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no model to ask and no journal"):
        Reflect.model_validate({"model": "m"}).check()
    with pytest.raises(RecipeError, match="no journal at"):
        Reflect.model_validate({"model": "m", "replay": str(tmp_path / "gone.jsonl")}).check()
    with pytest.raises(RecipeError, match="template"):
        Reflect.model_validate({"endpoint": "http://x/v1", "model": "m", "templates": {"response": "gone.j2"}}).check()


def test_neither_server_nor_budget_changes_what_is_computed() -> None:
    base = {"endpoint": "http://a/v1", "model": "m"}
    scoring = Reflect.model_validate(base).scoring()
    assert Reflect.model_validate({**base, "endpoint": "http://b/v1", "budget": {"tokens": 5}}).scoring() == scoring
    for change in ({"model": "n"}, {"mode": "response"}, {"gates": {"near_copy": 0.8}}, {"share": 0.5}, {"attempt": 2}):
        assert Reflect.model_validate({**base, **change}).scoring() != scoring


def test_shares_are_nested_and_of_the_size_asked_for() -> None:
    hashes = [f"{n * 2654435761 % 2**32:08x}" for n in range(10_000)]
    small, large = ({h for h in hashes if in_share(h, share)} for share in (0.1, 0.3))
    assert small < large
    assert abs(len(small) - 1000) < 100
    assert all(in_share(h, 1.0) for h in (*hashes, "ffffffff"))


def test_the_estimate_counts_the_calls_that_would_be_made() -> None:
    stage = Reflect.model_validate(
        {"endpoint": "http://x/v1", "model": "m", "price": {"input": 1, "output": 2}, "share": 0.5}
    )
    sample = records([ROW, {**ROW, "answer": "42"}, {"kind": "text", "text": "x"}]).select(list(stage.reads))
    told = stage.estimate(sample, 3000)
    assert told["requests"] == "1,500"  # two for an instruction, one where it stays, none for text; half of the rows
    assert "USD" in told["cost"]
    assert stage.estimate(sample.slice(0, 0), 3000) == {}
