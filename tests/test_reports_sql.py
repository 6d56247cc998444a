"""`curate sql`: what it refuses, what it says about mistakes, and what it writes."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import duckdb
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from rundir import write_run

from reports.catalog import connect
from reports.sql import query, to_csv, to_jsonl, to_parquet, to_table
from schemas.errors import RecipeError


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("sql") / "run")


@pytest.fixture
def untouched(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing in the run, and nothing in the working directory, changes during the test."""
    monkeypatch.chdir(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    yield
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    assert list(tmp_path.iterdir()) == []


WRITES = [
    "COPY (SELECT 1) TO '{dir}/x.csv'",
    "COPY (SELECT 1) TO '{dir}/data/train-00000-of-00002.parquet' (FORMAT parquet)",
    "COPY (SELECT 1) TO 'x.csv'",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{dir}/x.csv'",
    "EXPLAIN (ANALYZE) COPY (SELECT 1) TO '{dir}/x.csv'",
    "explain analyze\n copy (SELECT 1) TO '{dir}/x.csv'",
    "-- explain \nexplain analyze copy (select 1) to '{dir}/x.csv' /* \n select 1 -- */",
    "/* explain analyze */ EXPLAIN ANALYZE COPY (SELECT 1) TO '{dir}/x.csv'",
    "ATTACH '{dir}/x.db'",
    "ATTACH 'x.db' AS x",
    "EXPORT DATABASE '{dir}/x'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "CREATE TABLE t AS SELECT 1",
    "CREATE OR REPLACE VIEW records AS SELECT 1",
    "DROP VIEW records",
    "INSERT INTO t VALUES (1)",
    "SET enable_external_access = true",
    "SET allowed_directories = ['/']",
    "RESET lock_configuration",
    "PRAGMA enable_profiling",
    "CALL enable_logging(storage = 'file', storage_path = '{dir}/log')",
    "FROM enable_logging(storage = 'file', storage_path = '{dir}/log')",
    "SELECT (SELECT 1 FROM system.main.\"enable_logging\"/**/(storage = 'file', storage_path = '{dir}/log'))",
    "SELECT 1; COPY (SELECT 1) TO '{dir}/x.csv'",
    "SELECT 1 FROM range(1) WHERE EXISTS (FROM query('FROM enable_logging()'))",
]


@pytest.mark.parametrize("statement", WRITES)
@pytest.mark.usefixtures("untouched")
def test_writing_is_refused(statement: str, run: Path) -> None:
    with pytest.raises(RecipeError):
        query(run, statement.replace("{dir}", run.as_posix()))


READS_OUTSIDE = [
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('{dir}/../secret.txt')",
    "SELECT * FROM '{dir}-2/data/x.parquet'",
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM read_parquet('https://example.com/x.parquet')",
]


@pytest.mark.parametrize("statement", READS_OUTSIDE)
def test_files_outside_the_run_cannot_be_read(statement: str, run: Path) -> None:
    (run.parent / "secret.txt").write_text("secret")
    with pytest.raises(RecipeError):
        query(run, statement.replace("{dir}", run.as_posix()))


def test_python_variables_are_not_tables(run: Path) -> None:
    leaked = pa.table({"a": [1]})
    with connect(run) as catalog, pytest.raises(duckdb.Error):
        catalog.sql("SELECT * FROM leaked").fetchall()
    assert leaked.num_rows == 1


def test_the_engine_itself_is_locked(run: Path) -> None:
    """Behind the gate on statements there is a second wall."""
    with connect(run) as catalog:
        for statement in (
            f"COPY (SELECT 1) TO '{run.parent}/x.csv'",
            "SET enable_external_access = true",
            "LOAD httpfs",
        ):
            with pytest.raises(duckdb.Error):
                catalog._connection.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "FROM funnel",
        "DESCRIBE records",
        "SHOW TABLES",
        "SUMMARIZE decisions",
        "EXPLAIN SELECT * FROM records",
        "explain analyze FROM funnel",
        "WITH x AS (SELECT 1 AS a) SELECT * FROM x",
        "SELECT * FROM range(3) UNION ALL SELECT 4",
        "SELECT unnest([1, 2])",
        "PIVOT funnel ON stage IN ('dedup', 'length') USING sum(dropped)",
        "-- a comment\nSELECT 1;",
    ],
)
def test_reading_is_allowed(statement: str, run: Path) -> None:
    assert query(run, statement).num_rows >= 1


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("SELECT * FROM recrods", r"no table 'recrods' here; did you mean 'records'\?"),
        ("SELECT recordid FROM records", r"no column 'recordid' here; did you mean 'record_id'\?"),
        ("SELECT d.reasn FROM decisions AS d", r"no column 'reasn' here; did you mean 'reason'\?"),
        ("SELECT * FROM", "syntax error"),
        ("SELEC 1", "SQL: "),
        ("", "one SQL statement"),
        ("SELECT 1; SELECT 2", r"one SQL statement at a time, please \(got 2\)"),
        ("SELECT frob(1)", "frob"),
        ("SELECT CAST(reason AS INT) FROM decisions", "Could not convert"),
    ],
)
def test_mistakes_get_one_clear_line(statement: str, message: str, run: Path) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        query(run, statement)
    assert "\n" not in str(caught.value)


