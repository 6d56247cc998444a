"""What an exported row looks like: pure functions from canonical records to the shapes that trainers read."""

from __future__ import annotations

from typing import Final

from pipelines.formats.base import Format, Place, Shaped, Untold
from pipelines.formats.llamafactory import ALPACA, SHAREGPT
from pipelines.formats.messages import MESSAGES, PROMPT_COMPLETION, as_messages
from pipelines.formats.openr1 import OPEN_R1
from pipelines.formats.rllm import RLLM
from pipelines.formats.text import TEXT
from pipelines.formats.tokens_files import LAYOUTS
from pipelines.formats.trl import TRL
from pipelines.formats.verl import VERL
from schemas.errors import RecipeError, nearest

__all__ = ["FORMATS", "NAMES", "Format", "Place", "Shaped", "Untold", "as_messages", "format_named"]

FORMATS: Final[dict[str, Format]] = {
    each.name: each for each in (MESSAGES, PROMPT_COMPLETION, ALPACA, SHAREGPT, VERL, RLLM, OPEN_R1, TRL, TEXT)
}
NAMES: Final = (*FORMATS, *LAYOUTS)
"""Every shape of `curate export`: those of rows, and the layouts of token shards, which need a tokenizer."""


def format_named(name: str) -> Format:
    """The format of that name. RecipeError, with the nearest name, where there is none."""
    found = FORMATS.get(name)
    if found is None:
        raise RecipeError(f"no format '{name}'; {nearest(name, NAMES)}")
    return found
