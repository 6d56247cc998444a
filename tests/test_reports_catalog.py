"""The catalog: views over complete and empty runs, as a file and as a connection."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import datasets
import duckdb
import orjson
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from rundir import TEXTS, record_id, write_run

from reports.catalog import catalog_sql, connect, connect_pair, sql_type, views
from reports.manifest import load
from schemas.errors import RecipeError, RunError
from schemas.lineage import DECISION, REWRITE
from schemas.record import QUARANTINE, RECORD


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    return write_run(tmp_path / "bare", bare=True)


def _text(run: Path) -> str:
    return catalog_sql(run, orjson.loads((run / "manifest.json").read_bytes()))


def test_catalog_works_from_inside_the_directory(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run)
    with duckdb.connect(":memory:") as connection:
        connection.execute(_text(run))
        counts = {
            name: connection.sql(f'SELECT count(*) FROM "{name}"').fetchall()[0][0]
            for name in ("records", "decisions", "funnel", "why", "quarantine", "rewrites", "scores_dedup_2")
        }
    # 10 records are read; 9, 9 and 7 of them reach length, dedup and reflect.
    assert counts == {
        "records": 7, "decisions": 36, "funnel": 8, "why": 11, "quarantine": 1, "rewrites": 1, "scores_dedup_2": 10
    }  # fmt: skip


def test_catalog_has_no_absolute_path(run: Path) -> None:
    assert str(run) not in _text(run)


@pytest.mark.skipif(shutil.which("duckdb") is None, reason="the duckdb shell is not installed")
def test_catalog_works_in_the_duckdb_shell(run: Path) -> None:
    (run / "catalog.sql").write_text(_text(run))
    command = ["duckdb", "-csv", "-c", ".read catalog.sql", "-c", "SELECT count(*) AS n FROM why"]
    assert subprocess.run(command, cwd=run, capture_output=True, text=True, check=True).stdout == "n\n11\n"


def test_empty_pieces_have_the_right_columns(bare: Path) -> None:
    with connect(bare) as catalog:
        for view, schema in (("quarantine", QUARANTINE), ("rewrites", REWRITE)):
            relation = catalog.sql(f"SELECT * FROM {view}")
            assert relation.fetchall() == []
            assert relation.columns == schema.names
        assert [row["outcome"] for row in catalog.rows("FROM why WHERE source_id = 'a1'")] == ["kept"]
    assert not [name for name in views(bare) if name.startswith("scores_")]


def test_a_run_without_any_parquet_file_has_all_views(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", bare=True)
    for folder in ("data", "lineage"):
        shutil.rmtree(run / folder)
    with connect(run) as catalog:
        assert catalog.sql("FROM records").columns == [*RECORD.names, "split"]
        assert catalog.sql("FROM decisions").columns == DECISION.names
        assert catalog.rows("FROM why") == []


@pytest.mark.parametrize(("view", "schema"), [("records", RECORD), ("decisions", DECISION)])
def test_types_of_empty_views_are_those_of_the_files(view: str, schema: object, run: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    shutil.copy(run / "manifest.json", empty)
    with connect(run) as full, connect(empty) as none:
        assert [str(kind) for kind in none.sql(f"FROM {view}").types] == [
            str(kind) for kind in full.sql(f"FROM {view}").types
        ]


def test_golden_numbers(run: Path) -> None:
    with connect(run) as catalog:
        drops = catalog.sql("SELECT stage, reason, count(*) FROM why WHERE outcome = 'dropped' GROUP BY ALL").fetchall()
        twin = catalog.rows("SELECT related_id FROM why WHERE source_id = 'b1'")
        funnel = catalog.sql(
            "SELECT stage, sum(rows_in), sum(kept), sum(dropped), sum(quarantined) FROM funnel GROUP BY ALL"
        )
        assert {row[0]: row[1:] for row in funnel.fetchall()} == {
            "ingest": (11, 10, 0, 1), "length": (10, 9, 1, 0), "dedup": (9, 7, 2, 0), "reflect": (7, 7, 0, 0)
        }  # fmt: skip
    assert sorted(drops) == [
        ("dedup", "exact_duplicate", 1),
        ("dedup", "near_duplicate", 1),
        ("length", "too_short", 1),
    ]
    assert twin == [{"related_id": record_id("a1")}]


def test_funnel_agrees_with_the_decisions(run: Path) -> None:
    query = """
    SELECT position, stage, source, kept, dropped FROM funnel
    EXCEPT SELECT position, stage, source, count_if(keep), count_if(NOT keep) FROM decisions GROUP BY ALL"""
    with connect(run) as catalog:
        assert catalog.sql(query).fetchall() == []


def test_split_comes_from_the_file_name(run: Path) -> None:
    shutil.copy(run / "data/train-00000-of-00002.parquet", run / "data/validation-00000-of-00001.parquet")
    with connect(run) as catalog:
        counts = catalog.sql("SELECT split, count(*) FROM records GROUP BY ALL ORDER BY ALL").fetchall()
    assert counts == [("train", 7), ("validation", 7)]


@pytest.mark.parametrize("name", ["with space", "it's", "a[1]b", "star*", "question?", "ünïcode"])
def test_directory_names_that_are_hard_to_quote(name: str, tmp_path: Path) -> None:
    run = write_run(tmp_path / name)
    with connect(run) as catalog:
        assert catalog.sql("SELECT count(*) FROM records").fetchall() == [(7,)]


def test_connect_works_from_anywhere_with_a_relative_path(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.parent)
    with connect(Path("run")) as catalog:
        monkeypatch.chdir("/")
        assert catalog.sql("SELECT count(*) FROM records").fetchall() == [(7,)]


def test_two_runs_at_once(run: Path, bare: Path) -> None:
    with connect_pair(run, bare) as catalog:
        assert catalog.sql(
            "SELECT (SELECT count(*) FROM a.quarantine), (SELECT count(*) FROM b.quarantine)"
        ).fetchall() == [(1, 0)]


def test_no_run_names_the_nearest(run: Path) -> None:
    with pytest.raises(RecipeError, match=r"no such run; did you mean '.*/run'"):
        connect(run.parent / "runn")
    with pytest.raises(RecipeError, match="not a finished run"):
        connect(run.parent)


def test_damaged_manifest(run: Path) -> None:
    (run / "manifest.json").write_text('{"seed": "many"}')
    with pytest.raises(RunError, match="seed"):
        load(run)
    (run / "manifest.json").write_text("{")
    with pytest.raises(RunError, match="not valid JSON"):
        load(run)


def test_every_type_of_our_schemas_has_a_sql_type() -> None:
    kinds = [sql_type(field.type) for schema in (RECORD, DECISION, QUARANTINE, REWRITE) for field in schema]
    assert "STRUCT" in kinds[RECORD.names.index("messages")]


def test_a_shard_that_lost_every_row_opens_everywhere(run: Path, tmp_path: Path) -> None:
    assert pq.read_metadata(run / "data/train-00001-of-00002.parquet").num_row_groups == 0
    pattern = f"{run}/data/*.parquet"
    kept = sorted(set(TEXTS) - {"a2", "b1", "b3"})
    loaded = datasets.load_dataset(str(run), split="train", cache_dir=str(tmp_path / "cache"))
    assert sorted(loaded["source_id"]) == kept
    assert sorted(pl.read_parquet(pattern)["source_id"]) == kept
    assert sorted(pd.read_parquet(run / "data")["source_id"]) == kept
    with duckdb.connect(":memory:") as connection:
        rows = connection.sql(f"SELECT source_id FROM '{pattern}' ORDER BY 1").fetchall()
    assert [row[0] for row in rows] == kept
