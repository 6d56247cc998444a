"""Source rows of every kind, with programs that are right and wrong, for the tests of exports."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from makes import run_here, write_jsonl, write_recipe

from schemas.adapters import adapt, detect
from schemas.adapters import adapter as adapter_named
from schemas.record import RECORD, content_of

STDIO = {
    "question": "Read n, print 2n.",
    "input_output": json.dumps({"inputs": [f"{n}\n" for n in range(6)], "outputs": [f"{2 * n}\n" for n in range(6)]}),
    "solutions": json.dumps(["print(2 * int(input()))\n"]),
}
FUNCTIONAL = {
    "question_title": "join",
    "question_id": "join-1",
    "question_content": "Join the words with the separator.",
    "public_test_cases": json.dumps(
        [{"input": '["a", "\u00e9\\n"]\n"-"', "output": '"a-\u00e9\\n"', "testtype": "functional"}]
    ),
    "private_test_cases": json.dumps(
        [
            {"input": '[]\n"1"', "output": '""', "testtype": "functional"},
            {"input": '["1", "2"]\n""', "output": '"12"', "testtype": "functional"},
        ]
    ),
    "starter_code": "class Solution:\n    def join(self, words, by):\n        ",
    "metadata": json.dumps({"func_name": "join"}),
}
SOURCE = {
    "task_id": "HumanEval/50",
    "entry_point": "decode",
    "prompt": 'def encode(s):\n    return s[::-1]\n\n\ndef decode(s):\n    """Undo encode."""\n',
    "canonical_solution": "    return s[::-1]\n",
    "test": "def check(candidate):\n    assert candidate(encode('abc')) == 'abc'\n    assert candidate('') == ''\n",
}
REFERENCE = {
    "task_id": "Mbpp/2",
    "prompt": "Write f that squares.",
    "entry_point": "f",
    "canonical_solution": "\ndef f(x): return x * x\n",
    "base_input": [[1], [2]],
    "plus_input": [[3], [4]],
    "atol": 0,
}
PROBLEMS: dict[str, tuple[dict[str, Any], str, str]] = {  # source row, a right program, a wrong one
    "stdio": (STDIO, "print(2 * int(input()))", "print(3 * int(input()))"),
    "functional": (
        FUNCTIONAL,
        "class Solution:\n    def join(self, words, by):\n        return by.join(words)",
        "class Solution:\n    def join(self, words, by):\n        return ''.join(words)",
    ),
    "source": (SOURCE, "def decode(s):\n    return s[::-1]", "def decode(s):\n    return s"),
    "reference": (REFERENCE, "def f(x):\n    return x ** 2", "def f(x):\n    return x + x"),
}
ALPACA = {"instruction": "Say hi.", "input": "", "output": "Hi!"}
MATHS = {"question": "2+2?", "answer": "2+2=4\n#### 4"}
TEXT = {"text": "Once upon a time there was a text."}
THINKING = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Two?"},
        {"role": "assistant", "content": "2", "reasoning_content": "It is two."},
        {"role": "user", "content": "Three?"},
        {"role": "assistant", "content": "3"},
    ]
}
TOOLS = {
    "messages": [
        {"role": "user", "content": "Light on, and how warm is it?"},
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "light", "arguments": {"on": True, "room": None}}}
            ],
        },
        {"role": "tool", "name": "light", "tool_call_id": "c1", "content": "ok"},
        {"role": "assistant", "content": "Done.\u2028"},
    ],
    "tools": [{"type": "function", "function": {"name": "light", "parameters": {"type": "object", "properties": {}}}}],
}
CHATS: dict[str, dict[str, Any]] = {"alpaca": ALPACA, "thinking": THINKING, "tools": TOOLS}


def fenced(code: str) -> str:
    """A model's answer that holds a program."""
    return f"Let me think.\n```python\n{code}\n```"


def read(row: Any) -> dict[str, Any]:
    """The record that a source row of any known format becomes, without empty fields."""
    draft = adapt(row, adapter_named(detect([row]).adapter))[0]
    return {key: value for key, value in draft.items() if key != "meta"}


def table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Canonical records of source rows, `r0`, `r1`, …"""
    drafts = [content_of(dict(read(row))) for row in rows]
    named = [
        {**draft, "record_id": f"r{at}", "content_hash": "", "source": "made", "origin": ""}
        for at, draft in enumerate(drafts)
    ]
    return canonical(named)


def canonical(records: list[dict[str, Any]]) -> pa.Table:
    """A table of canonical records given with their columns."""
    return pa.Table.from_pylist(records, schema=RECORD)


def make_run(folder: Path, rows: Iterable[Mapping[str, Any]], **keys: Any) -> Path:
    """A run without stages over the rows, each in a file of its own so that every format is recognised."""
    paths = [write_jsonl(folder / f"source{at:02d}.jsonl", [row]) for at, row in enumerate(rows)]
    sources = [{"name": path.stem, "path": path.name} for path in paths]
    run_here(write_recipe(folder, sources=sources, **keys), folder / "run", folder / "store")
    return folder / "run"
