"""API keys stay in memory: nothing that is written, printed or raised has them."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest
from llm_server import Plan, Running, serving

from schemas.errors import RecipeError
from stages.llm import Client, Endpoint, Journal, NoReply, Reply, Request, or_stop
from stages.llm.gate import Pace
from stages.llm.secrets import load_key, scrubber

KEY = "sk-test-0123456789abcdefghij"
QUICK = Pace(first=0.001, longest=0.01, probes=(0.01, 0.01))


def ask(number: int, text: str = "question") -> Request:
    return Request(({"role": "user", "content": f"{text} {number}"},), "t@1")


def run(server: Running, folder: Path, texts: list[str]) -> tuple[list[Reply | NoReply], str]:
    shown = list[str]()

    async def main() -> list[Reply | NoReply]:
        end = Endpoint(url=server.url, model="m", timeout_s=0.3, max_attempts=2, concurrency=4)
        with Journal(folder) as journal:
            async with Client(end, journal, pace=QUICK) as client:
                found = await asyncio.gather(*(client.ask(ask(0, text)) for text in texts))
                shown.extend([repr(client), str(vars(client)), repr(client.usage), repr(end), end.model_dump_json()])
                return list(found)

    found = asyncio.run(main())
    return found, "\n".join([*shown, *map(repr, found)])


@pytest.mark.parametrize("mode", ["ok", "401", "429", "500", "reset", "truncated", "stall", "filter", "echo"])
def test_the_key_is_nowhere(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving(Plan(key=KEY, script=[mode], stall_s=1)) as server:
        found, shown = run(server, tmp_path, [f"tell me {KEY} backwards"])  # the server repeats it, as an answer or not
        assert server.seen.received.total() >= 1
    raised = ""
    if isinstance(found[0], NoReply):
        try:
            raise found[0].error()
        except Exception:
            raised = traceback.format_exc()
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert bool(written) == (mode != "401")  # that says nothing about the request
    out = capfd.readouterr()
    # the caller's own request holds it here; what the client makes of it must not
    for place in (written.decode(), shown.replace(f"tell me {KEY}", ""), raised, out.out, out.err, caplog.text):
        assert KEY not in place
    if mode == "ok":
        assert isinstance(found[0], Reply)
        assert "***" in found[0].text


def test_a_refused_key_is_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving(Plan(key="sk-another-key-0123456789")) as server:
        (answer,), shown = run(server, tmp_path, ["question"])
    assert isinstance(answer, NoReply)
    assert answer.kind == "circuit_open"
    assert "Incorrect API key provided: Bearer ***" in answer.detail
    assert "OPENAI_API_KEY" in answer.detail
    assert KEY not in shown
    with pytest.raises(Exception, match="OPENAI_API_KEY") as found:
        or_stop(answer)
    assert KEY not in str(found.value)


def test_the_key_comes_from_the_named_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER_KEY", f" {KEY}\n")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert load_key(Endpoint(model="m", api_key_env="OTHER_KEY")) == KEY
    assert load_key(Endpoint(model="m")) is None


def test_without_a_key_no_header_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with serving(Plan(key="")) as server:  # wants exactly `Bearer `
        (answer,), _ = run(server, tmp_path, ["question"])
    assert isinstance(answer, NoReply)
    assert "Incorrect API key provided:" in answer.detail
    assert "Bearer" not in answer.detail


class Block:
    """Stands for Prefect's Secret, whose server takes seconds to start."""

    @staticmethod
    async def aload(name: str) -> Any:
        if name != "llm-key":
            raise ValueError(f"no block {name}")

        class Loaded:
            def get(self) -> str:
                return KEY

        return Loaded()


def test_the_key_may_come_from_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefect.blocks.system.Secret", Block)
    assert load_key(Endpoint(model="m", api_key_block="llm-key")) == KEY
    with pytest.raises(RecipeError, match="Secret block 'other'"):
        load_key(Endpoint(model="m", api_key_block="other"))


def test_a_block_serves_a_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefect.blocks.system.Secret", Block)

    async def main(url: str) -> Reply | NoReply:
        async with Client(Endpoint(url=url, model="m", api_key_block="llm-key")) as client:
            return await client.ask(ask(0))

    with serving(Plan(key=KEY)) as server:
        assert isinstance(asyncio.run(main(server.url)), Reply)


def test_placeholders_are_no_secrets() -> None:
    assert scrubber("EMPTY")("an EMPTY set") == "an EMPTY set"
    assert scrubber(None)("text") == "text"
    assert scrubber(KEY)(f"a {KEY} b {KEY}") == "a *** b ***"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_real_block(tmp_path: Path) -> None:
    home = {"PREFECT_HOME": str(tmp_path), "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "240"}
    save = f"from prefect.blocks.system import Secret; Secret(value={KEY!r}).save('llm-key')"
    load = "from stages.llm import Endpoint; from stages.llm.secrets import load_key; import sys\n"
    load += "sys.stdout.write(load_key(Endpoint(model='m', api_key_block='llm-key')))"
    root = Path(__file__).resolve().parents[1]
    for code in (save, load):
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=root, env=os.environ | home, capture_output=True, text=True, timeout=280
        )
        assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == KEY
