"""Which SQL may run on a finished run: one statement that only reads, using functions that only read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import duckdb
import orjson

from schemas.errors import RecipeError

# Some table functions write (`enable_logging` makes files) or run SQL that they are given as text (`query`).
READERS: Final = re.compile(
    r"range|generate_series|unnest|repeat|repeat_row|json_each|json_tree|glob|sniff_csv|summary|pragma_table_info"
    r"|read_(parquet|csv|csv_auto|json|json_auto|ndjson|ndjson_auto|text|blob)|parquet_[a-z_]+|duckdb_[a-z_]+"
)
_EXPLAIN: Final = re.compile(r"\s*EXPLAIN\s+(?:ANALYZE\s+)?(?P<inner>.+)", re.IGNORECASE | re.DOTALL)


def only_reads(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    """Raise RecipeError unless `query` is one SELECT (DESCRIBE, SHOW, SUMMARIZE), or EXPLAIN of one.

    Decided on what DuckDB's own parser makes of the text. Raises duckdb.ParserException where it makes nothing of it.
    """
    if explained := _EXPLAIN.match(query):
        # EXPLAIN ANALYZE runs what it explains.
        query = explained["inner"]
    statements = connection.extract_statements(query)
    if len(statements) != 1:
        raise RecipeError(f"one SQL statement at a time, please (got {len(statements)})")
    kind = str(statements[0].type).rsplit(".", 1)[-1].upper().removesuffix("_STATEMENT")
    if kind != "SELECT":
        raise RecipeError(f"only reading is allowed here: {kind} statements are refused")
    for function in _table_functions(_syntax_tree(connection, query)):
        if not READERS.fullmatch(function.lower()):
            raise RecipeError(f"only reading is allowed here: the table function '{function}' is refused")


def _syntax_tree(connection: duckdb.DuckDBPyConnection, query: str) -> dict[str, Any]:
    answer = connection.sql("SELECT json_serialize_sql(CAST($query AS VARCHAR))", params={"query": query}).fetchall()
    tree: dict[str, Any] = orjson.loads(answer[0][0])
    if tree["error"]:
        # PIVOT without an IN list first creates a type; nothing of the sort can be shown to only read.
        raise RecipeError(f"this statement is refused: {tree['error_message']} (PIVOT needs an explicit IN list)")
    return tree


def _table_functions(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if node.get("type") == "TABLE_FUNCTION":
            yield str(node["function"]["function_name"])
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from _table_functions(child)
