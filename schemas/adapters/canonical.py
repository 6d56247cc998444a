"""Records that Curatrix itself wrote: an earlier run as a source, a target or something to compare with."""

from __future__ import annotations

from typing import Any, Final, cast

import orjson
import pyarrow as pa

from schemas.adapters.base import Adapter, Made, Row, keeping_rest
from schemas.conversation import conversation
from schemas.errors import BadRow
from schemas.record import CONTENT, CONTENT_COLUMNS, KINDS, content_of

_MARKS: Final = ("record_id", "content_hash", "kind", "origin")
_PROVENANCE: Final = ("record_id", "source", "origin", "content_hash", "n_tests")


def _matches(row: Row) -> str | None:
    return "it has record_id, content_hash, kind and origin" if all(name in row for name in _MARKS) else None


def _make(row: Row) -> Made:
    """The same content, so the same content hash; turns that the export added are taken out again."""
    for name in _MARKS:
        if not isinstance(row.get(name), str):
            raise BadRow("missing_content", f"no '{name}'", name)
    if row["kind"] not in KINDS:
        raise BadRow("wrong_type", f"'kind' is {row['kind']!r}, not one of {', '.join(KINDS)}", "kind")
    draft = content_of({field.name: _typed(field, row) for field in CONTENT if row.get(field.name) is not None})
    if draft.get("prompt") is not None and draft.get("messages") == conversation(draft):
        del draft["messages"]
    if row.get("source_id") is not None:
        draft["source_id"] = str(row["source_id"])
    # Where it first came from stays known, however many runs it has been through.
    first = {name: row[name] for name in _PROVENANCE if row.get(name) is not None}
    draft["meta"] = {**first, **_meta(row.get("meta")), "release_id": row["record_id"]}
    return Made([draft], (*CONTENT_COLUMNS, *_PROVENANCE, "source_id", "meta"))


def _typed(field: pa.Field, row: Row) -> Any:
    """A value that its column can hold without losing anything of it."""
    value = row[field.name]
    try:
        held = pa.array([value], field.type).to_pylist()[0]
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise BadRow("wrong_type", f"'{field.name}' is not {field.type}", field.name) from error
    if isinstance(value, list) and None in value:
        raise BadRow("wrong_type", f"'{field.name}' has an empty entry", field.name)
    if content_of({field.name: held}) != content_of({field.name: value}):
        raise BadRow("wrong_type", f"'{field.name}' has more in it than {field.type}", field.name)
    return value


def _meta(text: Any) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        meta = orjson.loads(text)
    except (orjson.JSONDecodeError, TypeError) as error:
        raise BadRow("wrong_type", f"'meta' is not JSON: {error}", "meta") from error
    if not isinstance(meta, dict):
        raise BadRow("wrong_type", "'meta' is not a JSON object", "meta")
    return cast(dict[str, Any], meta)


CANONICAL: Final = Adapter("canonical", "records that curatrix wrote", _matches, keeping_rest(_make))
