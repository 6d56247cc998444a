"""From adapters' drafts to a batch of canonical records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from schemas.adapters.base import to_json
from schemas.errors import BadRow
from schemas.record import CONTENT, RECORD, Draft, content_hash, record_id


class Placed(NamedTuple):
    """A draft and where it stands: `position` is the row number in its file, `12` or `12.3` for an exploded row."""

    position: str
    draft: Draft


def to_batch(placed: Sequence[Placed], source: str, file: str) -> pa.RecordBatch:
    """Canonical records of drafts, in order.

    Raises:
        BadRow: if a draft has a value that its column cannot hold; use `check` to find which one.
    """
    drafts = [item.draft for item in placed]
    present = frozenset[str]().union(*drafts)
    try:
        hashes = [content_hash(draft).hex() for draft in drafts]
        columns: list[Any] = [
            [record_id(source, file, item.position).hex() for item in placed],
            hashes,
            pa.repeat(pa.scalar(source), len(placed)),
            _column("source_id", drafts, present),
            [f"{file}#{item.position}" for item in placed],
            *(_column(field.name, drafts, present) for field in CONTENT),
            _counts(drafts) if "tests" in present else None,
            [_meta(draft) for draft in drafts] if "meta" in present else None,
        ]
        arrays = [_array(column, field.type, len(placed)) for column, field in zip(columns, RECORD, strict=True)]
    except UnicodeEncodeError as error:
        raise BadRow("lone_surrogate", f"text that is not Unicode: {error.reason}") from error
    except (TypeError, ValueError, pa.ArrowException) as error:
        raise BadRow("wrong_type", _short(error)) from error
    return pa.RecordBatch.from_arrays(arrays, schema=RECORD)


def check(placed: Placed, source: str, file: str) -> BadRow | None:
    """The reason why one draft cannot become a record, or None."""
    try:
        to_batch([placed], source, file)
    except BadRow as error:
        return error
    return None


def _column(name: str, drafts: Sequence[Draft], present: frozenset[str]) -> list[Any] | None:
    return [draft.get(name) for draft in drafts] if name in present else None


def _counts(drafts: Sequence[Draft]) -> list[int | None]:
    return [len(tests) if (tests := draft.get("tests")) is not None else None for draft in drafts]


def _array(column: Any, kind: pa.DataType, rows: int) -> pa.Array:
    if isinstance(column, pa.Array):
        return column
    return pa.nulls(rows, kind) if column is None else pa.array(column, kind)


def _meta(draft: Draft) -> str | None:
    meta = draft.get("meta")
    return to_json(meta) if meta else None


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
