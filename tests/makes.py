"""Small inputs and recipes for tests of whole runs."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pipelines.executor import LocalExecutor
from pipelines.progress import Silent
from pipelines.recipe_file import load_recipe
from pipelines.run import Settings, run
from pipelines.store import Store

_WORDS = [f"word{number}" for number in range(400)]


def alpaca_rows(count: int, seed: int = 0) -> list[dict[str, str]]:
    """Rows with random words, no two alike."""
    rng = random.Random(seed)
    return [
        {"instruction": f"Task {seed}-{n}: {_text(rng, 8)}", "input": "", "output": _text(rng, 30)}
        for n in range(count)
    ]


def _text(rng: random.Random, words: int) -> str:
    return " ".join(rng.choices(_WORDS, k=words))


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """One JSON object per line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def write_recipe(folder: Path, **keys: Any) -> Path:
    """A recipe in `folder` with the given keys; its source is `rows.jsonl` unless `sources` is given."""
    document = {"name": "made", "sources": [{"name": "rows", "path": "rows.jsonl"}], **keys}
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return path


def nothing(folder: Path, manifest: Mapping[str, Any]) -> dict[str, bytes]:
    """No documents: for tests that are not about them."""
    return {}


def run_here(recipe: Path, out: Path, store: Path, overrides: Sequence[str] = (), workers: int = 1) -> dict[str, Any]:
    """Run a recipe in this process and return its manifest."""
    with LocalExecutor(workers) as executor:
        return run(load_recipe(recipe, overrides), Settings(out, Store(store), executor, Silent(), nothing))


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
