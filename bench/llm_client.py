"""The LLM client measured: `python bench/llm_client.py` prints one JSON line per figure and writes llm_client.md.

A mock chat server (a process of its own, answering after 100 ms) is asked by raw aiohttp, by `stages.llm` (with its
journal), by the openai SDK and by distilabel's client (installed into a virtual environment of its own; skipped with
the reason where that fails). aiohttp and `stages.llm` run on asyncio's own event loop and on uvloop's; `in_order`
always takes uvloop's. Every run is a fresh process; rounds take turns, so that a busy machine is busy for all. CPU is
user and system time of the asking process from the first request to the last reply.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import version
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
DELAY_S: Final = 0.1
REQUESTS: Final = {16: 320, 128: 1536, 512: 2560}
ROUNDS: Final = 5
MODEL: Final = "mock"
PROMPT: Final = "Rewrite the following instruction so that it is harder and self-contained. " * 20
REPLY: Final = "Here is a harder instruction, with an answer that shows every step. " * 15
SLOW: Final = ("openai SDK", "distilabel")
"""Measured in the first round only, with a quarter of the requests (at 512 in flight they take minutes)."""
ON_UVLOOP: Final = " on uvloop"
IN_ORDER: Final = "curatrix, in order"
BASES: Final = ("aiohttp", "aiohttp on uvloop")
"""What throughput is a share of: the first as most programs run it, the second as fast as it gets."""
CONTENDERS: Final = (*BASES, "curatrix", "curatrix on uvloop", IN_ORDER, *SLOW)

Ask = Callable[[int], Awaitable[Any]]


class Mock(asyncio.Protocol):
    """As little of an HTTP/1.1 server as it takes, so that the server is not what is measured."""

    BODY = json.dumps(
        {
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": MODEL,
            "choices": [
                {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": REPLY}},
            ],
            "usage": {"prompt_tokens": 380, "completion_tokens": 250, "total_tokens": 630},
        }
    ).encode()  # fmt: skip
    RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.data = transport, b""

    def data_received(self, data: bytes) -> None:
        """Answer every complete request, 100 ms later."""
        self.data += data
        while (end := self.data.find(b"\r\n\r\n")) >= 0:
            head = self.data[:end].lower()
            start = head.find(b"content-length:")
            size = end + 4 + (int(head[start + 15 :].split(b"\r\n", 1)[0]) if start >= 0 else 0)
            if len(self.data) < size:
                return
            self.data = self.data[size:]
            asyncio.get_running_loop().call_later(DELAY_S, self._answer)

    def _answer(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(self.RESPONSE)


async def serve() -> None:
    """The mock server; prints its port."""
    server = await asyncio.get_running_loop().create_server(Mock, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def mock_server() -> Iterator[str]:
    """The mock server as a process of its own; its base URL."""
    process = subprocess.Popen([sys.executable, __file__, "serve"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1"
    finally:
        process.kill()
        process.wait()


def messages(number: int) -> list[dict[str, str]]:
    """A chat that differs from every other."""
    return [
        {"role": "system", "content": "You improve training data."},
        {"role": "user", "content": f"{number} {PROMPT}"},
    ]


@asynccontextmanager
async def by_aiohttp(url: str, concurrency: int, folder: Path) -> AsyncIterator[Ask]:
    """What one would write by hand: no retries, no journal, no limits."""
    import aiohttp

    async def ask(number: int) -> str:
        body = {"model": MODEL, "messages": messages(number), "temperature": 0.0, "max_tokens": 2048}
        async with session.post(f"{url}/chat/completions", json=body) as response:
            reply = await response.json()
            return str(reply["choices"][0]["message"]["content"])

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield ask


@asynccontextmanager
async def by_curatrix(url: str, concurrency: int, folder: Path) -> AsyncIterator[Ask]:
    """`stages.llm.Client` with journal, limits, budget and prices."""
    from stages.llm import Journal, Request

    with Journal(folder) as journal:
        async with _client(url, concurrency, journal) as client:
            yield lambda number: client.ask(Request(tuple(messages(number)), "bench@1"))


def _client(url: str, concurrency: int, journal: Any) -> Any:
    from stages.llm import Budget, Client, Endpoint, Price

    endpoint = Endpoint(url=url, model=MODEL, concurrency=concurrency, price=Price(input=0.1, output=0.4))
    return Client(endpoint, journal, Budget(usd=1e6))


@asynccontextmanager
async def by_openai(url: str, concurrency: int, folder: Path) -> AsyncIterator[Ask]:
    """The SDK as its documentation shows it."""
    from openai import AsyncOpenAI

    async with AsyncOpenAI(base_url=url, api_key="none") as client:

        async def ask(number: int) -> Any:
            chat: Any = messages(number)
            return await client.chat.completions.create(model=MODEL, messages=chat, temperature=0.0, max_tokens=2048)

        yield ask


@asynccontextmanager
async def by_distilabel(url: str, concurrency: int, folder: Path) -> AsyncIterator[Ask]:
    """distilabel's `OpenAILLM.agenerate`, the coroutine its pipelines gather."""
    from distilabel.models import OpenAILLM  # type: ignore[import-not-found]

    llm = OpenAILLM(model=MODEL, base_url=url, api_key="none")
    llm.load()
    yield lambda number: llm.agenerate(input=messages(number), max_new_tokens=2048, temperature=0.0)


