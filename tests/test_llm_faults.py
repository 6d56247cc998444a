"""Many requests, many faults, and the process killed: nothing is lost and nothing is paid twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request as HttpRequest
from urllib.request import urlopen

import pytest
from llm_server import ANSWERS, FAULTS, Plan, serving

from stages.llm import Client, Endpoint, Journal, NoReply, Reply, Request, Usage, in_order
from stages.llm.gate import Pace

ROOT = Path(__file__).resolve().parents[1]
QUICK = Pace(first=0.005, longest=0.05)
SLOW = ("stall", "drip", "429_date")
MODES = (*(mode for mode in FAULTS + ANSWERS[1:] if mode not in SLOW), "stall", "drip")
"""Without dates: they have whole seconds, which is too slow for so many."""
CHILD = """
import asyncio, sys
from pathlib import Path
from stages.llm import Client, Endpoint, Journal, Request, in_order
from stages.llm.gate import Pace

url, folder, count, concurrency = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
endpoint = Endpoint(url=url, model="m", concurrency=concurrency, timeout_s=60)
with Journal(folder) as journal:
    client = Client(endpoint, journal, pace=Pace(first=0.005, longest=0.05))
    work = lambda n: client.ask(Request(({"role": "user", "content": f"question {n}"},), "t@1"))
    for answer in in_order(range(count), work, 2 * concurrency, [client]):
        pass
