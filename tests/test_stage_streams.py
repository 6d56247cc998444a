"""Stages that see the whole stream, and stages that ask for dear scores while they decide."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
from makes import alpaca_rows, nothing, write_jsonl, write_recipe
from rich.console import Console

from pipelines.executor import LocalExecutor
from pipelines.plan import plan
from pipelines.progress import Silent
from pipelines.recipe import Recipe, StageUse
from pipelines.recipe_file import load_recipe
from pipelines.run import Settings, run
from pipelines.store import Store
from reports.views import plan_view
from schemas.errors import CuratrixError
from stages.contract import Decisions, Examiner, FitsOn, Pool, RunsIn, Scores, Stage, State


class Streamed(Stage):
    """Scores the length of the prompt three batches ahead of what it gives back; breaks off where told."""

    name: ClassVar[str] = "streamed"
    reads: ClassVar[tuple[str, ...]] = ("prompt",)
    runs_in: ClassVar[RunsIn] = "stream"
    seen: ClassVar[list[int]] = []
    breaks_at: ClassVar[int | None] = None

    def task_rows(self) -> int:
        return 8

    def stream(self, batches: Iterator[pa.RecordBatch], state: State, folder: Path) -> Iterator[pa.RecordBatch]:
        waiting: list[pa.RecordBatch] = []
        for batch in batches:
            waiting.append(batch)
            if len(waiting) == 3:
                yield self._answer(waiting.pop(0))
        yield from map(self._answer, waiting)

    def decide(self, scores: Scores) -> Decisions:
        values = scores.table(["n"])["n"].to_numpy()
        return Decisions(np.ones(len(values), np.bool_), [f"length {value}" for value in values])

    def _answer(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if len(self.seen) == self.breaks_at:
            raise CuratrixError("broken off")
        self.seen.append(batch.num_rows)
        return pa.RecordBatch.from_pydict({"n": [len(text) for text in batch.column(0).to_pylist()]})


class Curious(Stage):
    """Asks for every `every`-th row, twice."""

    name: ClassVar[str] = "curious"
    examines: ClassVar[tuple[str, ...]] = ("prompt",)
    examined: ClassVar[list[int]] = []
    every: int = 2

    def scoring(self) -> dict[str, Any]:
        return {}

    def fits_on(self) -> FitsOn:
        return "inputs"

    def fit(self, pool: Pool, inputs: Any) -> State:
        assert pool.scratch.is_dir()
        (pool.scratch / "half-way").write_text("done")
        return {"extra": np.array([1000])}

    def examiner(self, state: State) -> Examiner:
        def examine(batch: pa.RecordBatch) -> pa.RecordBatch:
            self.examined.append(batch.num_rows)
            return pa.RecordBatch.from_pydict({"n": [len(t) + int(state["extra"][0]) for t in batch[0].to_pylist()]})

        return examine

    def decide(self, scores: Scores) -> Decisions:
        rows = np.arange(0, len(scores), self.every)[::-1].copy()
        values = scores.ask(rows)["n"].to_pylist()
        prompts = scores.fetch(rows, ["prompt"])["prompt"].to_pylist()
        assert values == [len(text) + 1000 for text in prompts]
        assert scores.ask(rows)["n"].to_pylist() == values
        return Decisions(np.ones(len(scores), np.bool_), ["kept"] * len(scores))


def _run(folder: Path, stage: Stage, out: str = "out") -> dict[str, Any]:
    recipe: Recipe = load_recipe(write_recipe(folder), ())
    recipe = recipe.model_copy(update={"stages": (StageUse(label=stage.name, position=1, stage=stage),)})
    with LocalExecutor(1) as executor:
        return run(recipe, Settings(folder / out, Store(folder / "store"), executor, Silent(), nothing))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = alpaca_rows(50)
    write_jsonl(tmp_path / "rows.jsonl", [*rows, *rows[:10]])  # copies are scored once
    return tmp_path


def test_a_stream_reads_ahead_and_is_stored_batch_by_batch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Streamed, "seen", [])
    monkeypatch.setattr(Streamed, "breaks_at", 4)
    with pytest.raises(CuratrixError, match="broken off"):
        _run(folder, Streamed())
    assert Streamed.seen == [8, 8, 8, 8]
    monkeypatch.setattr(Streamed, "breaks_at", None)
    counters = _run(folder, Streamed())["stages"][0]
    assert Streamed.seen == [8, 8, 8, 8, 8, 8, 2]  # what was answered before the break is not asked again
    assert counters["rows_in"] == counters["kept"] == 60


def test_a_stream_must_answer_every_batch(folder: Path) -> None:
    class Lazy(Streamed):
        def stream(self, batches: Iterator[pa.RecordBatch], state: State, folder: Path) -> Iterator[pa.RecordBatch]:
            yield self._answer(next(batches))
            next(batches)

    with pytest.raises(CuratrixError, match="left 1 batches of its stream unanswered"):
        _run(folder, Lazy())


def test_asked_scores_are_stored_by_content(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Curious, "examined", [])
    _run(folder, Curious(every=2))
    assert sum(Curious.examined) == 25
    _run(folder, Curious(every=1), "other")
    assert sum(Curious.examined) == 50
    assert not list((folder / "store").rglob("half-way"))


def test_only_the_pool_can_be_asked_about(folder: Path) -> None:
    class Wrong(Curious):
        def sources(self) -> dict[str, list[str]]:
            return {"targets": [str(folder / "rows.jsonl")]}

        def decide(self, scores: Scores) -> Decisions:
            scores.inputs["targets"].ask(np.arange(2))
            raise AssertionError("unreachable")

    with pytest.raises(CuratrixError, match="only the pool's own records"):
        _run(folder, Wrong())


def test_plan_shows_what_a_costly_stage_would_cost(folder: Path) -> None:
    class Costly(Streamed):
        def estimate(self, sample: pa.Table, rows: int) -> dict[str, str]:
            return {"calls": str(rows), "seen": f"{sample.num_rows} {sample.column_names}"}

    recipe = load_recipe(write_recipe(folder), ())
    recipe = recipe.model_copy(update={"stages": (StageUse(label="costly", position=1, stage=Costly()),)})
    found = plan(recipe, Store(folder / "store"))
    assert found["estimates"] == {"costly": {"calls": "60", "seen": "60 ['prompt']"}}
    shown = Console(width=100, record=True, file=StringIO())
    shown.print(plan_view(found))
    assert "costly: estimate" in shown.export_text()
