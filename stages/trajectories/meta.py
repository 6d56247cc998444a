"""Fields of `meta`. It is no content, so scores must not depend on it: only `decide` looks here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import orjson

from stages.contract import Pool


def meta_values(pool: Pool, path: str) -> Iterator[Any]:
    """The field of every row's meta that a dotted path names, None where there is none."""
    for batch in pool.batches(["meta"]):
        for text in batch["meta"].to_pylist():
            yield field_of(read_meta(text), path)


def read_meta(text: str | None) -> Any:
    """What a meta column holds; None where it is empty. It may hold infinities, for which strict JSON has no word."""
    if not text:
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text)


def field_of(value: Any, path: str) -> Any:
    """The field of nested mappings that a dotted path names."""
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value
