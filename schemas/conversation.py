"""A record told as a conversation: what export writes into `messages`, and what reading it back takes out again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas.record import Message


def conversation(record: Mapping[str, Any]) -> list[Message] | None:
    """The turns of a record that keeps its text in `prompt` and `completion`; None where it cannot be told so.

    The prompt becomes the user's turn, the completion the assistant's, with the record's reasoning. A code problem
    without a completion is answered by its first accepted solution. Raw text stays text.
    """
    if record.get("prompt") is None or record.get("kind") == "text":
        return None
    turns: list[Message] = [{"role": "user", "content": record["prompt"]}]
    answer = record["completion"] if record.get("completion") is not None else _solution(record)
    if answer is not None:
        reply: Message = {"role": "assistant", "content": answer}
        if record.get("reasoning") is not None:
            reply["reasoning"] = record["reasoning"]
        turns.append(reply)
    return turns


def _solution(record: Mapping[str, Any]) -> str | None:
    for solution in record.get("solutions") or ():
        if solution.get("verdict") in (None, "accepted") and solution.get("code"):
            language = solution.get("language") or record.get("language") or ""
            return f"```{language}\n{solution['code'].rstrip()}\n```"
    return None
