"""Runs that went on after an attempt in which something passing was wrong: nothing of that attempt is published."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from makes import alpaca_rows, nothing, tree, write_jsonl, write_recipe

from pipelines import registry
from pipelines.executor import LocalExecutor
from pipelines.progress import Silent
from pipelines.recipe_file import load_recipe
from pipelines.run import Settings, run
from pipelines.store import Store
from schemas.errors import GateError, RecipeError
from stages.contract import Decisions, Scores, Stage, State

ROWS = 12
Work = Callable[[], Any]


class Moody(Stage):
    """Cannot score some row while `ill` is set, as where memory ran out for a moment."""

    name: ClassVar[str] = "moody"
    reads: ClassVar[tuple[str, ...]] = ("prompt",)
    ill: ClassVar[bool] = False

    def score(self, batch: pa.RecordBatch, state: State) -> pa.RecordBatch:
        """The length of the prompt."""
        prompts = batch["prompt"].to_pylist()
        if Moody.ill and any("0-5:" in prompt for prompt in prompts):
            raise OSError(12, "Cannot allocate memory")
        return pa.RecordBatch.from_pydict({"chars": [len(prompt) for prompt in prompts]})

    def decide(self, scores: Scores) -> Decisions:
        """Keep everything."""
        return Decisions(np.ones(len(scores), np.bool_), ["kept"] * len(scores))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    known = registry.stage_class
    monkeypatch.setattr("pipelines.recipe_file.stage_class", lambda name: Moody if name == "moody" else known(name))
    write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(ROWS))
    return tmp_path


def _attempt(place: Path, recipe: Path, out: str = "out", **options: Any) -> dict[str, Any]:
    given = {"documents": nothing, **options}
    with LocalExecutor(1) as executor:
        settings = Settings(place / out, Store(place / "store"), executor, Silent(), **given)
        return run(load_recipe(recipe, ()), settings)


def _killed_before_publishing(at: str, work: Work) -> Any:
    if at == "publish":
        raise KeyboardInterrupt
    return work()


@pytest.mark.parametrize("delta", [False, True])
def test_a_row_that_failed_once_is_in_the_data_and_not_in_quarantine(
    place: Path, monkeypatch: pytest.MonkeyPatch, delta: bool
) -> None:
    recipe = write_recipe(place, stages=["moody"], max_quarantine=1, export={"delta": delta})
    with monkeypatch.context() as ill:
        ill.setattr(Moody, "ill", True)
        with pytest.raises(KeyboardInterrupt):
            _attempt(place, recipe, step=_killed_before_publishing)
    manifest = _attempt(place, recipe)
    assert manifest["quarantine"] == {"rows": 0, "by_kind": {}}
    assert manifest["splits"] == {"train": ROWS}
    for folder in ("data", "delta") if delta else ("data",):
        assert pq.read_table(place / "out" / folder).num_rows == ROWS
    assert not list((place / "out").glob("quarantine/*"))
    _attempt(place, recipe, out="undisturbed")
    assert tree(place / "out/data") == tree(place / "undisturbed/data")


def test_files_of_an_attempt_that_kept_more_rows_go(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = write_recipe(place, stages=["moody"], max_quarantine=1, export={"rows_per_file": ROWS - 1})
    with pytest.raises(KeyboardInterrupt):
        _attempt(place, recipe, step=_killed_before_publishing)
    for scores in (place / "store/scores").rglob("*.parquet"):
        scores.unlink()
    monkeypatch.setattr(Moody, "ill", True)
    manifest = _attempt(place, recipe)
    assert manifest["splits"] == {"train": ROWS - 1}
    assert [file.name for file in (place / "out/data").iterdir()] == ["train-00000-of-00001.parquet"]


def test_a_gate_that_a_passing_failure_tripped_leaves_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = write_recipe(place, stages=["moody"])
    with monkeypatch.context() as ill:
        ill.setattr(Moody, "ill", True)
        with pytest.raises(GateError):
            _attempt(place, recipe)
    assert _attempt(place, recipe)["quarantine"]["rows"] == 0


@pytest.mark.parametrize("copies", [1, 3])
def test_a_run_with_little_lineage_goes_on_after_its_last_step_failed(place: Path, copies: int) -> None:
    rows = alpaca_rows(ROWS)
    write_jsonl(place / "rows.jsonl", [*rows, *rows[:copies]])
    recipe = write_recipe(place, stages=["dedup"], lineage="drops")

    def full(folder: Path, manifest: Any) -> dict[str, bytes]:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        _attempt(place, recipe, documents=full)
    assert _attempt(place, recipe)["splits"] == {"train": ROWS}
    decisions = pq.read_table(place / "out/lineage/decisions", columns=["keep"])
    assert decisions["keep"].to_pylist() == [False] * copies


def test_an_export_that_fails_says_so_itself(place: Path) -> None:
    recipe = write_recipe(place, stages=["length"], export={"also": [{"to": "tokens", "tokenizer": "nowhere"}]})
    with pytest.raises(RecipeError, match="nowhere"):
        _attempt(place, recipe)
    assert (place / "out/manifest.json").is_file()


def test_what_a_run_under_way_uses_is_not_collected(place: Path) -> None:
    recipe, store = write_recipe(place, stages=["length", "dedup"]), Store(place / "store")
    _attempt(place, recipe, out="before")
    for path in store.root.rglob("*.*"):
        os.utime(path, (time.time() - 40 * 86_400,) * 2)
    for path in (store.root / "runs").iterdir():
        path.unlink()

    def step(at: str, work: Work) -> Any:
        if at != "ingest":
            store.collect(30)
        return work()

    assert _attempt(place, recipe, out="after", step=step)["splits"] == {"train": ROWS}


def test_a_run_that_is_confirmed_is_in_use(place: Path) -> None:
    recipe, store = write_recipe(place, stages=["length"]), Store(place / "store")
    _attempt(place, recipe)
    before = [path.read_text() for path in (store.root / "runs").iterdir()]
    _attempt(place, recipe)
    after = [path.read_text() for path in (store.root / "runs").iterdir()]
    assert len(before) == len(after) == 1
    assert before != after