MIXED = r"""
SELECT 1 AS n, 'a,"b"' || chr(10) || 'c' AS s, NULL AS nothing, [1, 2] AS list, {'k': 'v'} AS struct,
       '\xFF'::BLOB AS raw, 'nan'::DOUBLE AS nan"""


def test_csv(run: Path) -> None:
    rows = list(csv.reader(io.StringIO(to_csv(query(run, MIXED)).decode())))
    assert rows[0] == ["n", "s", "nothing", "list", "struct", "raw", "nan"]
    assert rows[1] == ["1", 'a,"b"\nc', "", "[1,2]", '{"k":"v"}', "\\xff", "nan"]


def test_columns_of_one_name_stay_apart(run: Path) -> None:
    found = query(run, "SELECT 1 AS a, 2 AS a, 3 AS b, 4 AS a_1, 5 AS a")
    assert found.column_names == ["a", "a_2", "b", "a_1", "a_3"]
    assert found.to_pylist() == [{"a": 1, "a_2": 2, "b": 3, "a_1": 4, "a_3": 5}]
    assert to_csv(found) == b"a,a_2,b,a_1,a_3\n1,2,3,4,5\n"
    assert orjson.loads(to_jsonl(found)) == found.to_pylist()[0]


def test_json_lines(run: Path) -> None:
    lines = to_jsonl(query(run, f"{MIXED} UNION ALL {MIXED}")).splitlines()
    assert len(lines) == 2
    assert orjson.loads(lines[0]) == {
        "n": 1, "s": 'a,"b"\nc', "nothing": None, "list": [1, 2], "struct": {"k": "v"}, "raw": "\\xff", "nan": None
    }  # fmt: skip


def test_parquet_round_trip(run: Path) -> None:
    result = query(run, "FROM records")
    assert pq.read_table(io.BytesIO(to_parquet(result))).equals(result)


def test_every_format_of_an_empty_result(run: Path) -> None:
    result = query(run, "SELECT record_id, score FROM decisions WHERE false")
    assert to_csv(result) == b"record_id,score\n"
    assert to_jsonl(result) == b""
    assert pq.read_table(io.BytesIO(to_parquet(result))).num_rows == 0


def test_terminal_table_is_cut_and_says_so(run: Path) -> None:
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(
        to_table(query(run, "SELECT i, repeat('x', 300) AS long, '[red]b' AS markup FROM range(50) AS t(i)"), width=50)
    )
    text = console.export_text()
    assert "first 40 of 50 rows" in text
    assert "…" in text
    assert "[red]b" in text
