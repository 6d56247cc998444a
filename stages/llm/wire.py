"""The chat-completions protocol as pure functions: a request's bytes, and what a response means."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal, NamedTuple

import orjson

from stages.llm.request import Kind, Request

Level = Literal["json_schema", "json_object", "off"]
LengthField = Literal["max_tokens", "max_completion_tokens"]

_LONG_CONTEXT = ("context_length", "context length", "context window", "maximum context", "prompt is too long")
_FILTERED = ("content_filter", "content_policy", "content management policy")
_OVERLOADED = frozenset({429, 503, 529})
_AGAIN = frozenset({408, 409, 425, 429})


class Answer(NamedTuple):
    """A well-formed completion. Token counts are None where the server reports none."""

    text: str
    reasoning: str
    finish_reason: str
    model: str
    tokens_in: int | None
    tokens_out: int | None


@dataclass(frozen=True, slots=True)
class Fault:
    """An attempt that gave no completion.

    `again`: sending it again may help. `overload`: the server wants fewer requests. `wait_s`: its Retry-After.
    `fatal`: every other request would meet the same end (key, model, quota); `status` is 0 where there was no response.
    """

    kind: Kind
    detail: str
    again: bool = False
    overload: bool = False
    wait_s: float | None = None
    fatal: bool = False
    status: int = 0


def body(request: Request, model: str, level: Level, length: LengthField) -> bytes:
    """The JSON to post for a request whose `max_tokens` and `temperature` are set."""
    payload: dict[str, Any] = {
        "model": model,
        "messages": request.messages,
        "temperature": request.temperature,
        length: request.max_tokens,
    }
    if request.stop:
        payload["stop"] = request.stop
    if request.top_p is not None:
        payload["top_p"] = request.top_p
    if request.seed is not None:
        payload["seed"] = request.seed
    if request.json_schema is not None and level != "off":
        payload["response_format"] = _response_format(request.json_schema, level)
    return orjson.dumps(payload)


def _response_format(schema: Mapping[str, Any], level: Level) -> dict[str, Any]:
    if level == "json_object":
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema, "strict": True}}


def read(status: int, headers: Mapping[str, str], data: bytes) -> Answer | Fault:
    """What a response means."""
    if status != 200:
        return _refusal(status, headers, data)
    try:
        value = _loads(data)
    except (ValueError, RecursionError):
        return Fault("malformed", f"the response is not JSON: {_start(data)}", again=True, status=status)
    if isinstance(value, dict) and value.get("error") and not value.get("choices"):
        return _refusal(_status_within(value["error"]), headers, data)  # some gateways put errors into a 200
    answer = _answer(value)
    return answer or Fault("malformed", f"not a chat completion: {_start(data)}", again=True, status=status)


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds that a response asks to wait: `retry-after-ms`, or `Retry-After` in seconds or as an HTTP date."""
    value = headers.get("retry-after-ms")
    try:
        if value is not None:
            return max(0.0, float(value) / 1000)
        value = headers.get("Retry-After")
        return None if value is None else max(0.0, float(value))
    except ValueError:
        return _until(value, now)


def _until(value: str | None, now: datetime) -> float | None:
    try:
        date = parsedate_to_datetime(value or "")
    except (ValueError, OverflowError):
        return None
    aware = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (aware - now).total_seconds())


def _answer(value: Any) -> Answer | None:
    try:
        choice = value["choices"][0]
        message = choice["message"]
        text, reason = _text(message.get("content")), choice.get("finish_reason")
        reasoning = message.get("reasoning_content") or message.get("reasoning") or ""
    except (KeyError, IndexError, TypeError, AttributeError):
        return None
    if text is None:
        return None
    usage = value.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return Answer(
        _clean(text), _clean(str(reasoning)), str(reason or ""), str(value.get("model") or ""),
        _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")),
    )  # fmt: skip


def _text(content: Any) -> str | None:
    """Content as a string: servers send a string, null (a refusal, a tool call) or a list of parts."""
    if isinstance(content, str):
        return content
    if content is None:
        return ""
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        return "".join(part["text"] for part in content if isinstance(part.get("text"), str))
    return None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None


def _loads(data: bytes) -> Any:
    """JSON, with the NaN and lone surrogates that some servers send: asking again would not make them go away."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return json.loads(data)


def _clean(text: str) -> str:
    """Text that can be written as UTF-8: lone surrogates (half an emoji at the token limit) become U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _refusal(status: int, headers: Mapping[str, str], data: bytes) -> Fault:
    detail, text = f"HTTP {status}: {_message(data)}", data[:4000].decode("utf-8", "replace").lower()
    wait = retry_after(headers, datetime.now(UTC))
    if status == 429 and "insufficient_quota" in text:
        return Fault("rate_limited", detail, fatal=True, status=status)
    if status in _AGAIN or status >= 500:
        kind: Kind = "rate_limited" if status == 429 else "timeout" if status == 408 else "server_error"
        return Fault(kind, detail, again=True, overload=status in _OVERLOADED, wait_s=wait, status=status)
    if status == 413 or any(sign in text for sign in _LONG_CONTEXT):
        return Fault("context_length", detail, status=status)
    if any(sign in text for sign in _FILTERED):
        return Fault("content_filter", detail, status=status)
    return Fault("rejected", detail, fatal=status in (401, 402, 403, 404), status=status)


def _message(data: bytes) -> str:
    """The sentence within an error body, or how the body begins."""
    try:
        value = orjson.loads(data)
        error = value.get("error", value)
        found = error if isinstance(error, str) else error.get("message") or error.get("detail")
    except (orjson.JSONDecodeError, AttributeError):
        found = None
    return found[:500] if isinstance(found, str) and found else _start(data)


def _status_within(error: Any) -> int:
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and 400 <= code < 600 else 502


def _start(data: bytes) -> str:
    return data[:200].decode("utf-8", "replace") or "(nothing)"
