"""The command as people use it: a subprocess, its output, its exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from makes import alpaca_rows, write_jsonl, write_recipe


def curate(*words: object, store: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "160"}
    if store is not None:
        environment["CURATRIX_STORE"] = str(store)
    command = [sys.executable, "-m", "cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200, check=False)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    done = curate("demo", "--out", folder, store=folder / "store")
    assert done.returncode == 0, done.stderr
    assert "every row is accounted for" in done.stdout
    assert "of the decisions" in done.stdout
    assert "curate explain" in done.stdout
    return folder


def test_demo_finds_what_was_planted(demo: Path) -> None:
    manifest = json.loads((demo / "dataset/manifest.json").read_text())
    stages = {stage["stage"]: stage for stage in manifest["stages"]}
    assert manifest["quarantine"]["by_kind"] == {"invalid_json": 1, "invalid_utf8": 1, "missing_content": 1}
    assert stages["dedup"]["reasons"] == {"duplicate: exact": 20, "duplicate: near": 16}
    assert stages["tests"]["reasons"] == {
        "tests: 2 of 5 required": 5, "not verified: wrong_answer": 3, "tests: 1 of 5 required": 2,
        "tests: 3 of 5 required": 1,
    }  # fmt: skip
    formats = {file["format"] for source in manifest["sources"] for file in source["files"]}
    assert {"json", "jsonl", "csv", "yaml", "parquet", "id_text"} <= formats


def test_sql_in_every_output_format(demo: Path) -> None:
    query = "SELECT source, count(*) AS n FROM records GROUP BY ALL ORDER BY ALL"
    table = curate("sql", demo / "dataset", query)
    assert "alpaca" in table.stdout
    assert table.returncode == 0
    rows = [json.loads(line) for line in curate("sql", demo / "dataset", query, "-f", "json").stdout.splitlines()]
    lines = curate("sql", demo / "dataset", query, "-f", "csv").stdout.splitlines()
    assert lines[1:] == [f"{row['source']},{row['n']}" for row in rows]
    wrong = curate("sql", demo / "dataset", "SELECT sorce FROM records")
    assert wrong.returncode == 2
    assert "source" in wrong.stderr
    assert wrong.stdout == ""


def test_explain_a_dropped_twin(demo: Path) -> None:
    query = "SELECT record_id, related_id FROM decisions WHERE reason = 'duplicate: near' LIMIT 1"
    row = json.loads(curate("sql", demo / "dataset", query, "-f", "json").stdout)
    told = curate("explain", demo / "dataset", row["record_id"][:12], store=demo / "store")
    assert told.returncode == 0, told.stderr
    assert row["related_id"][:8] in told.stdout
    assert "duplicate: near" in told.stdout
    missing = curate("explain", demo / "dataset", "zzzz")
    assert missing.returncode == 2


def test_funnel_and_report(demo: Path) -> None:
    funnel = json.loads(curate("funnel", demo / "dataset", "--json").stdout)
    assert funnel["problems"] == []
    assert curate("report", demo / "dataset").stdout.strip().endswith("report.html")


def test_redecide_answers_from_stored_scores(demo: Path) -> None:
    again = curate("redecide", demo / "dataset", "--set", "stages.dedup.threshold=0.5", "--json", store=demo / "store")
    assert again.returncode == 0, again.stderr
    stages = {stage["stage"]: stage for stage in json.loads(again.stdout)["stages"]}
    assert stages["dedup"]["counters"]["scored"] == 0
    assert stages["dedup"]["dropped"] >= 36
    other = demo / "other"
    assert curate("redecide", demo / "dataset", "--set", "stages.tests.min_tests=1", "--out", other).returncode == 0
    differences = curate("diff", demo / "dataset", other)
    assert "min_tests" in differences.stdout


def test_redecide_reads_no_sources(demo: Path) -> None:
    done = curate("redecide", demo / "dataset", "--set", "sources.0.path=elsewhere", store=demo / "store")
    assert done.returncode == 2
    assert "redecide reads no sources" in done.stderr


def test_places_with_brackets_and_places_that_cannot_be(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(3))
    recipe = write_recipe(tmp_path, stages=["length"])
    done = curate("run", recipe, "--out", tmp_path / "o[/v2]", store=tmp_path / "store")
    assert done.returncode == 0, done.stderr
    assert f"written to {tmp_path}/o[/v2]" in done.stderr
    done = curate("run", recipe, "--out", tmp_path / "rows.jsonl/x", store=tmp_path / "store")
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "rows.jsonl" in done.stderr


def test_a_store_is_found_from_where_the_command_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recipes").mkdir()
    write_jsonl(tmp_path / "recipes/rows.jsonl", alpaca_rows(3))
    recipe = write_recipe(tmp_path / "recipes", stages=["length"])
    monkeypatch.chdir(tmp_path)
    assert curate("run", recipe, "--out", tmp_path / "out", store=Path("store")).returncode == 0
    assert (tmp_path / "store/pool").is_dir()
    wrong = curate("store", "ls", "--store", tmp_path / "typo")
    assert wrong.returncode == 2
    assert not (tmp_path / "typo").exists()


def test_plan_touches_nothing(demo: Path, tmp_path: Path) -> None:
    fresh = curate("plan", demo / "example/recipe.yaml", "--json", store=tmp_path / "store")
    assert fresh.returncode == 0, fresh.stderr
    plan = json.loads(fresh.stdout)
    assert plan["cached_files"] == 0
    assert 500 < plan["rows"] < 700
    known = json.loads(curate("plan", demo / "example/recipe.yaml", "--json", store=demo / "store").stdout)
    assert known["cached_files"] == len(known["files"])
    assert not (tmp_path / "store").exists()


def test_inspect_says_what_and_why(demo: Path) -> None:
    found = curate("inspect", demo / "example/tools.jsonl")
    assert found.returncode == 0, found.stderr
    for word in ("jsonl", "messages", "invalid_json", "line 11", "invalid_utf8", "line 31"):
        assert word in found.stdout
    missing = curate("inspect", demo / "example/tols.jsonl")
    assert missing.returncode == 2
    assert "tools.jsonl" in missing.stderr


def test_stages_and_doctor(tmp_path: Path) -> None:
    listed = curate("stages")
    assert all(name in listed.stdout for name in ("clean", "dedup", "length", "sample", "tests"))
    assert "threshold" in curate("stages", "dedup").stdout
    assert curate("stages", "dedpu").returncode == 2
    doctor = curate("doctor", "--json", store=tmp_path)
    assert doctor.returncode == 0, doctor.stderr
    json.loads(doctor.stdout)


def test_store_ls_and_gc(demo: Path, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(20))
    recipe = write_recipe(tmp_path, stages=["length"])
    assert curate("run", recipe, "--out", tmp_path / "out", store=tmp_path / "store").returncode == 0
    listed = json.loads(curate("store", "ls", "--store", tmp_path / "store", "--json").stdout)
    assert {group["what"] for group in listed["groups"]} == {"pool", "scores/length"}
    assert json.loads(curate("store", "gc", "--store", tmp_path / "store", "--json").stdout)["bytes"] == 0
    freed = json.loads(curate("store", "gc", "--store", tmp_path / "store", "--days", "0", "--json").stdout)
    assert freed["bytes"] == listed["bytes"] > 0
    assert json.loads(curate("store", "ls", "--store", tmp_path / "store", "--json").stdout)["groups"] == []


@pytest.mark.parametrize(
    ("keys", "word"),
    [
        ({"stagse": []}, "stages"),
        ({"stages": ["dedpu"]}, "dedup"),
        ({"sources": [{"name": "s", "path": "rws.jsonl"}]}, "rows.jsonl"),
        ({"stages": [{"length": {"tokenizer": "missing.json"}}]}, "missing.json"),
    ],
)
def test_wrong_recipes_exit_2_with_one_clear_line(tmp_path: Path, keys: dict[str, object], word: str) -> None:
    write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(2))
    done = curate("run", write_recipe(tmp_path, **keys), "--out", tmp_path / "out", store=tmp_path / "store")
    assert done.returncode == 2
    assert done.stdout == ""
    assert word in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not (tmp_path / "out").exists()


def test_a_tripped_gate_exits_3(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps(alpaca_rows(1)[0]) + "\nnope\n")
    done = curate("run", write_recipe(tmp_path), "--out", tmp_path / "out", store=tmp_path / "store")
    assert done.returncode == 3
    assert "max_quarantine" in done.stderr
