"""`curate export`: a run's data in another shape, whole or not at all, with every row accounted for."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from formats_rows import ALPACA, CHATS, FUNCTIONAL, MATHS, PROBLEMS, SOURCE, STDIO, TEXT, fenced, make_run
from makes import tree

from jobs.reward import compute_score
from pipelines import exporting
from pipelines.exporting import explained, export_run
from pipelines.files import read_json
from pipelines.formats import FORMATS
from schemas.errors import GateError, RecipeError, RunError

ROWS = [*(row for row, _, _ in PROBLEMS.values()), *CHATS.values(), MATHS, TEXT]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("made"), ROWS)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_loads_and_every_row_is_accounted_for(name: str, run: Path, tmp_path: Path) -> None:
    report = export_run(run, name, tmp_path / "out")
    assert report["rows_in"] == len(ROWS)
    assert report["rows"] + sum(entry["rows"] for entry in report["untold"].values()) == len(ROWS)
    assert report == read_json(tmp_path / "out/export.json")
    found = load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in found.items()} == report["splits"]
    assert set(found["train"].column_names) == set(FORMATS[name].schema.names)


def test_scores_from_the_export_of_a_run(run: Path, tmp_path: Path) -> None:
    report = export_run(run, "verl", tmp_path / "out")
    assert (report["rows"], report["untold"].keys()) == (len(PROBLEMS) + 1, {"nothing_to_check"})
    found = load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    by_source = {row["data_source"]: row for row in found}
    for at, (_, right, wrong) in enumerate(PROBLEMS.values()):
        row = by_source[f"source{at:02d}"]
        truth = row["reward_model"]["ground_truth"]
        assert compute_score(row["data_source"], fenced(right), truth, row["extra_info"]) == 1.0
        assert compute_score(row["data_source"], fenced(wrong), truth, row["extra_info"]) == 0.0


def test_reasons_and_strict(run: Path, tmp_path: Path) -> None:
    report = export_run(run, "rllm", tmp_path / "out")
    counts = {kind: entry["rows"] for kind, entry in report["untold"].items()}
    assert counts == {"not_a_code_problem": len(CHATS) + 2, "source_tests": 1, "reference_tests": 1}
    assert explained(report)[0].startswith("5 not told: not_a_code_problem (")
    ids = set(pq.read_table(run / "data", columns=["record_id"])["record_id"].to_pylist())
    assert {entry["example"] for entry in report["untold"].values()} <= ids
    with pytest.raises(GateError, match="source_tests"):
        export_run(run, "rllm", tmp_path / "strict", strict=True)
    assert not (tmp_path / "strict").exists()


def test_strict_is_quiet_where_every_row_is_told(tmp_path: Path) -> None:
    run = make_run(tmp_path, [STDIO, FUNCTIONAL, SOURCE])
    assert export_run(run, "trl", tmp_path / "out", strict=True)["rows"] == 3


def test_same_run_same_bytes_and_an_export_is_replaced(run: Path, tmp_path: Path) -> None:
    export_run(run, "trl", tmp_path / "out")
    first = tree(tmp_path / "out")
    export_run(run, "alpaca", tmp_path / "out")
    assert read_json(tmp_path / "out/export.json")["format"] == "alpaca"
    export_run(run, "trl", tmp_path / "out")
    assert tree(tmp_path / "out") == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_the_card_says_shape_source_and_what_is_missing(run: Path, tmp_path: Path) -> None:
    export_run(run, "open-r1", tmp_path / "out")
    card = (tmp_path / "out/README.md").read_text()
    assert read_json(run / "manifest.json")["run_fingerprint"] in card
    assert "`open-r1`" in card
    assert "| `verification_info` |" in card
    assert "1 not told: source_tests" in card


def test_refusals(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="did you mean 'verl'"):
        export_run(run, "verk", tmp_path / "out")
    with pytest.raises(RecipeError, match="not a finished run"):
        export_run(tmp_path, "verl", tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep")
    with pytest.raises(RecipeError, match="not an export"):
        export_run(run, "verl", tmp_path / "mine")
    with pytest.raises(RecipeError, match="not an export"):
        export_run(run, "verl", run)
    with pytest.raises(RecipeError, match="is a file"):
        export_run(run, "verl", tmp_path / "mine/notes.txt")
    assert tree(tmp_path) == {"mine/notes.txt": b"keep"}


@pytest.mark.parametrize("content", ["{}", "[]", '{"source": "wordpress"}', '{"source": {"run_fingerprint": 7}}', "{"])
def test_a_folder_with_an_export_of_another_program_stays(content: str, run: Path, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site/export.json").write_text(content)
    (tmp_path / "site/post.md").write_text("keep")
    with pytest.raises(RecipeError, match="not an export"):
        export_run(run, "verl", tmp_path / "site")
    assert tree(tmp_path) == {"site/export.json": content.encode(), "site/post.md": b"keep"}


def test_what_lies_beside_an_export_stays(run: Path, tmp_path: Path) -> None:
    export_run(run, "verl", tmp_path / "out")
    export_run(run, "rllm", tmp_path / "out")  # an export alone is replaced
    assert read_json(tmp_path / "out/export.json")["format"] == "rllm"
    (tmp_path / "out/.git").mkdir()
    (tmp_path / "out/.git/HEAD").write_text("keep")
    before = tree(tmp_path)
    with pytest.raises(RecipeError, match=r"holds '\.git' beside an export"):
        export_run(run, "verl", tmp_path / "out")
    assert tree(tmp_path) == before


def test_nothing_to_tell_is_an_error(tmp_path: Path) -> None:
    run = make_run(tmp_path, [TEXT, ALPACA])
    with pytest.raises(RecipeError, match="not one of the 2 rows"):
        export_run(run, "verl", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_splits_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[Any] = [{**ALPACA, "instruction": f"Say {number}."} for number in range(40)]
    run = make_run(tmp_path, [*rows, TEXT], export={"splits": {"validation": 0.4}, "rows_per_file": 7})
    monkeypatch.setattr(exporting, "_ROWS_PER_FILE", 10)
    report = export_run(run, "messages", tmp_path / "out")
    assert report["splits"].keys() == {"train", "validation"}
    assert sum(report["splits"].values()) == 40
    names = sorted(Path(file["path"]).name for file in report["files"])
    parts = -(-report["splits"]["train"] // 10)
    assert names[0] == f"train-00000-of-{parts:05d}.parquet"
    assert [file["rows"] for file in report["files"] if "train" in file["path"]][:-1] == [10] * (parts - 1)
    wanted = pq.read_table(sorted((run / "data").glob("train-*")), columns=["record_id", "kind"]).to_pylist()
    got = pq.read_table(sorted((tmp_path / "out/data").glob("train-*")), columns=["record_id"]).to_pylist()
    assert [row["record_id"] for row in got] == [row["record_id"] for row in wanted if row["kind"] == "sft"]


def test_index_counts_within_the_split(tmp_path: Path) -> None:
    rows = [{**STDIO, "question": f"Problem {number}."} for number in range(9)]
    run = make_run(tmp_path, [*rows[:4], ALPACA, *rows[4:]], export={"rows_per_file": 3})
    export_run(run, "verl", tmp_path / "out")
    infos = pq.read_table(tmp_path / "out/data")["extra_info"].to_pylist()
    assert [info["index"] for info in infos] == [0, 1, 2, 3, 5, 6, 7, 8, 9]


def test_a_damaged_run_leaves_nothing(tmp_path: Path) -> None:
    run = make_run(tmp_path, [STDIO])
    (shard,) = (run / "data").glob("*.parquet")
    pq.write_table(pq.read_table(shard).drop_columns(["judge"]), shard)
    with pytest.raises(RunError, match="judge"):
        export_run(run, "verl", tmp_path / "out")
    assert not list(tmp_path.glob("*out*"))


def curate(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli", "export", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_command(run: Path, tmp_path: Path) -> None:
    done = curate(run, "--to", "rllm", "--out", tmp_path / "out")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'out'}: 2 of 9 rows as rllm\n")
    assert "5 not told: not_a_code_problem" in done.stderr
    machine = curate(run, "--to", "trl", "--out", tmp_path / "out", "--json")
    assert json.loads(machine.stdout)["rows"] == 5
    strict = curate(run, "--to", "rllm", "--out", tmp_path / "out", "--strict")
    assert (strict.returncode, strict.stdout) == (3, "")
    assert read_json(tmp_path / "out/export.json")["format"] == "trl"
    assert curate(run, "--to", "nope", "--out", tmp_path / "new").returncode == 2


def test_docs_name_every_format_column_and_reason() -> None:
    page = (Path(__file__).resolve().parents[1] / "docs/exports.md").read_text()
    sources = "".join(path.read_text() for path in Path(exporting.__file__).with_name("formats").glob("*.py"))
    for name, shape in FORMATS.items():
        assert f"| `{name}` |" in page
        assert all(f"`{column}`" in page for column in shape.schema.names)
    reasons = set(re.findall(r'BadRow\(\s*"(\w+)"', sources))
    assert len(reasons) > 15
    assert not [kind for kind in reasons if f"`{kind}`" not in page]
