"""Reasoning that is written into the text of an answer."""

from __future__ import annotations

from typing import Final

_OPEN: Final = "<think>"
_CLOSE: Final = "</think>"


def split_think(content: str) -> tuple[str | None, str]:
    """(reasoning, rest) of text that starts with one `<think>…</think>` block; (None, content) otherwise.

    A bare `</think>` closes a block that the chat template opened. Text with several blocks is left as it is: their
    order among the rest would be lost.
    """
    if _CLOSE not in content:
        return None, content
    before, _, after = content.partition(_CLOSE)
    thought = before.lstrip()
    if _CLOSE in after or _OPEN in after or _OPEN in thought[len(_OPEN) :]:
        return None, content
    if thought.startswith(_OPEN):
        return thought[len(_OPEN) :].strip(), after.strip()
    return (before.strip(), after.strip()) if _OPEN not in before else (None, content)
