"""JSONL in place of Parquet: an object per row, keys without a value left out, JSON columns as the values they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import orjson
import pyarrow as pa

from pipelines.files import replacing
from pipelines.formats.base import JSON_LIST


class LinesWriter:
    """Writes tables of one schema as lines; `rows` are those so far."""

    def __init__(self, file: IO[bytes], schema: pa.Schema) -> None:
        self._file = file
        self._json = [column.name for column in schema if column.type == JSON_LIST]
        self.rows = 0

    def write(self, table: pa.Table) -> None:
        """Append the rows of a table."""
        for row in table.to_pylist():
            self._file.write(orjson.dumps(self._plain(row)) + b"\n")
        self.rows += table.num_rows

    def _plain(self, row: dict[str, Any]) -> dict[str, Any]:
        said = {key: value for key, value in row.items() if value is not None}
        for name in self._json:
            if name in said:
                said[name] = [orjson.Fragment(text) for text in said[name]]
        return said


@contextmanager
def lines_writer(path: Path, schema: pa.Schema) -> Iterator[LinesWriter]:
    """A JSONL file that appears at `path` only when it has been written without an error."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        yield LinesWriter(file, schema)
