"""What an exported row looks like: pure functions from canonical records to canonical records."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from schemas.record import MESSAGE, RECORD

_MESSAGES = RECORD.get_field_index("messages")


def as_messages(table: pa.Table) -> pa.Table:
    """Fill `messages` where a record has none but can be told as a conversation; other columns stay.

    A prompt becomes the user's turn and the completion the assistant's, with the record's reasoning; a code problem
    without a completion is answered by its first accepted solution. Raw text stays text.
    """
    rows = table.select(["messages", "kind", "prompt", "completion", "reasoning", "solutions", "language"]).to_pylist()
    filled = [row["messages"] if row["messages"] is not None else _conversation(row) for row in rows]
    return table.set_column(_MESSAGES, RECORD.field("messages"), pa.array(filled, pa.list_(MESSAGE)))


def _conversation(row: dict[str, Any]) -> list[dict[str, Any]] | None:
    if row["prompt"] is None or row["kind"] == "text":
        return None
    answer = row["completion"] if row["completion"] is not None else _solution(row)
    if answer is None:
        return [{"role": "user", "content": row["prompt"]}]
    reply = {"role": "assistant", "content": answer, "reasoning": row["reasoning"]}
    return [{"role": "user", "content": row["prompt"]}, reply]


def _solution(row: dict[str, Any]) -> str | None:
    for solution in row["solutions"] or []:
        if solution["verdict"] in (None, "accepted") and solution["code"]:
            language = solution["language"] or row["language"] or ""
            return f"```{language}\n{solution['code'].rstrip()}\n```"
    return None
