"""The SQL catalog of a run: views over its Parquet files, as a text and as a safe connection."""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import duckdb
import pyarrow as pa

from reports.gate import only_reads
from reports.manifest import Manifest, load, parse, run_dir
from schemas.lineage import DATA, DECISION, DECISIONS_DIR, QUARANTINE_DIR, REWRITE, REWRITES_DIR, SCORES_DIR
from schemas.record import QUARANTINE, RECORD

_HEADER: Final = """\
-- DuckDB views over this directory. Paths are relative to it:  cd DIR && duckdb -c ".read catalog.sql"
-- or, from anywhere and read-only:  curate sql DIR "SELECT * FROM funnel"
"""
_SPLIT: Final = r"regexp_extract(filename, '([^/\\]+?)(-\d+-of-\d+)?\.parquet$', 1)"
_FUNNEL: Final = (
    ("position", "INTEGER"),
    ("stage", "VARCHAR"),
    ("source", "VARCHAR"),
    ("rows_in", "BIGINT"),
    ("kept", "BIGINT"),
    ("dropped", "BIGINT"),
    ("quarantined", "BIGINT"),
)
# A record is dropped once; whoever was kept by the last stage is in the dataset.
_WHY: Final = """\
SELECT record_id, source, source_id, stage, position, CASE WHEN keep THEN 'kept' ELSE 'dropped' END AS outcome,
       reason, score, related_id, detail
FROM decisions WHERE NOT keep OR position = (SELECT max(position) FROM decisions)
UNION ALL BY NAME
SELECT record_id, source, stage, 'quarantined' AS outcome, kind AS reason, error AS detail
FROM quarantine"""


def catalog_sql(directory: Path, manifest: Mapping[str, Any]) -> str:
    """The text of `catalog.sql`: CREATE VIEW statements with paths relative to `directory`.

    Pieces without rows (no file, or none with a row in it) become empty views with the right columns.
    Call it when all Parquet files are in place. Raises RunError if the manifest does not fit its model.
    """
    statements = _statements(directory, "", parse(manifest))
    return _HEADER + "".join(f"\n{statement};\n" for statement in statements)


def views(directory: Path) -> list[str]:
    """Names of the views that a run offers, in the order of the catalog."""
    return [*_base(directory, ""), "funnel", "why"]


class Catalog:
    """A read-only door to runs: SQL text gets through only as one SELECT, and sees files of these runs only.

    The engine refuses every path outside the directories, cannot load extensions, cannot spill to disk, and its
    configuration is locked; what it would still allow inside a run directory (COPY TO, ATTACH, log files) never
    reaches it: see `reports.gate`.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def sql(self, query: str, params: Sequence[object] | Mapping[str, object] | None = None) -> Any:
        """The relation (`duckdb.DuckDBPyRelation`) of one SELECT, DESCRIBE, SHOW, SUMMARIZE or EXPLAIN of these.

        Raises RecipeError for any other statement; DuckDB's own errors for SQL that does not bind.
        """
        only_reads(self._connection, query)
        return self._connection.sql(query, params=params)

    def arrow(self, query: str, params: Sequence[object] | Mapping[str, object] | None = None) -> pa.Table:
        """The result of a query as an Arrow table."""
        relation = self.sql(query, params)
        return relation.to_arrow_table()

    def rows(self, query: str, params: Sequence[object] | Mapping[str, object] | None = None) -> list[dict[str, Any]]:
        """The result of a query as dicts; for small results."""
        rows: list[dict[str, Any]] = self.arrow(query, params).to_pylist()
        return rows

    def remember(self, name: str, query: str) -> None:
        """Keep the result of a query in memory under a name, for queries that build on it."""
        only_reads(self._connection, query)
        self._connection.execute(f'CREATE TEMP TABLE "{name}" AS {query}')

    def close(self) -> None:
        """Free the connection."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def connect(directory: Path) -> Catalog:
    """Open the catalog of a run from anywhere, read-only. Raises RecipeError if `directory` is not a run."""
    return open_views(run_dir(directory), load(directory))


def open_views(root: Path, manifest: Manifest) -> Catalog:
    """The catalog of a run whose manifest is at hand but perhaps not yet written. `root` is absolute."""
    connection = duckdb.connect(":memory:")
    for statement in _statements(root, _escaped(root), manifest):
        connection.execute(statement)
    _lock(connection, [root])
    return Catalog(connection)


def connect_pair(first: Path, second: Path) -> Catalog:
    """Open two runs at once: `a.records`, `a.decisions`, ... and the same under `b`."""
    roots = {"a": run_dir(first), "b": run_dir(second)}
    connection = duckdb.connect(":memory:")
    for schema, root in roots.items():
        connection.execute(f"CREATE SCHEMA {schema}")
        for name, query in _base(root, _escaped(root)).items():
            connection.execute(_view(f'{schema}."{name}"', query))
    _lock(connection, list(roots.values()))
    return Catalog(connection)


