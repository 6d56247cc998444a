"""The client against a server that misbehaves one way at a time."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import uvloop
from llm_server import Plan, Running, serving

from schemas.errors import GateError, RecipeError, RunError
from stages.llm import Budget, Client, Endpoint, Journal, NoReply, Price, Reply, Request, Usage, or_stop, reachable
from stages.llm.gate import Pace

QUICK = Pace(first=0.005, longest=0.05, patience=5.0, probes=(0.05, 0.05, 0.05))
Loop = Callable[[], asyncio.AbstractEventLoop]
ON_BOTH_LOOPS = pytest.mark.parametrize(
    "loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}


def ask(number: int = 0, **values: Any) -> Request:
    return Request(({"role": "user", "content": f"question {number}"},), "t@1", **values)


def endpoint(server: Running, **values: Any) -> Endpoint:
    return Endpoint(**({"url": server.url, "model": "m", "timeout_s": 5.0, "concurrency": 8} | values))


def answers(
    end: Endpoint,
    requests: Sequence[Request],
    folder: Path | None = None,
    budget: Budget = Budget(),
    loop: Loop = asyncio.new_event_loop,
) -> tuple[list[Reply | NoReply], Usage]:
    async def main() -> tuple[list[Reply | NoReply], Usage]:
        with Journal(folder) as journal:
            async with Client(end, journal, budget, QUICK) as client:
                return list(await asyncio.gather(*map(client.ask, requests))), client.usage

    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(main())


def one_by_one(end: Endpoint, requests: Sequence[Request]) -> tuple[list[Reply | NoReply], Usage]:
    async def main() -> tuple[list[Reply | NoReply], Usage]:
        async with Client(end, pace=QUICK) as client:
            return [await client.ask(request) for request in requests], client.usage

    return asyncio.run(main())


def only(end: Endpoint, request: Request, folder: Path | None = None) -> Reply | NoReply:
    return answers(end, [request], folder)[0][0]


def test_a_reply_with_its_tokens_and_its_cost() -> None:
    with serving(Plan()) as server:
        end = endpoint(server, price=Price(input=1.0, output=100.0))
        (reply,), usage = answers(end, [ask(seed=1)])
    assert reply == Reply("reply to question 0", "stop", "m", 10, 5, 0.00051, False)
    assert usage == Usage(answered=1, tokens_in=10, tokens_out=5, cost=0.00051)
    assert server.seen.bodies[0]["max_tokens"] == 2048
    assert server.seen.bodies[0]["temperature"] == 0.0


@ON_BOTH_LOOPS
@pytest.mark.parametrize(
    "mode", ["429", "500", "503", "reset", "truncated", "malformed", "shape", "no_choices", "error_200"]
)
def test_one_fault_costs_one_more_attempt(mode: str, loop: Loop) -> None:
    with serving(Plan(script=[mode, "ok"])) as server:
        (reply,), usage = answers(endpoint(server), [ask()], loop=loop)
    assert isinstance(reply, Reply)
    assert (usage.retried, usage.answered, usage.failed) == (1, 1, {})
    assert server.seen.received["question 0"] == 2


@ON_BOTH_LOOPS
@pytest.mark.parametrize("mode", ["stall", "drip"])
def test_a_response_that_takes_too_long_is_asked_for_again(mode: str, loop: Loop) -> None:
    with serving(Plan(script=[mode, "ok"])) as server:
        (reply,), usage = answers(endpoint(server, timeout_s=0.3), [ask()], loop=loop)
    assert isinstance(reply, Reply)
    assert usage.retried == 1


@ON_BOTH_LOOPS
@pytest.mark.parametrize("by_whom", ["caller", "clock"])
def test_a_response_that_nobody_waits_for_loses_its_connection(by_whom: str, loop: Loop) -> None:
    async def main(server: Running) -> None:
        timeout_s = 0.3 if by_whom == "clock" else 60.0
        async with Client(endpoint(server, timeout_s=timeout_s, max_attempts=1), pace=QUICK) as client:
            asked = asyncio.ensure_future(client.ask(ask()))
            while not server.seen.active:
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.1)  # the response has begun: a byte every tenth of a second
            if by_whom == "caller":
                asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
            assert asked.cancelled() == (by_whom == "caller")
            async with asyncio.timeout(5):
                while server.seen.active:  # the server notices with one of its next bytes
                    await asyncio.sleep(0.005)
            server.plan.script = ["ok"]
            assert isinstance(await client.ask(ask()), Reply)

    with serving(Plan(script=["drip"], stall_s=30.0)) as server, asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main(server))


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("429", "rate_limited"), ("500", "server_error"), ("reset", "connection"), ("truncated", "malformed"),
        ("stall", "timeout"),
    ],
)  # fmt: skip
def test_a_fault_that_stays_is_recorded(mode: str, kind: str, tmp_path: Path) -> None:
    with serving(Plan(script=[mode])) as server:
        end = endpoint(server, max_attempts=3, timeout_s=0.2)
        (answer,), usage = answers(end, [ask()], tmp_path)
        assert isinstance(answer, NoReply)
        assert (answer.kind, answer.attempts, answer.stops) == (kind, 3, False)
        assert answer.detail
        assert usage.failed == {kind: 1}
        assert server.seen.received["question 0"] == 3
        assert f'"failed":"{kind}"' in (tmp_path / "journal-0001.jsonl").read_text()
        server.plan.script = ["ok"]
        assert isinstance(only(end, ask(), tmp_path), Reply)  # a failure is never replayed


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("400", "rejected"), ("422", "rejected"), ("context", "context_length"), ("filter_400", "content_filter"),
     ("filter", "content_filter"), ("empty", "empty")],
)  # fmt: skip
def test_what_trying_again_cannot_mend_is_asked_once(mode: str, kind: str) -> None:
    with serving(Plan(script=[mode])) as server:
        answer = only(endpoint(server), ask())
    assert isinstance(answer, NoReply)
    assert (answer.kind, answer.attempts) == (kind, 1)
    assert server.seen.received["question 0"] == 1


def test_a_withheld_reply_is_paid_for_all_the_same() -> None:
    with serving(Plan(script=["filter"])) as server:
        _, usage = answers(endpoint(server, price=Price(input=0, output=1e6)), [ask()])
    assert (usage.tokens_out, usage.cost, usage.answered) == (5, 5.0, 0)


@pytest.mark.parametrize(("mode", "reason"), [("length", "length"), ("twice", "stop"), ("not_the_schema", "stop")])
def test_replies_that_the_caller_judges_are_kept(mode: str, reason: str, tmp_path: Path) -> None:
    with serving(Plan(script=[mode])) as server:
        for _ in range(2):
            reply = only(endpoint(server), ask(), tmp_path)
            assert isinstance(reply, Reply)
            assert reply.finish_reason == reason
    assert server.seen.received["question 0"] == 1


def test_missing_token_counts_are_estimated() -> None:
    with serving(Plan(usage=False)) as server:
        (reply,), usage = answers(endpoint(server), [ask()])
    assert isinstance(reply, Reply)
    assert (reply.tokens_in, reply.tokens_out) == (3, 5)  # 10 and 19 characters
    assert usage.estimated == 1


def test_retry_after_is_honoured_in_seconds_and_as_a_date() -> None:
    for mode, least in (("429", 0.4), ("429_date", 0.9)):
        with serving(Plan(script=[mode, "ok"], wait="0.4")) as server:
            assert isinstance(only(endpoint(server), ask()), Reply)
        first, second = server.seen.times
        assert second - first >= least
        assert second - first < 4


def test_a_pause_holds_for_everybody() -> None:
    with serving(Plan(script=["429", "ok"], wait="0.3")) as server:
        answers(endpoint(server, concurrency=1), [ask(0), ask(1)])
    assert server.seen.times[1] - server.seen.times[0] >= 0.3


def test_a_waiting_retry_leaves_its_place_to_others() -> None:
    slow = Pace(first=1.0)

    async def main(server: Running) -> list[str]:
        order = list[str]()
        async with Client(endpoint(server, concurrency=1), pace=slow) as client:

            async def one(number: int) -> None:
                await client.ask(ask(number))
                order.append(f"question {number}")

            first = asyncio.ensure_future(one(0))
            while not server.seen.received["question 0"]:
                await asyncio.sleep(0.005)
            server.plan.script = ["ok"]
            await asyncio.gather(first, *(one(number) for number in range(1, 6)))
        return order

    with serving(Plan(script=["500"])) as server:
        assert asyncio.run(main(server))[-1] == "question 0"


def test_the_window_is_kept_and_shrinks_when_the_server_objects() -> None:
    async def main(server: Running) -> int:
        async with Client(endpoint(server, concurrency=16), pace=QUICK) as client:
            await asyncio.gather(*(client.ask(ask(number)) for number in range(64)))
            return client.window

    with serving(Plan(delay_s=0.01)) as server:
        assert asyncio.run(main(server)) == 16
        assert server.seen.most_active == 16
    with serving(Plan(script=["503", "ok"])) as server:
        assert asyncio.run(main(server)) < 16


def test_rates_are_kept() -> None:
    with serving(Plan(tokens_in=100, tokens_out=100)) as server:
        started = time.monotonic()
        answers(endpoint(server, requests_per_minute=1200), [ask(number) for number in range(28)])
        assert time.monotonic() - started >= 0.4  # 20 at once, then one every 50 ms
        started = time.monotonic()
        answers(endpoint(server, tokens_per_minute=60_000, max_tokens=100), [ask(number) for number in range(12)])
        assert time.monotonic() - started >= 0.8  # 200 tokens each, 1,000 a second


def test_equal_requests_under_way_are_sent_once(tmp_path: Path) -> None:
    with serving(Plan(delay_s=0.05)) as server:
        found, usage = answers(endpoint(server), [ask(0)] * 5 + [ask(0, sample=1)], tmp_path)
    assert server.seen.received["question 0"] == 2
    assert sorted(one.replayed for one in found if isinstance(one, Reply)) == [False, False, True, True, True, True]
    assert (usage.answered, usage.shared, usage.tokens_out) == (2, 4, 10)


def test_when_the_first_asker_is_cancelled_the_next_one_asks() -> None:
    async def main(server: Running) -> Reply | NoReply:
        async with Client(endpoint(server), pace=QUICK) as client:
            first, second = (asyncio.ensure_future(client.ask(ask())) for _ in range(2))
            while not server.seen.active:
                await asyncio.sleep(0.005)
            first.cancel()
            return await second

    with serving(Plan(delay_s=0.1)) as server:
        assert isinstance(asyncio.run(main(server)), Reply)


def test_a_full_disk_ends_every_equal_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise RunError("the disk is full")

    async def main(server: Running) -> list[Any]:
        with Journal(tmp_path) as journal:
            monkeypatch.setattr(journal, "put", full)
            async with Client(endpoint(server), journal, pace=QUICK) as client:
                return await asyncio.gather(*(client.ask(ask()) for _ in range(3)), return_exceptions=True)

    with serving(Plan(delay_s=0.02)) as server:
        assert [type(one) for one in asyncio.run(main(server))] == [RunError] * 3


def test_a_journal_replays_without_a_server(tmp_path: Path) -> None:
    with serving(Plan()) as server:
        (paid,), _ = answers(endpoint(server, price=Price(input=1, output=1)), [ask()], tmp_path)
        (again,), usage = answers(endpoint(server), [ask()], tmp_path)
    assert isinstance(paid, Reply)
    assert isinstance(again, Reply)
    assert (again.text, again.cost, again.replayed) == (paid.text, paid.cost, True)
    assert usage == Usage(replayed=1)
    (known, unknown), _ = answers(Endpoint(model="m"), [ask(), ask(1)], tmp_path)
    assert known == again
    assert isinstance(unknown, NoReply)
    assert (unknown.kind, unknown.stops) == ("not_in_journal", True)
    with pytest.raises(RunError, match="set `url`"):
        or_stop(unknown)


@pytest.mark.parametrize("budget", [Budget(requests=7), Budget(tokens=7 * 15 + 90), Budget(usd=7 * 15e-6 + 90e-6)])
def test_a_budget_stops_cleanly_and_keeps_everything(budget: Budget, tmp_path: Path) -> None:
    with serving(Plan(delay_s=0.005)) as server:
        end = endpoint(server, price=Price(input=1, output=1), max_tokens=40)
        found, usage = answers(end, [ask(number) for number in range(30)], tmp_path, budget)
        replies = [one for one in found if isinstance(one, Reply)]
        assert len(replies) == server.seen.answered.total() == usage.answered
        assert 7 <= len(replies) <= 13
        assert usage.tokens_in + usage.tokens_out <= (budget.tokens or 10**9)
        assert (usage.cost or 0) <= (budget.usd or 10**9)
        refused = [one for one in found if isinstance(one, NoReply)]
        assert {one.kind for one in refused} == {"budget"}
        with pytest.raises(GateError, match="budget"):
            or_stop(refused[0])
        rest, _ = answers(end, [ask(number) for number in range(30)], tmp_path)
        assert all(isinstance(one, Reply) for one in rest)
        assert max(server.seen.answered.values()) == 1


@pytest.mark.parametrize("budget", [Budget(requests=3), Budget(requests=3, tokens=10**6)])
def test_requests_that_fail_use_up_the_budget_once_each(budget: Budget) -> None:
    with serving(Plan(script=("500",))) as server:
        end = endpoint(server, concurrency=1, max_attempts=2)
        found, usage = answers(end, [ask(number) for number in range(8)], budget=budget)
    assert [one.kind for one in found if isinstance(one, NoReply)] == ["server_error"] * 3 + ["budget"] * 5
    assert sorted(server.seen.received.values()) == [2, 2, 2]
    assert usage.failed == {"server_error": 3, "budget": 5}


def test_structured_output_falls_back_and_remembers() -> None:
    requests = [ask(number, json_schema=SCHEMA) for number in range(6)]
    for rejects, kind in (
        ((), "json_schema"),
        (("json_schema",), "json_object"),
        (("json_schema", "json_object"), None),
    ):
        with serving(Plan(rejects=rejects)) as server:
            found, usage = one_by_one(endpoint(server), requests)
        assert all(isinstance(one, Reply) for one in found)
        asked = [body.get("response_format", {}).get("type") for body in server.seen.bodies]
        assert asked[len(rejects) :] == [kind] * 6
        assert len(asked) == 6 + len(rejects)
        assert (usage.retried, usage.failed) == (0, {})


def test_structured_output_as_told() -> None:
    with serving(Plan(rejects=["json_object"])) as server:
        assert isinstance(only(endpoint(server, structured="off"), ask(json_schema=SCHEMA)), Reply)
        assert "response_format" not in server.seen.bodies[0]
        answer = only(endpoint(server, structured="json_object"), ask(json_schema=SCHEMA))
        assert isinstance(answer, NoReply)
        assert answer.kind == "rejected"


def test_max_tokens_under_its_new_name() -> None:
    with serving(Plan(rejects_max_tokens=True)) as server:
        found, _ = one_by_one(endpoint(server), [ask(0), ask(1)])
    assert all(isinstance(one, Reply) for one in found)
    assert [sorted({"max_tokens", "max_completion_tokens"} & set(body)) for body in server.seen.bodies] == [
        ["max_tokens"], ["max_completion_tokens"], ["max_completion_tokens"],
    ]  # fmt: skip


def test_a_server_that_is_gone_stops_the_run() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        end = Endpoint(url=f"http://127.0.0.1:{unused.getsockname()[1]}/v1", model="m", concurrency=8)
        found, _ = answers(end, [ask(number) for number in range(50)])
        assert {one.kind for one in found if isinstance(one, NoReply)} == {"circuit_open"}
        assert len(found) == 50
        with pytest.raises(RunError, match="gave up on http"):
            or_stop(found[0])
        with pytest.raises(RecipeError, match="no language model server answers"):
            reachable(end)


def test_a_server_that_comes_back_is_used_again() -> None:
    patient = QUICK._replace(probes=(0.1,) * 20)

    async def main(server: Running) -> list[Reply | NoReply]:
        async with Client(endpoint(server, concurrency=4, max_attempts=50), pace=patient) as client:
            asked = [asyncio.ensure_future(client.ask(ask(number))) for number in range(40)]
            while server.seen.modes["500"] < 25:
                await asyncio.sleep(0.005)
            sent = server.seen.received.total()
            await asyncio.sleep(0.35)
            assert server.seen.received.total() - sent <= 6  # probes only
            server.plan.script = ["ok"]
            return list(await asyncio.gather(*asked))

    with serving(Plan(script=["500"])) as server:
        assert all(isinstance(one, Reply) for one in asyncio.run(main(server)))


@pytest.mark.parametrize(
    ("mode", "hint"),
    [("401", "OPENAI_API_KEY"), ("404", "model 'm'"), ("402", "no credit"), ("quota", "no credit"), ("403", "the key")],
)
def test_what_every_request_would_meet_stops_at_once(mode: str, hint: str) -> None:
    with serving(Plan(script=[mode])) as server:
        found, _ = answers(endpoint(server, concurrency=2), [ask(number) for number in range(50)])
    assert {one.kind for one in found if isinstance(one, NoReply)} == {"circuit_open"}
    assert hint in found[0].detail if isinstance(found[0], NoReply) else False
    assert server.seen.received.total() <= 4


def test_rejections_from_the_first_on_stop_the_run() -> None:
    with serving(Plan(script=["422"])) as server:
        found, _ = one_by_one(endpoint(server), [ask(number) for number in range(50)])
    assert server.seen.received.total() == 20
    assert isinstance(found[-1], NoReply)
    assert "rejected the first 20" in found[-1].detail


def test_a_message_that_cannot_be_sent() -> None:
    with serving(Plan()) as server:
        answer = only(endpoint(server), Request(({"role": "user", "content": "a\ud800"},), "t@1"))
    assert isinstance(answer, NoReply)
    assert (answer.kind, answer.attempts) == ("rejected", 0)


def test_a_client_that_is_not_open() -> None:
    with serving(Plan()) as server, pytest.raises(RunError, match="async with"):
        asyncio.run(Client(endpoint(server)).ask(ask()))


def test_reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    reachable(Endpoint(model="m"))
    with serving(Plan(key="sk-right-key-0123456789")) as server:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-right-key-0123456789")
        reachable(endpoint(server))
        monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-key-0123456789")
        with pytest.raises(RecipeError, match="OPENAI_API_KEY") as found:
            reachable(endpoint(server))
        assert "sk-wrong" not in str(found.value)


def test_a_form_once_found_is_kept_through_faults() -> None:
    with serving(Plan(rejects=["json_schema"], script=["500", "reset", "ok"])) as server:
        answer = only(endpoint(server, max_attempts=3), ask(json_schema=SCHEMA))
    assert isinstance(answer, NoReply | Reply)
    kinds = [body["response_format"]["type"] for body in server.seen.bodies]
    assert kinds == ["json_schema", "json_object", "json_object", "json_object"][: len(kinds)]
    assert isinstance(answer, Reply)
