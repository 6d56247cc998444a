"""What a format is: an Arrow schema, and a pure function from a canonical record to a row or the reason for none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import pyarrow as pa

from schemas.errors import BadRow

Record = Mapping[str, Any]
TURN: Final = pa.struct([("role", pa.string()), ("content", pa.string())])
JSON_LIST: Final = pa.list_(pa.json_())
"""Objects of any shape: `datasets` (4.7 and later) gives them as dicts with only the keys that were written."""


@dataclass(frozen=True)
class Place:
    """Where a record stands in the run: its split and its position in that split."""

    split: str
    index: int


class Untold(NamedTuple):
    """A record that a format cannot tell: its id, the kind of reason (for counting) and the reason in words."""

    record_id: str
    kind: str
    why: str


class Shaped(NamedTuple):
    """The rows a format made of some records, in their order, and the records that it made none of."""

    table: pa.Table
    untold: list[Untold]


@dataclass(frozen=True)
class Format:
    """One shape. `columns` are those of the canonical record that it looks at; `row` raises BadRow where a record
    cannot be told in this shape."""

    name: str
    describe: str
    schema: pa.Schema
    columns: tuple[str, ...]
    row: Callable[[Record, Place], dict[str, Any]]

    def __call__(self, table: pa.Table, split: str = "train", start: int = 0) -> Shaped:
        """Rows of `schema` for a table of canonical records; its first one is number `start` of `split`."""
        rows: list[dict[str, Any]] = []
        untold: list[Untold] = []
        records = table.select(["record_id", *self.columns]).to_pylist()
        for index, record in enumerate(records, start):
            try:
                rows.append({"record_id": record["record_id"], **self.row(record, Place(split, index))})
            except BadRow as reason:
                untold.append(Untold(record["record_id"], reason.kind, str(reason)))
        return Shaped(pa.Table.from_pylist(rows, schema=_plain(self.schema)).cast(self.schema), untold)


def _plain(schema: pa.Schema) -> pa.Schema:
    """The schema with text in place of JSON: Arrow builds the second only out of the first."""
    return pa.schema([field.with_type(pa.list_(pa.string())) if field.type == JSON_LIST else field for field in schema])