WAYS: Final = {
    "aiohttp": by_aiohttp, "curatrix": by_curatrix, "openai SDK": by_openai, "distilabel": by_distilabel,
}  # fmt: skip


async def drive(ask: Ask, first: int, count: int, concurrency: int) -> None:
    """So many workers, each asking one after the other."""
    numbers = iter(range(first, first + count))

    async def worker() -> None:
        for number in numbers:
            await ask(number)

    await asyncio.gather(*(worker() for _ in range(concurrency)))


async def measure(way: str, url: str, concurrency: int, requests: int, folder: Path) -> dict[str, float]:
    """Warm up (connections, imports), then measure."""
    async with WAYS[way](url, concurrency, folder) as ask:
        await drive(ask, 0, concurrency, concurrency)
        wall, cpu = time.perf_counter(), time.process_time()
        await drive(ask, concurrency, requests, concurrency)
        return _figures(requests, time.perf_counter() - wall, time.process_time() - cpu)


def measure_in_order(url: str, concurrency: int, requests: int, folder: Path) -> dict[str, float]:
    """The same from synchronous code, as stages use it: `in_order` reading ahead twice the window."""
    from stages.llm import Journal, Request, in_order

    with Journal(folder) as journal:
        client = _client(url, concurrency, journal)
        asked = (Request(tuple(messages(number)), "bench@1") for number in range(requests + concurrency))
        replies = in_order(asked, client.ask, 2 * concurrency, [client])
        for _ in range(concurrency):
            next(replies)
        wall, cpu = time.perf_counter(), time.process_time()
        done = sum(1 for _ in replies)
        return _figures(done, time.perf_counter() - wall, time.process_time() - cpu)


def _figures(requests: int, wall: float, cpu: float) -> dict[str, float]:
    return {"per_s": round(requests / wall, 1), "cpu_ms": round(1000 * cpu / requests, 3)}


def one(way: str, url: str, concurrency: int, requests: int) -> None:
    """One measurement, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        if way == IN_ORDER:
            figures = measure_in_order(url, concurrency, requests, Path(folder))
        else:
            work = measure(way.removesuffix(ON_UVLOOP), url, concurrency, requests, Path(folder))
            with asyncio.Runner(loop_factory=_uvloop() if way.endswith(ON_UVLOOP) else None) as runner:
                figures = runner.run(work)
    print(json.dumps(figures))


def _uvloop() -> Callable[[], asyncio.AbstractEventLoop]:
    import uvloop

    return uvloop.new_event_loop


def distilabel_python(folder: Path) -> tuple[str | None, str]:
    """An interpreter that has distilabel, or the reason why there is none."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    install = [str(python), "-m", "pip", "install", "-q", "distilabel[openai]", "requests", "orjson"]
    done = subprocess.run(install, capture_output=True, text=True, timeout=900)
    if done.returncode:
        return None, f"distilabel cannot be installed: {done.stderr.strip().splitlines()[-1][:200]}"
    probe = subprocess.run(
        [str(python), "-c", "from distilabel.models import OpenAILLM"], capture_output=True, text=True
    )
    return (
        (None, f"distilabel cannot be imported: {probe.stderr.strip().splitlines()[-1][:200]}")
        if probe.returncode
        else (str(python), "")
    )


