"""Tell JSON Lines from arrays, wrapped arrays and texts one after another, whatever the file is called."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pipelines.readers.jsonscan import top_arrays
from pipelines.readers.jsontext import is_json

WRAPPERS: Final = ("data", "rows", "examples", "records", "samples")
_LINE_SUFFIXES: Final = frozenset({".jsonl", ".ndjson", ".jsonlines"})
_OBJECT: Final = re.compile(rb"\s*\{")
_SAMPLE: Final = 50


@dataclass(frozen=True, slots=True)
class Shape:
    """`jsonl` or `json`, the key of a wrapped array if there is one, and the reason."""

    format: str
    why: str
    wrapper: str = ""


def json_shape(text: bytes, whole: bool, suffix: str) -> Shape:
    """The shape of the JSON that starts with `text`; `whole` where that is all of it."""
    lines = [line.strip() for line in text.split(b"\n") if line.strip()]
    if not lines:
        return Shape("jsonl", "empty")
    cut = not whole and len(lines) == 1
    first = lines[0]
    if not cut and is_json(first):
        return _one_line(first) if len(lines) == 1 else Shape("jsonl", "the first line is a whole JSON text")
    if first.endswith(b",") and is_json(first[:-1]):
        return Shape("json", "JSON texts separated by commas")
    if first.startswith(b"["):
        return Shape("json", "a JSON array")
    if first.startswith(b"{"):
        return _object(text, lines, cut, suffix)
    any_line = any(is_json(line) for line in lines[1 : _SAMPLE + 1])
    lined = suffix in _LINE_SUFFIXES or any_line
    return Shape("jsonl", "JSON by its name or its later lines") if lined else Shape("json", "JSON by its name")


def _one_line(line: bytes) -> Shape:
    if line.startswith(b"["):
        return Shape("json", "a JSON array on one line")
    wrapper = find_wrapper(line)
    if wrapper:
        return Shape("json", f"a JSON object around an array of rows, '{wrapper}'", wrapper)
    return Shape("jsonl", "one line with a whole JSON text")


def _object(text: bytes, lines: list[bytes], cut: bool, suffix: str) -> Shape:
    if cut:
        if suffix in _LINE_SUFFIXES or not suffix.startswith(".json"):
            return Shape("jsonl", "an object on a long first line")
    elif any(line.startswith(b"{") and line.endswith(b"}") and is_json(line) for line in _starts(text)):
        return Shape("jsonl", "later lines are whole JSON texts; the first is damaged")
    elif suffix in _LINE_SUFFIXES and len(lines) == 1:
        return Shape("jsonl", "one damaged line")
    wrapper = find_wrapper(text)
    if wrapper:
        return Shape("json", f"a JSON object around an array of rows, '{wrapper}'", wrapper)
    return Shape("json", "JSON texts over several lines")


def _starts(text: bytes) -> list[bytes]:
    return [line.rstrip() for line in text.split(b"\n")[: _SAMPLE + 1] if line.startswith(b"{")][1:]


def find_wrapper(text: bytes) -> str:
    """The key of the first array of objects under a usual name in the object that `text` starts with, else empty."""
    start = len(text) - len(text.lstrip())
    for key, end in top_arrays(text[start:]):
        name = key.decode("utf-8", "replace")
        if name in WRAPPERS and _OBJECT.match(text, start + end):
            return name
    return ""
