"""A chat server that misbehaves on purpose, in a thread (`serving`) or as a program (`python tests/llm_server.py`).

It counts, by the last message of a request, what it received and what it answered: a response counts as answered when
its last byte was handed to the system and it was a complete, well-formed completion.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from hashlib import sha256
from typing import Any

from aiohttp import web

FAULTS = (
    "429", "429_date", "500", "503", "reset", "stall", "drip", "truncated", "malformed", "shape", "no_choices",
    "error_200",
)  # fmt: skip
"""Attempts that give no answer."""
ANSWERS = ("ok", "length", "filter", "twice", "empty", "not_the_schema")
"""Complete answers, some of which a caller cannot use."""


@dataclass
class Plan:
    """How the server behaves. `script`: modes of a request's first, second, ... attempt (the last one stays)."""

    share: float = 0.0
    modes: Sequence[str] = FAULTS
    script: Sequence[str] = ()
    delay_s: float = 0.0
    stall_s: float = 30.0
    wait: str = "0.02"
    hold_after: int | None = None
    rejects: Sequence[str] = ()
    rejects_max_tokens: bool = False
    key: str | None = None
    usage: bool = True
    tokens_in: int = 10
    tokens_out: int = 5


@dataclass
class Seen:
    """What the server saw."""

    received: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    modes: Counter[str] = field(default_factory=Counter)
    active: int = 0
    most_active: int = 0