def run_one(python: str, way: str, url: str, concurrency: int, requests: int) -> dict[str, float] | str:
    """One measurement in a fresh process, or how it failed."""
    command = [python, __file__, "one", way, url, str(concurrency), str(requests)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        return done.stderr.strip().splitlines()[-1][:200]
    figures: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def compare(pythons: Mapping[str, str], rounds: int) -> Iterator[dict[str, Any]]:
    """Medians over rounds that take turns; throughput as a share of each of BASES' in the same round."""
    with mock_server() as url:
        for concurrency, requests in REQUESTS.items():
            found = {way: list[dict[str, float] | str]() for way in pythons}
            for number, way in product(range(rounds), pythons):
                if way not in SLOW:
                    found[way].append(run_one(pythons[way], way, url, concurrency, requests))
                elif number == 0:
                    found[way].append(run_one(pythons[way], way, url, concurrency, requests // 4))
            for way, figures in found.items():
                row: dict[str, Any] = {"client": way, "concurrency": concurrency, "rounds": len(figures)}
                row["requests"] = requests // 4 if way in SLOW else requests
                yield row | _medians(figures) | _shares(figures, found)


Figures = Sequence[dict[str, float] | str]
"""What each round gave: figures, or why it failed."""


def _medians(rounds: Figures) -> dict[str, Any]:
    good = [one for one in rounds if isinstance(one, dict)]
    bad = [one for one in rounds if isinstance(one, str)]
    row: dict[str, Any] = {"failed": len(bad), "why": bad[0]} if bad else {}
    return row | {key: median(one[key] for one in good) for key in ("per_s", "cpu_ms") if good}


def _shares(rounds: Figures, found: Mapping[str, Figures]) -> dict[str, float]:
    shares: dict[str, float] = {}
    for base in BASES:
        pairs = zip(rounds, found.get(base, ()), strict=False)
        ratios = [a["per_s"] / b["per_s"] for a, b in pairs if isinstance(a, dict) and isinstance(b, dict)]
        if ratios:
            shares[f"share of {base}"] = round(median(ratios), 3)
    return shares


def _line(row: Mapping[str, Any]) -> str:
    name = f"| {row['client']} | {row['concurrency']} | {row['requests']:,} |"
    if "per_s" not in row:
        return f"{name} failed | | | |"
    shares = (f"{row[key]:.1%}" if (key := f"share of {base}") in row else "" for base in BASES)
    return f"{name} {row['per_s']:,.0f} | {' | '.join(shares)} | {row['cpu_ms']:.3f} |"


def page(rows: Sequence[Mapping[str, Any]], rounds: int, load: str, notes: Sequence[str]) -> str:
    """The results as Markdown."""
    command = shlex.join(["python", "bench/llm_client.py", *sys.argv[1:]])
    turns = f"medians of {rounds} rounds that take turns ({' and '.join(SLOW)}: one round)"
    head = (
        f"# LLM client\n\n`{command}`: a mock server in its own process answers "
        f"after {1000 * DELAY_S:.0f} ms; {turns}, each in a fresh process; {os.cpu_count()} cores, shared with the "
        f"server; {_versions()}. {load}\n\n`of aiohttp` is the throughput relative to raw aiohttp (no retries, no "
        "journal) on asyncio's own event loop in the same round, `of uvloop` relative to raw aiohttp on uvloop's. "
        "`curatrix` is the client in a loop of the caller's; `in order`, as stages use it, makes its own, on uvloop. "
        "CPU is user and system time of the asking process.\n\n"
        "| client | in flight | requests | requests/s | of aiohttp | of uvloop | CPU ms per request |\n"
        "|---|--:|--:|--:|--:|--:|--:|\n"
    )
    failed = [
        f"{row['client']} at {row['concurrency']}: {row['failed']} of {row['rounds']} rounds failed ({row['why']})"
        for row in rows
        if "failed" in row
    ]
    notes = [*notes, *failed]
    return head + "\n".join(map(_line, rows)) + "\n" + "".join(f"\n{note}\n" for note in notes)


def _versions() -> str:
    names = [f"{name} {version(name)}" for name in ("aiohttp", "uvloop")]
    return f"Python {platform.python_version()}, {', '.join(names)}"


def main() -> None:
    """Every contender, or one measurement, or the mock server."""
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(serve())
        return
    if sys.argv[1:2] == ["one"]:
        one(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--clients", nargs="*", default=CONTENDERS, choices=CONTENDERS)
    parser.add_argument("--venv", type=Path, default=Path(tempfile.gettempdir()) / "curatrix-bench-distilabel")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "llm_client.md")
    arguments = parser.parse_args()
    pythons = dict.fromkeys(arguments.clients, sys.executable)
    notes = []
    if "distilabel" in pythons:
        python, reason = distilabel_python(arguments.venv)
        pythons["distilabel"] = python or ""
        if python is None:
            del pythons["distilabel"]
            notes.append(f"distilabel: skipped. {reason}")
    rows, before = [], os.getloadavg()[0]
    for row in compare(pythons, arguments.rounds):
        rows.append(row)
        print(json.dumps(row), flush=True)
    load = f"Load average before and after: {before:.1f}, {os.getloadavg()[0]:.1f}."
    arguments.out.write_text(page(rows, arguments.rounds, load, notes))


if __name__ == "__main__":
    main()
