"""`curate sql`: run a query over a run and turn the result into a table, CSV, JSON lines or Parquet."""

from __future__ import annotations

import csv
import io
import re
from itertools import count
from pathlib import Path
from typing import Any, Final

import duckdb
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from rich.table import Table
from rich.text import Text

from reports.catalog import Catalog, connect
from schemas.errors import CuratrixError, RecipeError, RunError, nearest

_UNKNOWN: Final = (
    (re.compile(r"Table with name (\S+) does not exist"), "table"),
    (re.compile(r"Referenced (?:column|table) \"([^\"]+)\" not found"), "column"),
    (re.compile(r"does not have a column named \"([^\"]+)\""), "column"),
)


def query(directory: Path, sql: str) -> pa.Table:
    """The result of one SELECT over the catalog of a run.

    Raises RecipeError for a directory that is no run and for SQL that is wrong or would write; RunError where
    the files cannot be read or memory does not suffice.
    """
    with connect(directory) as catalog:
        try:
            return _unique(catalog.arrow(sql))
        except duckdb.Error as error:
            raise _explained(catalog, sql, error) from error


def _unique(result: pa.Table) -> pa.Table:
    """Columns of one name (joins have them) as `name`, `name_1`, ...: rows are objects to most readers."""
    names: list[str] = []
    for name in result.column_names:
        free = (f"{name}_{k}" if k else name for k in count())
        names.append(next(one for one in free if one not in names and (one == name or one not in result.column_names)))
    return result.rename_columns(names)


def to_table(result: pa.Table, limit: int = 40, width: int = 200) -> Table:
    """A rich table of the first `limit` rows; cells are cut after `width` characters."""
    table = Table(show_edge=False, header_style="bold", caption=_caption(result, limit), caption_justify="left")
    for field in result.schema:
        table.add_column(Text(field.name), justify="right" if _is_number(field.type) else "left", overflow="fold")
    for row in result.slice(0, limit).to_pylist():
        table.add_row(*(_cell(value, width) for value in row.values()))
    return table


def to_csv(result: pa.Table) -> bytes:
    """CSV with a header, UTF-8; nested values as JSON, bytes as text, null as an empty field."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(result.column_names)
    for batch in result.to_batches(max_chunksize=10_000):
        writer.writerows([_flat(value) for value in row.values()] for row in batch.to_pylist())
    return out.getvalue().encode()


def to_jsonl(result: pa.Table) -> bytes:
    """JSON lines, one object per row; bytes as text, dates in ISO 8601, NaN and infinity as null."""
    lines = (
        orjson.dumps(row, default=_json_default, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)
        for batch in result.to_batches(max_chunksize=10_000)
        for row in batch.to_pylist()
    )
    return b"".join(lines)


def to_parquet(result: pa.Table) -> bytes:
    """A Parquet file, zstd level 3."""
    sink = pa.BufferOutputStream()
    pq.write_table(result, sink, compression="zstd", compression_level=3)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _explained(catalog: Catalog, sql: str, error: duckdb.Error) -> CuratrixError:
    """DuckDB's error as one line that names the nearest thing that exists."""
    message = str(error).partition("\n")[0]
    for pattern, kind in _UNKNOWN:
        if found := pattern.search(message):
            name = found.group(1).rstrip("!")
            valid = _tables(catalog) if kind == "table" else _columns(catalog, sql)
            return RecipeError(f"no {kind} '{name}' here; {nearest(name, valid)}")
    if isinstance(error, duckdb.ParserException | duckdb.BinderException | duckdb.CatalogException):
        return RecipeError(f"SQL: {message.removeprefix('Parser Error: ')}{_position(str(error))}")
    if isinstance(error, duckdb.PermissionException):
        return RecipeError("queries see the views of this run only, no other files; `SHOW TABLES` lists them")
    if isinstance(error, duckdb.DataError | duckdb.ProgrammingError):
        return RecipeError(f"SQL: {message}")
    return RunError(f"the query failed: {message}")


def _position(message: str) -> str:
    """DuckDB's `LINE 1: ... ^` as a note of where the error lies."""
    lines = message.split("\n")
    at = next((index for index, line in enumerate(lines) if line.strip() == "^"), 0)
    if at == 0:
        return ""
    near = lines[at - 1][lines[at].index("^") :].strip()
    return f" (at: {near[:40]})" if near else " (at the end)"


def _tables(catalog: Catalog) -> set[str]:
    return {row["view_name"] for row in catalog.rows("SELECT view_name FROM duckdb_views() WHERE NOT internal")}


def _columns(catalog: Catalog, sql: str) -> set[str]:
    """Columns of the views that the query mentions, or of all of them."""
    mentioned = [name for name in _tables(catalog) if re.search(rf"\b{re.escape(name)}\b", sql, re.IGNORECASE)]
    wanted = mentioned or sorted(_tables(catalog))
    return {str(name) for view in wanted for name in catalog.sql(f'SELECT * FROM "{view}" LIMIT 0').columns}


def _caption(result: pa.Table, limit: int) -> str | None:
    return f"first {limit} of {result.num_rows:,} rows" if result.num_rows > limit else None


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _cell(value: Any, width: int) -> Text:
    text = str(_flat(value))
    return Text(text if len(text) <= width else text[: width - 1] + "…", style="dim" if value is None else "")


def _flat(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, dict | list):
        return orjson.dumps(value, default=_json_default, option=orjson.OPT_NON_STR_KEYS).decode()
    return value


def _json_default(value: Any) -> Any:
    return _flat(value) if isinstance(value, bytes) else str(value)
