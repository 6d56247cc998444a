"""What an exported row looks like: pure functions from canonical records to canonical records."""

from __future__ import annotations

import pyarrow as pa

from schemas.conversation import conversation
from schemas.record import MESSAGE, RECORD

_MESSAGES = RECORD.get_field_index("messages")
_TOLD_BY = ["messages", "kind", "prompt", "completion", "reasoning", "solutions", "language"]


def as_messages(table: pa.Table) -> pa.Table:
    """Fill `messages` where a record has none but can be told as a conversation; other columns stay."""
    rows = table.select(_TOLD_BY).to_pylist()
    filled = [row["messages"] if row["messages"] is not None else conversation(row) for row in rows]
    return table.set_column(_MESSAGES, RECORD.field("messages"), pa.array(filled, pa.list_(MESSAGE)))
