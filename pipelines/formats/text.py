"""Raw text: one column `text`, as trainers of base models read it."""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa

from pipelines.formats.base import Format, Place, Record
from schemas.errors import BadRow


def _row(record: Record, place: Place) -> dict[str, Any]:
    if record["text"] is None:
        raise BadRow(
            "no_text", "a conversation or a problem, not raw text: a chat template makes text of it (`tokens`)"
        )
    return {"text": record["text"]}


TEXT: Final = Format(
    "text",
    "Raw text: a document per row",
    pa.schema([("text", pa.string()), ("record_id", pa.string())]),
    ("text",),
    _row,
)
