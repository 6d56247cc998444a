"""SandboxFusion evaluation sets: `content` with `test` (source, cases or a packed object) and `labels`."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final

import orjson

from schemas.adapters.base import (
    Adapter,
    Made,
    Row,
    is_text,
    keeping_rest,
    made,
    optional_text,
    put,
    text,
    to_json,
    value_of,
)
from schemas.adapters.code_problems import add_source_tests, problem, solution_of, take_id, whole_program
from schemas.adapters.io_tests import add_io_tests, decoded, read_tests, unpack
from schemas.adapters.languages import language_name
from schemas.errors import BadRow
from schemas.record import Draft

_ZLIB: Final = "eJ"  # how base64 of a zlib stream begins


def _sandbox(row: Row) -> str | None:
    return "has 'content', 'test' and 'labels'" if is_text(row, "content", "test", "labels") else None


def _make_sandbox(row: Row) -> Made:
    """The labels stay in meta as they are: language and entry point are read from them."""
    labels = _labels(row)
    language = language_name(labels.get("programming_language")) or "python"
    entry = labels.get("entry_point")
    entry = entry if isinstance(entry, str) and entry else None
    prompt, instruction = text(row, "content"), labels.get("instruction_descriptive")
    asked = f"{instruction}\n\n{prompt}" if isinstance(instruction, str) and instruction else prompt
    draft = put(problem(asked, language), entry_point=entry)
    test_used = _add_tests(draft, text(row, "test"))
    reference = optional_text(row, "canonical_solution") or ""
    if reference.strip():
        program = whole_program(prompt, reference, entry) if entry else reference
        put(draft, solutions=solution_of(program, language, "accepted"))
    return made(draft, "content", "canonical_solution", *test_used, *take_id(draft, row, "id"))


def _labels(row: Row) -> dict[str, Any]:
    labels = decoded(value_of(row, "labels"), "labels")
    if not isinstance(labels, Mapping):
        raise BadRow("wrong_type", "'labels' is no object", "labels")
    return dict(labels)


def _add_tests(draft: Draft, test: str) -> list[str]:
    """Set the tests; returns the keys used up: a packed field stays in meta in full."""
    if test.startswith(_ZLIB):
        packed = unpack(test, "test")
        add_io_tests(draft, read_tests(packed, "test"))
        return []
    data = _object(test)
    if isinstance(data, list):
        add_io_tests(draft, read_tests(data, "test"))
    elif isinstance(data, dict) and isinstance(data.get("code"), str):
        _add_harness(draft, data)
    else:
        add_source_tests(draft, test)
    return ["test"]


def _object(test: str) -> Any:
    try:
        return orjson.loads(test) if test[:1] in ("{", "[") else None
    except orjson.JSONDecodeError:
        return None


def _add_harness(draft: Draft, data: dict[str, Any]) -> None:
    """A harness with `#<INSERT>` where the solution goes; the checks may be in a file beside it."""
    assets = _assets(data.get("asset"))
    sources = [source for name, source in assets.items() if "test" in name.rpartition("/")[2]]
    add_source_tests(draft, "\n\n".join(sources) if sources else data["code"])
    judge: dict[str, Any] = {key: value for key, value in data.items() if key != "asset" and value is not None}
    if not sources:
        judge.pop("code")  # it is test_code
    if assets:
        judge["files"] = assets
    put(draft, judge=to_json(judge) if judge else None)


def _assets(value: Any) -> dict[str, str]:
    """Files as base64; what is no text stays encoded."""
    if not isinstance(value, Mapping):
        return {}
    files: dict[str, str] = {}
    for name, packed in value.items():
        try:
            files[str(name)] = base64.b64decode(packed, validate=True).decode()
        except (binascii.Error, ValueError, TypeError):
            files[str(name)] = packed if isinstance(packed, str) else to_json(packed)
    return files


SANDBOX: Final = Adapter("sandboxfusion", "SandboxFusion evaluation sets", _sandbox, keeping_rest(_make_sandbox))
