"""API keys: from the environment or a Prefect block, held in memory only."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import TypeGuard

from schemas.errors import RecipeError
from stages.llm.endpoint import Endpoint

_SHORTEST = 12
"""Placeholders for servers that need no key (`EMPTY`, `none`) are shorter; no text is searched for those."""


def load_key(endpoint: Endpoint) -> str | None:
    """The key for an endpoint, None where its variable is not set (servers of one's own need none).

    Raises RecipeError where a named block cannot be read. Blocks: do not call this from a running event loop.
    """
    if endpoint.api_key_block is not None:
        return _from_block(endpoint.api_key_block)
    return os.environ.get(endpoint.api_key_env, "").strip() or None


async def load_key_async(endpoint: Endpoint) -> str | None:
    """`load_key` for a running event loop: Prefect may take seconds."""
    return await asyncio.to_thread(load_key, endpoint)


def is_secret(key: str | None) -> TypeGuard[str]:
    """Whether a key is one, and no placeholder."""
    return key is not None and len(key) >= _SHORTEST


def scrubber(key: str | None) -> Callable[[str], str]:
    """A function that removes the key from a text, for what is left after responses lost it (JSON escapes, headers)."""
    if not is_secret(key):
        return _as_it_is
    return lambda text: text.replace(key, "***") if key in text else text


def _as_it_is(text: str) -> str:
    return text


def _from_block(name: str) -> str:
    from prefect.blocks.system import Secret

    try:
        value = asyncio.run(_load(Secret, name))
    except Exception as error:  # whatever Prefect raises: no server, no such block, wrong type
        raise RecipeError(
            f"api_key_block: cannot read the Prefect Secret block '{name}' ({type(error).__name__}); "
            f"make it with `prefect block create secret`, or name an environment variable in api_key_env"
        ) from None
    return value


async def _load(block: type, name: str) -> str:
    loaded = await block.aload(name)  # type: ignore[attr-defined]
    return str(loaded.get())
