"""Fenced code blocks of Markdown (CommonMark 4.5): whether they are closed, what they hold, the text without them."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

FENCE_LINE: Final = r"(?m)^[ \t]*`{3,}[^`\n]*$"
"""A line that opens or closes a block: no code span that ends on it. For `re` and for Arrow."""
_FENCE: Final = re.compile(r"[ \t]*(?P<mark>`{3,}|~{3,})(?P<info>.*)")
_LANGUAGES: Final = {"py": "python", "python3": "python", "js": "javascript", "c++": "cpp", "cc": "cpp"}


class Block(NamedTuple):
    """A closed block: its code with line ends, and its language in lower case, "" where none is named."""

    code: str
    language: str


class Fenced(NamedTuple):
    """A text taken apart: its closed blocks, the lines outside them, and whether every fence is closed."""

    blocks: tuple[Block, ...]
    prose: str
    balanced: bool


def fenced(text: str) -> Fenced:
    """Take a Markdown text apart. A fence is closed by one of the same character that is at least as long."""
    blocks: list[Block] = []
    prose: list[str] = []
    code: list[str] = []
    mark = language = ""
    for line in text.split("\n"):
        found = _FENCE.fullmatch(line.rstrip("\r"))
        if not mark and found and not (found["mark"][0] == "`" and "`" in found["info"]):
            mark, language = found["mark"], _language(found["info"])
        elif mark and found and found["mark"].startswith(mark) and not found["info"].strip():
            blocks.append(Block("".join(f"{each}\n" for each in code), language))
            mark, code = "", []
        else:
            (code if mark else prose).append(line)
    return Fenced(tuple(blocks), "\n".join(prose), not mark)


def left_open(text: str) -> bool:
    """Whether a text breaks off within a block of backticks.

    Lines that open and close must not pair either: a closing fence with prose behind it, which Markdown takes for code,
    shows no text that was cut off.
    """
    return len(re.findall(FENCE_LINE, text)) % 2 == 1 and not fenced(text).balanced


def _language(info: str) -> str:
    name = info.strip().split()[0].lower() if info.strip() else ""
    return _LANGUAGES.get(name, name)
