"""Whole runs with `decontaminate`: caching, what new rows and other thresholds cost, lineage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from makes import alpaca_rows, run_here, write_jsonl, write_recipe


def evals(count: int) -> list[dict[str, Any]]:
    rows = alpaca_rows(count, seed=9)
    return [{"id": f"quiz/{n}", "question": row["output"], "answer": f"so #### {n}"} for n, row in enumerate(rows)]


def setup(folder: Path, **parameters: Any) -> Path:
    questions = evals(5)
    rows = alpaca_rows(50)
    rows[7]["instruction"] = f"Please answer: {questions[3]['question']}"
    rows[8]["output"] = " ".join(questions[1]["question"].split()[:18])
    write_jsonl(folder / "rows.jsonl", rows)
    write_jsonl(folder / "evals/quiz.jsonl", questions)
    return write_recipe(folder, stages=[{"decontaminate": {"against": ["evals/quiz.jsonl"], **parameters}}])


def stage_of(manifest: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = manifest["stages"][0]
    return found


def test_a_run_drops_and_explains(tmp_path: Path) -> None:
    manifest = run_here(setup(tmp_path), tmp_path / "out", tmp_path / "store")
    stage = stage_of(manifest)
    assert (stage["rows_in"], stage["kept"]) == (50, 48)
    decisions = pq.read_table(tmp_path / "out/lineage/decisions").to_pylist()
    (dropped,) = [row for row in decisions if not row["keep"] and row["related_id"] == "quiz/3"]
    assert dropped["reason"] == "contaminated: question of quiz; quiz/3, 100% of its words"
    assert json.loads(dropped["detail"])["path"] == "prompt"
    assert json.loads(dropped["detail"])["file"] == "quiz.jsonl"


def test_other_thresholds_and_new_rows_rescore_nothing_old(tmp_path: Path) -> None:
    recipe, store = setup(tmp_path), tmp_path / "store"
    first = stage_of(run_here(recipe, tmp_path / "a", store))
    stricter = stage_of(run_here(recipe, tmp_path / "b", store, ["stages.0.decontaminate.threshold=0.95"]))
    assert (first["kept"], stricter["kept"]) == (48, 49)
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    write_jsonl(tmp_path / "rows.jsonl", [*rows, *alpaca_rows(10, seed=3)])
    more = stage_of(run_here(recipe, tmp_path / "c", store))
    assert first["counters"]["scored"] == 50
    assert stricter["counters"]["scored"] == 0
    assert more["counters"]["scored"] == 10
    write_jsonl(tmp_path / "evals/quiz.jsonl", evals(6))
    assert stage_of(run_here(recipe, tmp_path / "d", store))["counters"]["scored"] == 60
