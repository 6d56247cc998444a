"""Records that Curatrix itself wrote: an earlier run as a source, a target or something to compare with."""

from __future__ import annotations

from typing import Any, Final, cast

import orjson

from schemas.adapters.base import Adapter, Row
from schemas.conversation import conversation
from schemas.errors import BadRow
from schemas.record import CONTENT_COLUMNS, Draft, content_of

_MARKS: Final = ("record_id", "content_hash", "kind", "origin")


def _matches(row: Row) -> str | None:
    return "it has record_id, content_hash, kind and origin" if all(name in row for name in _MARKS) else None


def _read(row: Row) -> list[Draft]:
    """The same content, so the same content hash; turns that the export added are taken out again."""
    content: dict[str, Any] = {name: row[name] for name in CONTENT_COLUMNS if row.get(name) is not None}
    draft = content_of(content)
    if draft.get("prompt") is not None and draft.get("messages") == conversation(draft):
        del draft["messages"]
    if row.get("source_id") is not None:
        draft["source_id"] = str(row["source_id"])
    if row.get("meta"):
        draft["meta"] = _meta(row["meta"])
    return [draft]


def _meta(text: Any) -> dict[str, Any]:
    try:
        meta = orjson.loads(text)
    except (orjson.JSONDecodeError, TypeError) as error:
        raise BadRow("wrong_type", f"'meta' is not JSON: {error}", "meta") from error
    if not isinstance(meta, dict):
        raise BadRow("wrong_type", "'meta' is not a JSON object", "meta")
    return cast(dict[str, Any], meta)


CANONICAL: Final = Adapter("canonical", "records that curatrix wrote", _matches, _read)
