"""The three targets of a prompt, as content of its record.

R1 is the original response, R2 its answer alone, R3 a summary of the thought, then the answer ("Leveraging Reasoning
Model Answers to Enhance Non-Reasoning Model Capability", arXiv 2504.09639, section 3).
"""

from __future__ import annotations

from typing import Any, Literal

from stages.targets.response import Response, Row, Turn, split

Mode = Literal["r1", "r2", "r3"]
CONTENT = ("messages", "completion", "reasoning")


def unchanged(row: Row) -> dict[str, Any]:
    """The record's own content: R1, and what stays of a record that has no usable response."""
    return {name: row[name] for name in CONTENT}


def answer_alone(row: Row, response: Response, summary: str | None = None) -> dict[str, Any]:
    """R2, or R3 with a summary before the answer. The thoughts of earlier turns go: they lead to no target."""
    text = response.answer if summary is None else f"{summary}\n\n{response.answer}"
    if response.turns is None:
        return {"messages": row["messages"], "completion": text, "reasoning": None}
    earlier = [_without_thought(turn) for turn in response.turns[:-1]]
    last = {**_without_thought(response.turns[-1]), "content": text}
    return {"messages": [*earlier, last], "completion": None, "reasoning": None}


def _without_thought(turn: Turn) -> Turn:
    """A turn as it was, less its thought. Text without one is not touched."""
    if turn["role"] != "assistant":
        return turn
    bare = {key: value for key, value in turn.items() if key != "reasoning"}
    if "<think>" in turn.get("content", "") or "</think>" in turn.get("content", ""):
        bare["content"] = split(turn["content"]).answer
    return bare