def _statements(directory: Path, prefix: str, manifest: Manifest) -> list[str]:
    queries = {**_base(directory, prefix), "funnel": _funnel(manifest), "why": _WHY}
    return [_view(f'"{name}"', query) for name, query in queries.items()]


def _view(name: str, query: str) -> str:
    return f"CREATE OR REPLACE VIEW {name} AS\n{query}"


def _base(directory: Path, prefix: str) -> dict[str, str]:
    """View name -> query for everything that lies in files of its own."""
    records = _read(directory, DATA, prefix, RECORD, ", filename = true")
    split = f"SELECT * EXCLUDE (filename), {_SPLIT} AS split FROM ({records})"
    return {
        "records": split if "filename" in records else f"SELECT *, CAST(NULL AS VARCHAR) AS split FROM ({records})",
        "decisions": _read(directory, DECISIONS_DIR, prefix, DECISION),
        "quarantine": _read(directory, QUARANTINE_DIR, prefix, QUARANTINE),
        "rewrites": _read(directory, REWRITES_DIR, prefix, REWRITE),
        **_scores(directory, prefix),
    }


def _scores(directory: Path, prefix: str) -> dict[str, str]:
    """`dedup#2` is offered as `scores_dedup_2`, which needs no quotes."""
    folders = sorted(path for path in (directory / SCORES_DIR).glob("*") if any(path.glob("*.parquet")))
    return {
        "scores_" + re.sub(r"\W", "_", path.name): _from_files(f"{prefix}{SCORES_DIR}/{path.name}") for path in folders
    }


def _read(directory: Path, folder: str, prefix: str, schema: pa.Schema, options: str = "") -> str:
    if any((directory / folder).glob("*.parquet")):
        return _from_files(f"{prefix}{folder}", options)
    columns = ", ".join(f'CAST(NULL AS {sql_type(field.type)}) AS "{field.name}"' for field in schema)
    return f"SELECT {columns} WHERE false"


def _from_files(folder: str, options: str = "") -> str:
    return f"SELECT * FROM read_parquet({quoted(folder + '/*.parquet')}{options})"


def _funnel(manifest: Manifest) -> str:
    """From the manifest's counts, so that it also holds where only drops were kept (`lineage: drops`)."""
    rows = [
        f"({step.position}, {quoted(step.stage)}, {quoted(source)}, "
        f"{counts.rows_in}, {counts.kept}, {counts.dropped}, {counts.quarantined})"
        for step in manifest.steps()
        for source, counts in sorted(step.by_source.items())
    ]
    columns = ", ".join(f"CAST({name} AS {kind}) AS {name}" for name, kind in _FUNNEL)
    names = ", ".join(name for name, _ in _FUNNEL)
    values = ",\n    ".join(rows) or f"({', '.join(['NULL'] * len(_FUNNEL))})"
    return f"SELECT {columns} FROM (VALUES\n    {values}\n) AS funnel({names}) WHERE position IS NOT NULL"


def sql_type(kind: pa.DataType) -> str:
    """DuckDB's name of an Arrow type used in our schemas. Raises KeyError for one that no schema uses."""
    if pa.types.is_list(kind):
        return f"{sql_type(kind.value_type)}[]"
    if pa.types.is_struct(kind):
        fields = ", ".join(f'"{kind.field(i).name}" {sql_type(kind.field(i).type)}' for i in range(kind.num_fields))
        return f"STRUCT({fields})"
    return _SQL_TYPES[str(kind)]


_SQL_TYPES: Final = {
    "string": "VARCHAR",
    "large_string": "VARCHAR",
    "binary": "BLOB",
    "bool": "BOOLEAN",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "double": "DOUBLE",
}


def quoted(text: str) -> str:
    """A SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def _escaped(root: Path) -> str:
    """A directory as a prefix of glob patterns: its own brackets and stars mean themselves."""
    return glob.escape(root.as_posix()) + "/"


def _lock(connection: duckdb.DuckDBPyConnection, roots: Sequence[Path]) -> None:
    """Nothing but these directories can be touched from here on, and no setting can change that."""
    # The engine compares a glob pattern as it is written with the allowed directories, so both spellings count.
    spellings = sorted({spelling for root in roots for spelling in (root.as_posix() + "/", _escaped(root))})
    allowed = ", ".join(quoted(spelling) for spelling in spellings)
    for setting in (
        f"allowed_directories = [{allowed}]",
        "temp_directory = ''",
        "autoinstall_known_extensions = false",
        "autoload_known_extensions = false",
        "python_enable_replacements = false",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        connection.execute(f"SET {setting}")
