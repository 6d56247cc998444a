"""A small world to compare selections in: code and sentences, and a target of code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from makes import alpaca_rows, nothing, write_jsonl

from pipelines.comparing import compare, comparison
from pipelines.executor import LocalExecutor
from pipelines.progress import Silent
from pipelines.run import Settings
from pipelines.store import Store

CODE = "def f{n}(x):\n    for i in range({n}):\n        x = x + i\n    return x"


def code_rows(count: int, first: int = 0) -> list[dict[str, str]]:
    return [
        {"instruction": f"Write f{n}", "input": "", "output": CODE.format(n=n)} for n in range(first, first + count)
    ]


def world(folder: Path, code: int = 20, words: int = 40) -> dict[str, Any]:
    """A comparison of two selectors over 60 rows, with two seeds and a model of two layers of width 32."""
    write_jsonl(folder / "rows.jsonl", [*code_rows(code), *alpaca_rows(words)])
    write_jsonl(folder / "code.jsonl", code_rows(24, 1_000))
    write_jsonl(folder / "words.jsonl", alpaca_rows(10, seed=9))
    return {
        "pool": {"rows": str(folder / "rows.jsonl")}, "targets": {"code": str(folder / "code.jsonl")},
        "others": {"words": str(folder / "words.jsonl")}, "keep": 12, "selectors": ["zipfit"], "seeds": 2,
        "student": {
            "vocabulary": 300, "width": 32, "layers": 2, "heads": 2, "context": 64, "tokens": 2_000, "epochs": 1,
        },
        "train": {"tokens": 1_024, "batch": 256, "window": 64},
    }  # fmt: skip


def compare_here(document: dict[str, Any], out: Path, store: Path, *overrides: str) -> dict[str, Any]:
    """Compare in this process, and return the figures."""
    with LocalExecutor(1) as executor:
        return compare(comparison(document, overrides), Settings(out, Store(store), executor, Silent(), nothing))