class Server:
    """The application and its counts."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.seen = plan, Seen()
        self.app = web.Application()
        self.app.router.add_post("/v1/chat/completions", self.chat)
        self.app.router.add_get("/v1/models", self.models)
        self.app.router.add_get("/stats", self.stats)
        self.app.router.add_post("/control", self.control)

    async def models(self, request: web.Request) -> web.Response:
        """Refuses a wrong key, else an empty list."""
        refused = self.plan.key is not None and request.headers.get("Authorization") != f"Bearer {self.plan.key}"
        return web.json_response({"data": []}, status=401 if refused else 200)

    async def stats(self, request: web.Request) -> web.Response:
        """The counts."""
        seen = self.seen
        return web.json_response({"received": seen.received, "answered": seen.answered, "active": seen.active})

    async def control(self, request: web.Request) -> web.Response:
        """Change the plan."""
        for key, value in (await request.json()).items():
            setattr(self.plan, key, value)
        return web.json_response({})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """One completion, or one fault."""
        body = await request.json()
        content = body["messages"][-1]["content"]
        attempt = self.seen.received[content]
        self.seen.received[content] += 1
        self.seen.bodies.append(body)
        self.seen.times.append(asyncio.get_running_loop().time())
        self.seen.active += 1
        self.seen.most_active = max(self.seen.most_active, self.seen.active)
        try:
            if (refusal := self._refusal(request, body)) is not None:
                return refusal
            mode = self._mode(content, attempt)
            self.seen.modes[mode] += 1
            await asyncio.sleep(self.plan.delay_s)
            return await self._respond(request, body, mode, content)
        finally:
            self.seen.active -= 1

    def _mode(self, content: str, attempt: int) -> str:
        if self.plan.script:
            return self.plan.script[min(attempt, len(self.plan.script) - 1)]
        draw = int.from_bytes(sha256(f"{content}/{attempt}".encode()).digest()[:8], "big") / 2**64
        return self.plan.modes[int(draw / self.plan.share * len(self.plan.modes))] if draw < self.plan.share else "ok"

    def _refusal(self, request: web.Request, body: dict[str, Any]) -> web.Response | None:
        given = request.headers.get("Authorization", "")
        if self.plan.key is not None and given != f"Bearer {self.plan.key}":
            return _error(401, f"Incorrect API key provided: {given}")
        if self.plan.rejects_max_tokens and "max_tokens" in body:
            return _error(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        kind = body.get("response_format", {}).get("type")
        return _error(400, f"response_format {kind} is not supported") if kind in self.plan.rejects else None

    async def _respond(self, request: web.Request, body: dict[str, Any], mode: str, content: str) -> web.StreamResponse:
        if mode in ANSWERS:
            return await self._answer(request, body, mode, content)
        if mode == "reset":
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        if mode == "stall":
            await asyncio.sleep(self.plan.stall_s)
            return _error(500, "too late")
        if mode == "drip":
            return await self._drip(request, json.dumps(self._completion(body, "ok", content)).encode())
        return self._fault(body, mode, content)

    def _fault(self, body: dict[str, Any], mode: str, content: str) -> web.Response:
        whole = json.dumps(self._completion(body, "ok", content)).encode()
        match mode:
            case "429":
                return _error(429, "slow down", {"Retry-After": self.plan.wait})
            case "429_date":
                date = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
                return _error(429, "slow down", {"Retry-After": date})
            case "500" | "503" | "400" | "401" | "403" | "404" | "422" | "402":
                return _error(int(mode), "broken")
            case "context":
                return _error(400, "This model's maximum context length is 10 tokens")
            case "quota":
                return _json(429, {"error": {"message": "no credit", "code": "insufficient_quota"}})
            case "filter_400":
                return _json(400, {"error": {"message": "no", "code": "content_filter"}})
            case "truncated":
                return _raw(whole[: len(whole) // 2])
            case "malformed":
                return _raw(b"<html>502 Bad Gateway</html>")
            case "shape":
                return _json(200, {"choices": [{"message": "hello"}]})
            case "no_choices":
                return _json(200, {"choices": []})
            case "error_200":
                return _json(200, {"error": {"message": "upstream", "code": 502}})
            case "echo":
                return _error(500, f"you asked: {content}")
        raise ValueError(mode)

    async def _answer(self, request: web.Request, body: dict[str, Any], mode: str, content: str) -> web.StreamResponse:
        while self.plan.hold_after is not None and self.seen.answered.total() >= self.plan.hold_after:
            await asyncio.sleep(0.005)
        if request.transport is None or request.transport.is_closing():
            return _error(500, "nobody is listening any more")
        self.seen.answered[content] += 1
        response = _json(200, self._completion(body, mode, content))
        try:
            await response.prepare(request)
            await response.write_eof()
        except BaseException:
            self.seen.answered[content] -= 1
            raise
        return response

    async def _drip(self, request: web.Request, whole: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(whole)), "Content-Type": "application/json"})
        await response.prepare(request)
        with suppress(ConnectionError):
            for byte in whole:
                await response.write(bytes([byte]))
                await asyncio.sleep(self.plan.stall_s / len(whole))
        return response

    def _completion(self, body: dict[str, Any], mode: str, content: str) -> dict[str, Any]:
        text = {"empty": "", "not_the_schema": '{"surprise": 1}'}.get(mode, f"reply to {content}")
        reason = {"length": "length", "filter": "content_filter"}.get(mode, "stop")
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason}
        value: dict[str, Any] = {"id": "x", "object": "chat.completion", "created": 0, "model": body["model"]}
        value["choices"] = [choice, choice] if mode == "twice" else [choice]
        if self.plan.usage:
            total = self.plan.tokens_in + self.plan.tokens_out
            value["usage"] = {
                "prompt_tokens": self.plan.tokens_in, "completion_tokens": self.plan.tokens_out, "total_tokens": total,
            }  # fmt: skip
        return value


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    return _json(status, {"error": {"message": message}}, headers)


def _json(status: int, value: Any, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response(value, status=status, headers=headers)


def _raw(data: bytes) -> web.Response:
    return web.Response(body=data, content_type="application/json")


@dataclass(frozen=True)
class Running:
    """A server that runs in a thread."""

    url: str
    plan: Plan
    seen: Seen


@contextmanager
def serving(plan: Plan) -> Iterator[Running]:
    """The server on a free port of this machine, in a thread of its own."""
    server, ready, stop = Server(plan), threading.Event(), asyncio.Event()
    found: list[Any] = []

    async def main() -> None:
        async with _listening(server, 0) as port:
            found.extend([port, asyncio.get_running_loop()])
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    thread.start()
    ready.wait(10)
    try:
        yield Running(f"http://127.0.0.1:{found[0]}/v1", plan, server.seen)
    finally:
        found[1].call_soon_threadsafe(stop.set)
        thread.join(10)


class _listening:
    def __init__(self, server: Server, port: int) -> None:
        self._runner = web.AppRunner(server.app, shutdown_timeout=0.1, access_log=None)
        self._port = port

    async def __aenter__(self) -> int:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, backlog=1024)
        await site.start()
        return int(self._runner.addresses[0][1])

    async def __aexit__(self, *error: object) -> None:
        await self._runner.cleanup()


async def _main(plan: Plan) -> None:
    async with _listening(Server(plan), 0) as port:
        print(port, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("plan", nargs="?", default="{}", help="JSON of Plan's fields")
    asyncio.run(_main(Plan(**json.loads(parser.parse_args().plan))))
