"""Nothing of a source row is lost: every text and number of it is somewhere in its records."""

from __future__ import annotations

import ast
import base64
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from adapter_data import FILES, load

from schemas.adapters import adapt, adapter, detect
from schemas.adapters.io_tests import unpack
from schemas.errors import BadRow

# Marks of structure that an adapter reads instead of copying: what stands between them must be found.
_MARKS = re.compile(
    r"</?think>|### Response:\n"
    r"|<\|im_start\|>\w+\n|<\|(?:user|ai|eos|eod|im_end)\|>"
    r"|^\{'Instruction': [\"']?|[\"']?, '(?:Input|Output)':|\}\s*$|```\w*\n|\n```\s*$"
)
# Keys whose values are translated: roles, kinds of blocks and tests, verdicts, languages.
_TRANSLATED = {"role", "from", "type", "expected", "language", "testtype", "group"}


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, str | int | float]]:
    """(key it is under, text or number) of everything in a decoded value; keys of open maps count as text."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from leaves(item, str(name))
    elif isinstance(value, list | tuple | set):
        for item in value:
            yield from leaves(item, key)
    elif value is not None and not isinstance(value, bool):
        yield key, value


class Held:
    """All text and numbers of a row's records; JSON text in them counts as what it holds."""

    def __init__(self, drafts: list[Any]) -> None:
        found = [leaf for draft in drafts for _, leaf in leaves(draft)]
        everything = [*found, *(leaf for text in found if isinstance(text, str) for _, leaf in _opened(text) or [])]
        self.numbers = {leaf for leaf in everything if not isinstance(leaf, str)}
        self.text = "\0".join(leaf for leaf in everything if isinstance(leaf, str))

    def has(self, key: str, leaf: str | int | float) -> bool:
        if key in _TRANSLATED:
            return True
        if not isinstance(leaf, str):
            return leaf in self.numbers or str(leaf) in self.text or json.dumps(leaf) in self.text or leaf != leaf
        if leaf.strip() in self.text:
            return True
        inner = _opened(leaf)
        if inner is not None:
            return all(self.has(*each) for each in inner)
        pieces = [piece.strip() for piece in (leaf.split("\n") if key == "input" else _MARKS.split(leaf))]
        return len(pieces) > 1 and all(piece in self.text for piece in pieces)


def _opened(text: str) -> list[tuple[str, Any]] | None:
    """What is inside text that is JSON, a Python literal, or base64 of text or of packed tests; None of other text."""
    if text[:1] in ("{", "["):
        for parse in (json.loads, ast.literal_eval):
            try:
                return list(leaves(parse(text)))
            except (ValueError, SyntaxError):
                continue
    if len(text) > 40 and re.fullmatch(r"[A-Za-z0-9+/]+={0,2}", text):
        try:
            return [("", base64.b64decode(text, validate=True).decode())]
        except ValueError:
            return list(leaves(unpack(text, ""))) if text.startswith("eJ") else None
    return None


def lost(row: Any, drafts: list[Any]) -> list[tuple[str, Any]]:
    held = Held(drafts)
    return [(key, leaf) for key, leaf in leaves(row) if not held.has(key, leaf)]


@pytest.mark.parametrize("name", [name for name, *_ in FILES])
def test_nothing_of_a_real_row_is_lost(name: str, shared_data: Path) -> None:
    rows = load(shared_data / name)
    primary = adapter(detect(rows[:100]).adapter)
    checked = 0
    for row in rows[:: max(1, len(rows) // 60)]:
        try:
            drafts = adapt(row, primary)
        except BadRow:
            continue
        assert lost(row, drafts) == []
        checked += 1
    assert checked


def test_the_check_itself_notices_a_loss() -> None:
    assert lost({"a": "one", "b": 2, "c": {"d": "three"}}, [{"prompt": "one", "meta": {"x": 5}}]) == [
        ("b", 2),
        ("d", "three"),
    ]
    assert lost({"a": "<think>why</think> so"}, [{"reasoning": "why", "completion": "so"}]) == []
