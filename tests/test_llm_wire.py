"""The chat protocol: what is posted, what responses mean, what names a request."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from stages.llm import Budget, Endpoint, Estimate, Price, Request, estimate
from stages.llm.dialect import Dialect, Form
from stages.llm.request import Kind
from stages.llm.wire import Answer, Fault, body, read, retry_after

ASK = Request(({"role": "user", "content": "hello"},), "t@1", max_tokens=7, temperature=0.0)
NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


def completion(**message: Any) -> bytes:
    choice = {"message": {"role": "assistant", "content": "hi"} | message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    return json.dumps({"choices": [choice], "model": "m", "usage": usage}).encode()


def test_body_has_what_was_asked_and_nothing_else() -> None:
    plain = json.loads(body(ASK, "m", "json_schema", "max_tokens"))
    assert plain == {
        "model": "m",
        "messages": [{"role": "user", "content": "hello"}],
        "temperature": 0.0,
        "max_tokens": 7,
    }
    schema = {"type": "object"}
    full = replace(ASK, json_schema=schema, stop=("END",), top_p=0.9, seed=4, sample=3)
    value = json.loads(body(full, "m", "json_schema", "max_completion_tokens"))
    assert (value["stop"], value["top_p"], value["seed"], value["max_completion_tokens"]) == (["END"], 0.9, 4, 7)
    assert "max_tokens" not in value
    assert "sample" not in value
    assert value["response_format"]["json_schema"]["schema"] == schema
    assert json.loads(body(full, "m", "json_object", "max_tokens"))["response_format"] == {"type": "json_object"}
    assert "response_format" not in json.loads(body(full, "m", "off", "max_tokens"))


def test_every_part_of_a_request_enters_its_key() -> None:
    others = [
        replace(ASK, messages=({"role": "user", "content": "hello!"},)),
        replace(ASK, template="t@2"),
        replace(ASK, max_tokens=8),
        replace(ASK, temperature=0.5),
        replace(ASK, json_schema={"type": "object"}),
        replace(ASK, stop=("x",)),
        replace(ASK, top_p=0.5),
        replace(ASK, seed=1),
        replace(ASK, sample=1),
    ]
    keys = [one.key("m") for one in [ASK, *others]] + [ASK.key("n")]
    assert len(set(keys)) == len(keys)
    assert ASK.key("m") == replace(ASK).key("m")
    swapped = replace(ASK, messages=({"content": "hello", "role": "user"},))
    assert swapped.key("m") == ASK.key("m")


def test_a_request_takes_its_defaults_from_the_endpoint() -> None:
    bare = Request(ASK.messages, "t@1")
    resolved = bare.resolved(Endpoint(model="m", max_tokens=99, temperature=0.3))
    assert (resolved.max_tokens, resolved.temperature) == (99, 0.3)
    assert ASK.resolved(Endpoint(model="m", max_tokens=99)) is ASK
    full = replace(ASK, max_tokens=None, json_schema={"a": 1}, stop=("x",), top_p=0.5, seed=1, sample=2)
    assert full.resolved(Endpoint(model="m", max_tokens=7)) == replace(full, max_tokens=7)


def test_read_answers() -> None:
    assert read(200, {}, completion()) == Answer("hi", "", "stop", "m", 3, 2)
    assert read(200, {}, completion(reasoning_content="hm")) == Answer("hi", "hm", "stop", "m", 3, 2)
    parts = [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]
    assert read(200, {}, completion(content=parts)) == Answer("ab", "", "stop", "m", 3, 2)
    assert read(200, {}, completion(content=None)) == Answer("", "", "stop", "m", 3, 2)
    bare = read(200, {}, b'{"choices":[{"message":{"content":"x"}}]}')
    assert bare == Answer("x", "", "", "", None, None)


def test_read_keeps_half_an_emoji_and_nan() -> None:
    data = b'{"choices":[{"message":{"content":"a\\ud83d"},"logprobs":NaN}]}'
    answer = read(200, {}, data)
    assert isinstance(answer, Answer)
    assert answer.text == "a\ufffd"


@pytest.mark.parametrize(
    "data",
    [b"", b"<html>", completion()[:50], b"[]", b"3", b"null", b'{"choices":[]}', b'{"choices":[{"message":"x"}]}',
     b'{"choices":[{"message":{"content":7}}]}', b'{"choices":[{}]}', completion() + completion()],
)  # fmt: skip
def test_read_malformed(data: bytes) -> None:
    fault = read(200, {}, data)
    assert isinstance(fault, Fault)
    assert (fault.kind, fault.again) == ("malformed", True)


@given(st.binary())
def test_read_never_raises(data: bytes) -> None:
    for status in (200, 400, 500):
        assert isinstance(read(status, {}, data), Answer | Fault)


@given(st.recursive(st.none() | st.integers() | st.text() | st.booleans(), lambda x: st.lists(x) | st.dictionaries(
    st.sampled_from(["choices", "message", "content", "error", "usage", "code", "prompt_tokens"]), x)))  # fmt: skip
def test_read_never_raises_on_json(value: Any) -> None:
    for status in (200, 400, 500):
        assert isinstance(read(status, {}, json.dumps(value).encode()), Answer | Fault)


@pytest.mark.parametrize(
    ("status", "message", "kind", "again", "fatal"),
    [
        (429, {"message": "slow down"}, "rate_limited", True, False),
        (429, {"message": "no", "code": "insufficient_quota"}, "rate_limited", False, True),
        (500, {"message": "x"}, "server_error", True, False),
        (503, {"message": "x"}, "server_error", True, False),
        (408, {"message": "x"}, "timeout", True, False),
        (400, {"message": "This model's maximum context length is 8192 tokens"}, "context_length", False, False),
        (400, {"message": "x", "code": "context_length_exceeded"}, "context_length", False, False),
        (413, {"message": "x"}, "context_length", False, False),
        (400, {"message": "x", "code": "content_filter"}, "content_filter", False, False),
        (400, {"message": "x"}, "rejected", False, False),
        (422, {"message": "x"}, "rejected", False, False),
        (401, {"message": "bad key"}, "rejected", False, True),
        (404, {"message": "no such model"}, "rejected", False, True),
    ],
)
def test_read_refusals(status: int, message: dict[str, str], kind: str, again: bool, fatal: bool) -> None:
    fault = read(status, {}, json.dumps({"error": message}).encode())
    assert isinstance(fault, Fault)
    assert (fault.kind, fault.again, fault.fatal) == (kind, again, fatal)
    assert message["message"] in fault.detail
    assert str(status) in fault.detail


def test_an_error_within_a_200_counts_by_its_code() -> None:
    fault = read(200, {}, b'{"error": {"message": "upstream", "code": 429}}')
    assert isinstance(fault, Fault)
    assert (fault.kind, fault.again) == ("rate_limited", True)
    fault = read(200, {}, b'{"error": "broken"}')
    assert isinstance(fault, Fault)
    assert (fault.kind, fault.again) == ("server_error", True)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "3"}, 3.0),
        ({"Retry-After": "0.25"}, 0.25),
        ({"Retry-After": "-5"}, 0.0),
        ({"Retry-After": "Thu, 01 Jan 2026 12:00:20 GMT"}, 20.0),
        ({"Retry-After": "Thu, 01 Jan 2026 11:00:00 GMT"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"retry-after-ms": "1500", "Retry-After": "2"}, 1.5),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, NOW) == seconds


def rejected(detail: str = "no", status: int = 400) -> Fault:
    return Fault("rejected", detail, status=status)


def test_dialect_falls_back_step_by_step_and_remembers() -> None:
    dialect = Dialect("auto")
    first = dialect.form()
    assert first == Form("json_schema", "max_tokens")
    second = dialect.other(first, rejected(), has_schema=True)
    assert second == Form("json_object", "max_tokens")
    third = dialect.other(second, rejected(status=422), has_schema=True)
    assert third == Form("off", "max_tokens")
    assert dialect.other(third, rejected(), has_schema=True) is None
    dialect.accepted(second, has_schema=True)
    assert dialect.form() == second
    assert dialect.other(second, rejected(), has_schema=True) is None


def test_dialect_leaves_alone_what_is_not_its_fault() -> None:
    dialect = Dialect("auto")
    form = dialect.form()
    assert dialect.other(form, rejected(), has_schema=False) is None
    assert dialect.other(form, Fault("server_error", "x", again=True, status=500), has_schema=True) is None
    assert dialect.other(form, Fault("timeout", "x", again=True), has_schema=True) is None
    assert Dialect("json_schema").other(Form("json_schema", "max_tokens"), rejected(), has_schema=True) is None
    dialect.accepted(form._replace(level="off"), has_schema=False)
    assert dialect.form().level == "json_schema"


def test_dialect_learns_the_new_name_of_max_tokens() -> None:
    dialect = Dialect("off")
    other = dialect.other(dialect.form(), rejected("Use 'max_completion_tokens' instead."), has_schema=False)
    assert other == Form("off", "max_completion_tokens")
    dialect.accepted(other, has_schema=False)
    assert dialect.form() == other


@pytest.mark.parametrize(
    "values",
    [
        {"url": "localhost:8000/v1"},
        {"url": "http://user:secret-key@host/v1"},
        {"url": "http://host/v1?key=secret-key"},
        {"url": "http://host/v1/chat/completions"},
        {"api_key_env": "sk-secret-key"},
        {"concurrency": 0},
        {"modle": "x"},
    ],
)
def test_endpoints_that_cannot_be_right(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as found:
        Endpoint(**({"model": "m"} | values))
    assert "secret-key" not in str(found.value)
    assert not any("secret-key" in str(error["input"]) for error in found.value.errors() if error["loc"])


def test_endpoint_urls() -> None:
    assert Endpoint(model="m", url="http://h/v1/").url == "http://h/v1"
    assert Endpoint(model="m", url="").url is None
    assert set(Endpoint(model="m", url="http://h/v1").scoring()) == {"model", "temperature", "max_tokens"}


def test_estimate() -> None:
    endpoint = Endpoint(model="m", max_tokens=100, price=Price(input=1.0, output=10.0))
    sample = [Request(({"role": "user", "content": "x" * size},), "t@1") for size in (40, 80)]
    assert estimate(endpoint, sample, 1000) == Estimate(1000, 15_000, 100_000, 1.015)
    assert estimate(endpoint, sample, 1000, output_tokens=20).tokens_out == 20_000
    assert estimate(endpoint, [], 1000).tokens_in == 0
    lines = estimate(endpoint, sample, 1000).lines()
    assert lines["requests"] == "1,000"
    assert "15,000 in" in lines["tokens"]
    assert "4 characters" in lines["tokens"]
    assert lines["cost"] == "about 1.01 USD"
    assert "unknown" in estimate(Endpoint(model="m"), sample, 1).lines()["cost"]


def test_the_page_names_every_setting_and_every_kind() -> None:
    page = (Path(__file__).resolve().parents[1] / "docs" / "llm.md").read_text()
    for name in (*Endpoint.model_fields, *Budget.model_fields, *get_args(Kind)):
        assert f"`{name}`" in page or f"{name}=" in page


def test_importing_the_client_does_not_load_aiohttp() -> None:
    code = "import sys, stages.llm; sys.exit('aiohttp' in sys.modules or 'prefect' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).resolve().parents[1], check=True)
