"""Targets in two halves, the sets that losses are measured on, and the pool without rows that repeat them.

A target row belongs by its content hash to the half that selectors see or to the half that only losses are measured
on: equal rows are in one half, and no selector, nor the model, ever sees the other. `decontaminate` then takes out of
the pool what repeats a row of a measured half or of another set, for all selectors alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pipelines.comparing.plan import Comparison
from pipelines.pool import Part, RunPool
from pipelines.progress import Silent
from pipelines.recipe_file import build_recipe
from pipelines.run import Settings, run
from schemas.errors import RecipeError
from stages.contract import IntArray, Pool
from stages.dsir.ngrams import words
from stages.text import On, columns_for, render

_HALVES = {"test": 0.5}


@dataclass(frozen=True)
class Texts:
    """The rows of a pool or of a set that have a text. `ids` are record ids."""

    ids: list[str]
    hashes: list[str]
    sources: list[str]
    texts: list[str]

    def words(self) -> IntArray:
        """Words and punctuation marks of every text."""
        return np.array([len(words(text)) for text in self.texts], np.int64)

    def chars(self) -> IntArray:
        """Characters of every text."""
        return np.array([len(text) for text in self.texts], np.int64)


@dataclass(frozen=True)
class Set:
    """A set that losses are measured on: its texts, files, all its rows, and a glob of what selectors may see."""

    name: str
    texts: Texts
    files: tuple[str, ...]
    rows: int
    seen: str | None


def run_one(document: Mapping[str, Any], out: Path, settings: Settings, base: Path | None = None) -> dict[str, Any]:
    """Run a recipe, whose relative paths start at `base`, quietly into `out`; what is finished is left as it is."""
    return run(build_recipe(document, base or Path.cwd()), replace(settings, out=out, reporter=Silent(), limit=None))


def measured(plan: Comparison, settings: Settings) -> list[Set]:
    """The sets, targets first. Raises RecipeError where one has too few rows."""
    halved = [_set(name, path, plan, settings, True) for name, path in plan.targets.items()]
    return [*halved, *(_set(name, path, plan, settings, False) for name, path in plan.others.items())]


def _set(name: str, path: str, plan: Comparison, settings: Settings, halved: bool) -> Set:
    folder = settings.out / "sets" / name
    export = {"format": "canonical", **({"splits": _HALVES} if halved else {})}
    document = {"name": name, "seed": plan.seed, "sources": [{"name": name, "path": path}], "export": export}
    rows = sum(run_one(document, folder, settings)["splits"].values())
    kind = "test" if halved else "train"
    files = tuple(str(file) for file in sorted((folder / "data").glob(f"{kind}-*.parquet")))
    seen = str(folder / "data" / "train-*.parquet") if halved else None
    if not files or (halved and not list((folder / "data").glob("train-*.parquet"))):
        raise RecipeError(
            f"target '{name}' has {rows} usable rows: too few to measure on one half and select by the other"
        )
    texts = read(open_files(files), plan.on)
    if not texts.texts:
        raise RecipeError(f"'{name}' has no row with a text (on: {plan.on}): no loss can be measured on it")
    return Set(name, _first(texts, plan.train.held_out), files, rows, seen)


def pool_recipe(plan: Comparison, sets: Sequence[Set], stages: Sequence[Any] = ()) -> dict[str, Any]:
    """The recipe that every selector shares: all sources, without what repeats a measured row."""
    against = [file for found in sets for file in found.files]
    return {
        "name": "pool", "seed": plan.seed,
        "sources": [{"name": name, "path": path} for name, path in plan.pool.items()],
        "stages": [{"decontaminate": {"against": against}}, *stages],
        "export": {"format": "canonical"}, "max_quarantine": 1.0, "lineage": "drops",
    }  # fmt: skip


def open_run(folder: Path) -> RunPool:
    """The records that a run in canonical form wrote."""
    return open_files(sorted(map(str, (folder / "data").glob("*.parquet"))))


def open_files(files: Sequence[str]) -> RunPool:
    """Canonical records of some Parquet files."""
    return RunPool.open([Part(Path(file), pq.read_metadata(file).num_rows, "", file) for file in files])


def read(pool: Pool, on: On) -> Texts:
    """Ids and texts of the rows that have a text."""
    found = Texts([], [], [], [])
    columns = dict.fromkeys(["record_id", "content_hash", "source", *columns_for(on)])
    for batch in pool.batches(list(columns)):
        names = [batch[name].to_pylist() for name in ("record_id", "content_hash", "source")]
        for record, content, source, text in zip(*names, render(batch, on).to_pylist(), strict=True):
            if text and text.strip():
                found.ids.append(record)
                found.hashes.append(content)
                found.sources.append(source)
                found.texts.append(text)
    return found


def _first(texts: Texts, count: int) -> Texts:
    """At most `count` rows, those of the lowest content hashes."""
    rows = sorted(range(len(texts.ids)), key=lambda row: (texts.hashes[row], texts.ids[row]))[:count]
    parts = ([part[row] for row in rows] for part in (texts.ids, texts.hashes, texts.sources, texts.texts))
    return Texts(*parts)