print(client.usage.answered, client.usage.replayed, client.usage.failed)
"""


def ask(number: int) -> Request:
    return Request(({"role": "user", "content": f"question {number}"},), "t@1")


def ask_all(url: str, folder: Path, count: int) -> tuple[list[Reply | NoReply], Usage]:
    end = Endpoint(url=url, model="m", concurrency=64, timeout_s=4, max_attempts=4)
    with Journal(folder) as journal:
        client = Client(end, journal, pace=QUICK)
        return list(in_order(map(ask, range(count)), client.ask, 256, [client])), client.usage


def entries(folder: Path) -> list[dict[str, Any]]:
    lines = [line for path in folder.glob("*.jsonl") for line in path.read_bytes().split(b"\n")]
    return [json.loads(line) for line in lines if line]


@pytest.mark.parametrize(
    ("count", "modes"),
    [(1_000, 3 * MODES[:-2] + MODES[-2:]), pytest.param(5_000, 9 * MODES[:-2] + MODES[-2:], marks=pytest.mark.slow)],
    ids=["1,000", "5,000"],
)
def test_requests_a_fifth_of_which_fail(tmp_path: Path, count: int, modes: tuple[str, ...]) -> None:
    with serving(Plan(share=0.2, modes=modes, stall_s=60.0)) as server:
        found, usage = ask_all(server.url, tmp_path, count)
        assert len(found) == count
        assert set(server.seen.modes) == {"ok", *MODES}
        replies = [one for one in found if isinstance(one, Reply)]
        kinds = Counter(one.kind for one in found if isinstance(one, NoReply))
        assert usage.answered == len(replies)
        assert usage.failed == kinds
        assert max(server.seen.answered.values()) == 1
        kept = entries(tmp_path)
        assert len(kept) == count
        assert len({one["key"] for one in kept if one["ok"]}) == len(replies)
        assert Counter(one["failed"] for one in kept if not one["ok"]) == kinds
        asked = server.seen.received.total()
        again, second = ask_all(server.url, tmp_path, count)
        assert [one.text for one in again if isinstance(one, Reply) and one.replayed] == [one.text for one in replies]
        assert second.replayed == len(replies)
        assert server.seen.received.total() - asked == second.retried + count - len(replies)


@contextmanager
def program(plan: Mapping[str, Any]) -> Iterator[str]:
    """The server as a program of its own; its address."""
    command = [sys.executable, str(ROOT / "tests" / "llm_server.py"), json.dumps(plan)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.wait()


def call(url: str, value: Any = None) -> Any:
    data = None if value is None else json.dumps(value).encode()
    with urlopen(HttpRequest(url, data=data), timeout=30) as response:
        return json.load(response)


def child(url: str, folder: Path, count: int, concurrency: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, f"{url}/v1", str(folder), str(count), str(concurrency)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def kill(process: subprocess.Popen[str]) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def wait_until(done: Callable[[], bool]) -> None:
    limit = time.monotonic() + 120
    while not done():
        assert time.monotonic() < limit, "took too long"
        time.sleep(0.01)


def answered(url: str) -> Counter[str]:
    return Counter(call(f"{url}/stats")["answered"])


def test_kill_at_ten_moments_with_every_answer_received(tmp_path: Path) -> None:
    """The server holds back everything after n answers, so that nothing answered is still on its way at the kill.

    Then it is exact: what the server has answered is in the journal, and is never asked for again.
    """
    moments = sorted(random.Random(7).sample(range(1, 390), 10))
    with program({"hold_after": 0}) as url:
        for moment in moments:
            call(f"{url}/control", {"hold_after": moment})
            process = child(url, tmp_path, 400, 16)
            wait_until(lambda moment=moment: len(entries(tmp_path)) >= moment)  # type: ignore[misc]
            kill(process)
            assert answered(url).total() == len(entries(tmp_path)) == moment
        call(f"{url}/control", {"hold_after": None})
        out, _ = child(url, tmp_path, 400, 16).communicate(timeout=240)
        assert out.split()[:2] == [str(400 - moments[-1]), str(moments[-1])]
        counts = answered(url)
    assert len(counts) == counts.total() == 400
    assert len(entries(tmp_path)) == len({one["key"] for one in entries(tmp_path)}) == 400


def test_kill_at_ten_moments_in_full_flow(tmp_path: Path) -> None:
    """Killed at any moment, only answers on their way can be lost: sent, and not yet read by the killed process.

    So for each kill, what the server has answered in total and the journal lacks is at most the window (16 requests),
    and those are all that is asked for twice.
    """
    draw, lost = random.Random(11), 0
    with program({"delay_s": 0.004, "share": 0.1, "modes": ["500", "reset", "truncated"]}) as url:
        for step in range(10):
            process = child(url, tmp_path, 1200, 16)
            wait_until(lambda step=step: len(list(tmp_path.glob("*"))) > 0 and answered(url).total() > 60 * step)  # type: ignore[misc]
            time.sleep(draw.uniform(0.0, 0.05))
            kill(process)
            wait_until(lambda: call(f"{url}/stats")["active"] == 0)
            gone = answered(url).total() - lost - sum(_complete(tmp_path))
            assert 0 <= gone <= 16
            lost += gone
        out, _ = child(url, tmp_path, 1200, 16).communicate(timeout=240)
        counts = answered(url)
    assert out.endswith("{}\n")
    assert len(counts) == 1200
    assert counts.total() == 1200 + lost
    assert len(list(tmp_path.iterdir())) == 1
    assert len(entries(tmp_path)) == len({one["key"] for one in entries(tmp_path)}) == 1200


def _complete(folder: Path) -> list[bool]:
    """One for every reply in a complete line; a torn last line is a reply that was on its way."""
    return [b'"ok":1' in line for path in folder.glob("*") for line in path.read_bytes().split(b"\n")[:-1]]


@pytest.mark.parametrize("processes", [2])
def test_processes_share_a_folder(tmp_path: Path, processes: int) -> None:
    with program({"delay_s": 0.002}) as url:
        running = [child(url, tmp_path, 300, 8) for _ in range(processes)]
        assert [process.wait(240) for process in running] == [0] * processes
        before = answered(url).total()
        out, _ = child(url, tmp_path, 300, 8).communicate(timeout=240)
        assert out.split()[:2] == ["0", "300"]
        assert answered(url).total() == before
    assert len({one["key"] for one in entries(tmp_path)}) == 300
