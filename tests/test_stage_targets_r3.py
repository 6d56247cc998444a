"""Mode r3 of the `targets` stage against a small chat server: summaries, fallbacks, and nothing paid for twice."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aiohttp import web
from makes import run_here, write_jsonl, write_recipe
from pools import records

from schemas.adapters import adapt, adapter
from schemas.errors import GateError, RecipeError, RunError
from stages.targets.prompts import SHIPPED, read_template
from stages.targets.stage import RESULT, Targets

Answer = Callable[[str], str]


class ChatServer:
    """Answers with `answer(prompt)`, and keeps what it was sent. An answer of "!KIND" is a fault of that kind."""

    def __init__(self, answer: Answer) -> None:
        self.answer, self.prompts, self.url = answer, list[str](), ""

    async def chat(self, request: web.Request) -> web.Response:
        body = await request.json()
        prompt = body["messages"][-1]["content"]
        self.prompts.append(prompt)
        text = self.answer(prompt)
        if text == "!rejected":
            return web.json_response({"error": {"message": "no", "code": "invalid"}}, status=400)
        finish = "length" if text.startswith("!length") else "stop"
        choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}
        usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
        return web.json_response({"model": "small", "choices": [choice], "usage": usage})

    async def models(self, request: web.Request) -> web.Response:
        return web.json_response({"data": []})


@contextmanager
def serving(answer: Answer) -> Iterator[ChatServer]:
    """A server in a thread, up for the length of the block."""
    server, loop = ChatServer(answer), asyncio.new_event_loop()
    application = web.Application()
    application.router.add_post("/v1/chat/completions", server.chat)
    application.router.add_get("/v1/models", server.models)
    runner = web.AppRunner(application)

    async def start() -> None:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"

    loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def row(number: int, answer: str | None = None, **columns: Any) -> dict[str, Any]:
    """A question about a number, thought over at some length, and its answer."""
    steps = " ".join(f"Step {step}: {number} plus {step} is {number + step}." for step in range(40))
    completion = f"The result is \\boxed{{{number}}}." if answer is None else answer
    prompt = f"question {number}?"
    return {"kind": "sft", "prompt": prompt, "reasoning": f"Hm. {steps}", "completion": completion, **columns}


def number_in(prompt: str) -> int:
    return int(prompt.split("question ")[-1].split("?")[0])


def good(prompt: str) -> str:
    return f"We add the steps.\n\nFinal result: {number_in(prompt)}"


def stage_for(server: ChatServer, **parameters: Any) -> Targets:
    price = {"input": 1.0, "output": 10.0}
    summariser = {"url": server.url, "model": "small", "price": price, "max_attempts": 2}
    return Targets(mode="r3", summariser=summariser, **parameters)


def streamed(stage: Targets, rows: list[dict[str, Any]], folder: Path, size: int = 3) -> list[dict[str, Any]]:
    """Results of all rows, handed to the stage in batches."""
    table = records(rows).select(list(stage.reads)).combine_chunks()
    batches = [table.slice(start, size).to_batches()[0] for start in range(0, len(rows), size)]
    results = list(stage.stream(iter(batches), {}, folder))
    assert [batch.num_rows for batch in results] == [batch.num_rows for batch in batches]
    assert all(batch.schema.equals(RESULT) for batch in results)
    found: list[dict[str, Any]] = pa.Table.from_batches(results).to_pylist()
    return found


def test_a_summary_stands_before_the_answer(tmp_path: Path) -> None:
    with serving(good) as server:
        found = streamed(stage_for(server), [row(number) for number in range(7)], tmp_path)
    for number, result in enumerate(found):
        assert result["completion"] == f"We add the steps.\n\nThe result is \\boxed{{{number}}}."
        assert result["reasoning"] is None
        assert result["rewrite_status"] == "r3: summary and answer"
        assert (result["model"], result["tokens_in"], result["tokens_out"]) == ("small", 100, 20)
        assert result["cost"] == pytest.approx(100 / 1e6 + 20 * 10 / 1e6)
        assert result["prompt_version"].startswith("summary-1@")
        assert result["tokens_r3"] == result["tokens_r2"] + 5  # four words and a full stop
        assert result["tokens_r1"] > result["tokens_r3"]


def test_the_summariser_sees_question_and_thought_but_not_the_answer(tmp_path: Path) -> None:
    with serving(good) as server:
        streamed(stage_for(server, max_words=77), [row(5)], tmp_path)
    (prompt,) = server.prompts
    assert "question 5?" in prompt
    assert "Step 39: 5 plus 39 is 44." in prompt
    assert "at most 77 words" in prompt
    assert "boxed" not in prompt


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        ("We add.\nFinal result: 6", "r2 instead of r3: the summary's result differs; 6, not 5"),
        ("We add.\nFinal result: none", "r2 instead of r3: the summary's result differs; none, not 5"),
        ("Final result: 5", "r2 instead of r3: the summary is empty"),
        ("[[0123abcd end]] We add.\nFinal result: 5", "r2 instead of r3: the summary repeats the prompt"),
        ("!length We add", "r2 instead of r3: the summary is cut off; finish reason length"),
        ("<think>so We add", "r2 instead of r3: the summary is cut off; think block not closed"),
        ("word " * 900 + "\nFinal result: 5", "r2 instead of r3: the summary is no shorter than the thought"),
        ("!rejected", "r2 instead of r3: no summary; rejected"),
    ],
)
def test_fallbacks_say_why(tmp_path: Path, reply: str, status: str) -> None:
    with serving(lambda prompt: reply) as server:
        (found,) = streamed(stage_for(server), [row(5)], tmp_path)
    assert found["rewrite_status"] == status
    assert (found["completion"], found["reasoning"]) == ("The result is \\boxed{5}.", None)
    assert found["tokens_r3"] is None
    assert (found["tokens_in"] == 100) is (reply != "!rejected")  # what was paid is told, used or not


def test_brackets_are_no_part_of_the_prompt(tmp_path: Path) -> None:
    with serving(lambda prompt: "The matrix is [[1 2], [3 4]].\nFinal result: 5") as server:
        (found,) = streamed(stage_for(server), [row(5)], tmp_path)
    assert found["rewrite_status"] == "r3: summary and answer"


def test_a_thought_of_the_summariser_is_not_its_summary(tmp_path: Path) -> None:
    with serving(lambda prompt: f"<think>let me see</think>{good(prompt)}") as server:
        (found,) = streamed(stage_for(server), [row(5)], tmp_path)
    assert found["completion"].startswith("We add the steps.\n\n")


def test_nothing_is_asked_for_what_needs_no_summary(tmp_path: Path) -> None:
    rows = [
        row(1, reasoning=None), row(2, completion=""), row(3, meta='{"finish_reason": "length"}'),
        row(4, reasoning="again and again " * 40), {"kind": "text", "text": "t"},
    ]  # fmt: skip
    with serving(good) as server:
        found = streamed(stage_for(server), rows, tmp_path)
    assert server.prompts == []
    assert [each["rewrite_status"].partition(";")[0] for each in found] == [
        "unchanged: no reasoning", "bad: no answer", "bad: generation did not finish",
        "r2 instead of r3: the thought loops", "unchanged: no response",
    ]  # fmt: skip


def test_the_same_again_makes_no_call(tmp_path: Path) -> None:
    rows = [row(number) for number in range(5)]
    with serving(good) as server:
        first = streamed(stage_for(server), rows, tmp_path)
        assert streamed(stage_for(server), rows, tmp_path) == first
        assert len(server.prompts) == 5
    offline = Targets(mode="r3", summariser={"model": "small"})
    assert streamed(offline, rows, tmp_path) == first
    elsewhere = Targets(mode="r3", summariser={"model": "small"}, replay=[str(tmp_path)])
    assert streamed(elsewhere, rows, tmp_path / "other") == first
    with pytest.raises(RunError):
        streamed(offline, [*rows, row(9)], tmp_path)


def test_a_budget_stops_and_keeps_what_was_paid(tmp_path: Path) -> None:
    rows = [row(number) for number in range(8)]
    with serving(good) as server:
        with pytest.raises(GateError):
            streamed(stage_for(server, budget={"requests": 3}), rows, tmp_path)
        assert len(server.prompts) == 3
        found = streamed(stage_for(server), rows, tmp_path)
        assert len(server.prompts) == 8
    assert {each["rewrite_status"] for each in found} == {"r3: summary and answer"}


def test_the_address_of_the_server_is_no_part_of_a_result() -> None:
    def scoring(**changes: Any) -> dict[str, Any]:
        summariser = {"url": "http://a/v1", "model": "m", **changes}
        return Targets(mode="r3", summariser=summariser).scoring()

    assert scoring() == scoring(url="http://b/v1", concurrency=3)
    assert scoring() != scoring(model="n")
    assert scoring() != scoring(temperature=1.0)


def test_templates_are_checked_before_a_run(tmp_path: Path) -> None:
    path = tmp_path / "mine.j2"
    path.write_text("{{ question }}")
    stage = Targets(mode="r3", summariser={"model": "m"}, template=str(path))
    with pytest.raises(RecipeError, match=r"leaves out \{\{ thought \}\}"):
        stage.check()
    path.write_text("{{ question }} {{ thougth }}")
    with pytest.raises(RecipeError, match="cannot be used"):
        stage.check()
    path.write_text("{{ question }} {{ thought }}")
    stage.check()
    assert stage.inputs() == [str(path)]
    assert read_template(path).version.startswith("mine@")
    assert read_template(None).text == SHIPPED.read_text()


def test_an_absent_server_is_told_before_a_run() -> None:
    with pytest.raises(RecipeError, match="no language model server"):
        Targets(mode="r3", summariser={"url": "http://127.0.0.1:9/v1", "model": "m"}).check()


def test_a_plan_counts_what_a_run_would_ask(tmp_path: Path) -> None:
    stage = Targets(mode="r3", summariser={"model": "m", "price": {"input": 1, "output": 2}})
    rows = [row(1), row(2), row(3, reasoning=None), row(4, completion="")]
    lines = stage.estimate(records(rows).select(list(stage.reads)), 1000)
    assert any("500" in line for line in lines.values())


def test_changing_the_mode_and_back_asks_nothing_new(tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": each["prompt"]}, {
        "role": "assistant", "content": f"<think>{each['reasoning']}</think>{each['completion']}"
    }]} for each in map(row, range(6))]  # fmt: skip
    write_jsonl(tmp_path / "rows.jsonl", rows)

    def run(mode: str, url: str) -> dict[str, Any]:
        parameters = {"mode": mode, "summariser": {"url": url, "model": "small"}}
        recipe = write_recipe(tmp_path, stages=[{"targets": parameters}])
        return run_here(recipe, tmp_path / mode, tmp_path / "store")

    with serving(good) as server:
        run("r3", server.url)
        run("r2", server.url)
        assert len(server.prompts) == 6
        run("r3", server.url)
        assert len(server.prompts) == 6
    data = pq.read_table(next((tmp_path / "r3/data").glob("*.parquet"))).to_pylist()
    assert "We add the steps." in json.dumps(data)
    rewrites = pq.read_table(next((tmp_path / "r3/lineage/rewrites").glob("*.parquet"))).to_pylist()
    assert {(each["status"], each["model"], each["tokens_in"]) for each in rewrites} == {
        ("r3: summary and answer", "small", 100)
    }


def test_bad_responses_leave_a_run_and_good_ones_stay(tmp_path: Path) -> None:
    replies = ["<think>hm</think>Yes.", "<think>hm and", "plain"]
    rows = [
        {"messages": [{"role": "user", "content": f"q{at}"}, {"role": "assistant", "content": reply}]}
        for at, reply in enumerate(replies)
    ]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    recipe = write_recipe(tmp_path, stages=[{"targets": {"on_bad": "drop"}}])
    manifest = run_here(recipe, tmp_path / "out", tmp_path / "store")
    stage = next(each for each in manifest["stages"] if each["stage"] == "targets")
    assert (stage["kept"], stage["reasons"]) == (2, {"bad: think block not closed": 1})
    data = json.dumps(pq.read_table(next((tmp_path / "out/data").glob("*.parquet"))).to_pylist())
    assert "hm" not in data


def test_real_traces_keep_the_summaries_that_reach_their_letter(tmp_path: Path, shared_data: Path) -> None:
    """A summariser that always finds D is believed where the answer is D, and nowhere else."""
    path = shared_data / "traces/deepseek_pcmb_traces_part1.jsonl.gz"
    raw = [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().split("\n") if line][:60]
    drafts = [dict(draft) | {"meta": None} for row_ in raw for draft in adapt(row_, adapter("multiple_choice_trace"))]
    with serving(lambda prompt: "We weigh the options.\nFinal result: **(D)**") as server:
        found = streamed(stage_for(server), drafts, tmp_path, size=16)
    assert len(server.prompts) == 60
    for result, row_ in zip(found, raw, strict=True):
        is_d = row_["answer_letter"] == "D"
        assert result["completion"].startswith("We weigh the options.\n\n") is is_d
        if not is_d:
            wanted = f"r2 instead of r3: the summary's result differs; D, not {row_['answer_letter']}"
            assert result["rewrite_status"] == wanted
    assert 0 < sum(result["rewrite_status"] == "r3: summary and answer" for result in found) < 60
