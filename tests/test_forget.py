"""`curate forget`: what people ask to have removed is gone everywhere, stays gone, and is accounted for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from makes import alpaca_rows, run_here, write_jsonl, write_recipe

import reports
from pipelines import registry
from pipelines.forget import Removal, forget
from pipelines.store import Store
from reports.contents import contents_where
from schemas.errors import BadRow, RecipeError
from stages.contract import Decisions, Scores, Stage, State

SECRET = "jo@example.org lives in Rivertown"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    rows = alpaca_rows(40)
    rows[7]["output"] += f" {SECRET}"
    write_jsonl(tmp_path / "rows.jsonl", [*rows, rows[7]])
    recipe = write_recipe(tmp_path, stages=["clean", {"dedup": {"threshold": 0.8}}, "length"])
    for name in ("monday", "tuesday"):
        run_here(recipe, tmp_path / name, tmp_path / "store")
    return tmp_path


def _everywhere(folder: Path) -> list[Path]:
    """Files that hold the secret, compressed columns looked into."""
    found = []
    for path in folder.rglob("*"):
        if path.suffix == ".parquet":
            found += [path] if SECRET in str(pq.read_table(path).to_pylist()) else []
        elif path.is_file():
            found += [path] if SECRET.encode() in path.read_bytes() else []
    return found


def _curate(place: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli", *arguments]
    environment = {**os.environ, "CURATRIX_STORE": str(place / "store")}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=check)


def test_a_match_is_removed_from_runs_and_store_and_stays_away(place: Path) -> None:
    runs = [str(place / "monday"), str(place / "tuesday")]
    arguments = ("forget", *runs, "--match", "completion LIKE '%jo@example.org%'", "--reason", "request 17", "--json")
    dry = json.loads(_curate(place, *arguments, "--dry-run").stdout)
    assert dry == {"contents": 1, "removed": None}
    assert len(_everywhere(place / "store")) >= 1
    done = json.loads(_curate(place, *arguments).stdout)
    assert done["removed"]["datasets"] == dict.fromkeys(runs, 1)
    assert done["removed"]["records"] >= 2  # the row and its copy
    for folder in ("monday", "tuesday", "store"):
        assert _everywhere(place / folder) == []
    again = run_here(place / "recipe.yaml", place / "wednesday", place / "store")
    assert again["splits"] == {"train": 39}
    assert again["stages"][0]["stage"] == "ingest"
    assert again["stages"][0]["reasons"] == {"forgotten": 2}
    assert again["stages"][1]["rows_in"] == 39


def test_the_removal_is_a_decision_like_any_other(place: Path) -> None:
    hashes = contents_where(place / "store", "completion LIKE '%Rivertown%'")
    forget(Removal(hashes, "request 17"), [place / "monday"], [Store(place / "store")], reports.documents)
    manifest = json.loads((place / "monday/manifest.json").read_text())
    entry = manifest["stages"][-1]
    assert (entry["stage"], entry["rows_in"], entry["kept"], entry["dropped"]) == ("forget", 40, 39, 1)
    assert manifest["splits"] == {"train": 39}
    decisions = f"'{place}/monday/lineage/decisions/*.parquet'"
    found = duckdb.sql(f"SELECT stage, reason FROM {decisions} WHERE NOT keep AND stage = 'forget'").fetchall()
    assert found == [("forget", "forgotten; request 17")]
    for file in manifest["files"]:
        assert pq.read_metadata(place / "monday" / file["path"]).num_rows == file["rows"]
    shown = _curate(place, "funnel", str(place / "monday")).stdout
    assert "forget" in shown


def test_by_record_id(place: Path) -> None:
    data = next((place / "monday/data").glob("*.parquet"))
    record = pq.read_table(data)["record_id"][3].as_py()
    done = json.loads(_curate(place, "forget", str(place / "monday"), "--id", record[:12], "--json").stdout)
    assert done["contents"] >= 1
    assert record not in pq.read_table(data)["record_id"].to_pylist()
    assert (place / "tuesday/data" / data.name).is_file()
    assert record in pq.read_table(place / "tuesday/data" / data.name)["record_id"].to_pylist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "say what to forget"),
        (("--id", "zzz"), "means no record"),
        (("--match", "nothing = 1"), "--match"),
        (("--match", "1=1); DROP TABLE x; --"), "one SQL statement"),
    ],
)
def test_what_is_unclear_removes_nothing(place: Path, arguments: tuple[str, ...], message: str) -> None:
    done = _curate(place, "forget", str(place / "monday"), *arguments, check=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (place / "store/forgotten.json").exists()


class Fussy(Stage):
    """Cannot score a record that names a town, and quotes it."""

    name: ClassVar[str] = "fussy"
    reads: ClassVar[tuple[str, ...]] = ("completion",)

    def score(self, batch: pa.RecordBatch, state: State) -> pa.RecordBatch:
        """Nothing but an error."""
        for text in batch["completion"].to_pylist():
            if "Rivertown" in text:
                raise BadRow("town", f"what is {text}?", "completion")
        return pa.RecordBatch.from_pydict({"fine": pa.repeat(True, batch.num_rows)})

    def decide(self, scores: Scores) -> Decisions:
        """Keep everything."""
        return Decisions(np.ones(len(scores), np.bool_), ["kept"] * len(scores))


def test_a_record_that_a_stage_could_not_score_leaves_quarantine(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = registry.stage_class
    monkeypatch.setattr("pipelines.recipe_file.stage_class", lambda name: Fussy if name == "fussy" else known(name))
    run_here(write_recipe(place, stages=["fussy"], max_quarantine=0.5), place / "friday", place / "store")
    held = place / "friday/quarantine/01-fussy.parquet"
    assert held in _everywhere(place / "friday")
    hashes = contents_where(place / "store", "completion LIKE '%Rivertown%'")
    forget(Removal(hashes, "request 17"), [place / "friday"], [Store(place / "store")], reports.documents)
    assert _everywhere(place / "friday") == []
    rows = pq.read_table(held).to_pylist()
    assert [(row["error"], row["raw"]) for row in rows] == [("forgotten", None)] * 2


@pytest.mark.parametrize("how", ["--match", "--id"])
def test_the_store_of_the_recipe_and_the_data_of_runs_with_little_lineage(tmp_path: Path, how: str) -> None:
    rows = alpaca_rows(6)
    rows[3]["output"] += f" {SECRET}"
    write_jsonl(tmp_path / "rows.jsonl", rows)
    recipe = write_recipe(tmp_path, stages=["length"], store="own", lineage="drops")
    _curate(tmp_path, "run", str(recipe), "--out", str(tmp_path / "out"))
    data = pq.read_table(tmp_path / "out/data").to_pylist()
    record = next(row["record_id"] for row in data if SECRET in str(row))
    what = "completion LIKE '%Rivertown%'" if how == "--match" else record
    done = json.loads(_curate(tmp_path, "forget", str(tmp_path / "out"), how, what, "--json").stdout)
    assert done["removed"]["datasets"] == {str(tmp_path / "out"): 1}
    assert _everywhere(tmp_path / "out") == _everywhere(tmp_path / "own") == []
    write_jsonl(tmp_path / "rows.jsonl", [*rows, *alpaca_rows(1, seed=9)])
    _curate(tmp_path, "run", str(recipe), "--out", str(tmp_path / "out"))
    assert _everywhere(tmp_path / "out") == []


def test_a_run_that_was_not_named_before_catches_up(place: Path) -> None:
    match = ("--match", "completion LIKE '%Rivertown%'", "--json")
    _curate(place, "forget", str(place / "monday"), *match)
    assert _everywhere(place / "tuesday")
    _curate(place, "forget", str(place / "tuesday"), *match)
    assert _everywhere(place / "tuesday") == []


def test_a_match_is_found_in_a_run_whose_store_is_empty(place: Path) -> None:
    shutil.rmtree(place / "store/pool")
    done = _curate(place, "forget", str(place / "monday"), "--match", "completion LIKE '%Rivertown%'", "--json")
    assert json.loads(done.stdout)["removed"]["datasets"] == {str(place / "monday"): 1}
    assert _everywhere(place / "monday") == []


def test_a_removal_that_stopped_within_the_store_is_finished(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = contents_where(place / "store", "completion LIKE '%Rivertown%'")
    runs, store = [place / "monday", place / "tuesday"], Store(place / "store")

    def breaking(folder: Path) -> list[Path]:
        raise OSError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr("pipelines.forget._score_files", breaking)  # the records are blank by then
        with pytest.raises(OSError, match="no space"):
            forget(Removal(hashes, "x"), runs, [store], reports.documents)
    assert _everywhere(place / "store")
    _curate(place, "forget", *map(str, runs), "--match", "completion LIKE '%Rivertown%'")
    assert _everywhere(place / "store") == []


def test_only_finished_runs(place: Path) -> None:
    with pytest.raises(RecipeError, match="not a finished run"):
        forget(Removal(frozenset({"0" * 32}), "x"), [place / "none"], [Store(place / "store")], reports.documents)


def test_replies_about_a_record_leave_the_journals(place: Path) -> None:
    hashes = contents_where(place / "store", "completion LIKE '%Rivertown%'")
    lines = [
        {"key": "1" * 32, "ok": 1, "about": next(iter(hashes)), "text": SECRET},
        {"key": "2" * 32, "ok": 1, "about": "f" * 32, "text": "another"},
        {"key": "3" * 32, "ok": 1, "text": "of nobody"},
    ]
    journal = write_jsonl(place / "store/journals/reflect/a.jsonl", lines)
    found = forget(Removal(hashes, "x"), [place / "monday"], [Store(place / "store")], reports.documents)
    assert found.replies == 1
    assert [json.loads(line)["key"] for line in journal.read_text().splitlines()] == ["2" * 32, "3" * 32]


def test_an_interrupted_removal_is_finished_by_the_same_command(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = contents_where(place / "store", "completion LIKE '%Rivertown%'")

    def breaking(folder: Path) -> list[dict[str, object]]:
        raise OSError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr("pipelines.forget.file_entries", breaking)  # the data is rewritten by then, the manifest not
        with pytest.raises(OSError, match="no space"):
            forget(Removal(hashes, "x"), [place / "monday"], [Store(place / "store")], reports.documents)
    found = forget(Removal(hashes, "x"), [place / "monday"], [Store(place / "store")], reports.documents)
    assert found.datasets == {str(place / "monday"): 1}
    entry = json.loads((place / "monday/manifest.json").read_text())["stages"][-1]
    assert (entry["rows_in"], entry["kept"], entry["dropped"]) == (40, 39, 1)
    assert _everywhere(place / "monday") == []
