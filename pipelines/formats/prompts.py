"""The prompt of an RL task as messages of plain text."""

from __future__ import annotations

from pipelines.formats.base import Record
from pipelines.formats.problems import Tests, statement
from schemas.errors import BadRow


def asked(record: Record, tests: Tests | None) -> list[dict[str, str]]:
    """What the model is asked: the statement as the user's turn, or the turns before the first answer to be given.

    Raises BadRow where there is no prompt, or a turn holds more than text.
    """
    if record["prompt"] is not None:
        return [{"role": "user", "content": statement(record, tests)}]
    turns = list(record["messages"] or ())
    while turns and turns[-1]["role"] == "assistant":
        turns.pop()
    if not turns:
        raise BadRow("no_prompt", "neither a prompt nor messages that ask something")
    if any(turn["content"] is None or turn["tool_calls"] or turn["role"] == "tool" for turn in turns):
        raise BadRow("tools", "the prompt has tool calls")
    return [{"role": turn["role"], "content": turn["content"]} for turn in turns]
