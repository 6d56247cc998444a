"""The hash of a file's or a folder's bytes, streamed."""

from __future__ import annotations

import os
from pathlib import Path

import xxhash

from pipelines.readers.folders import files_below
from pipelines.readers.streams import file_pieces


def tree_digest(url: str) -> bytes:
    """The 16-byte xxh3-128 of a file's bytes; of a local folder, of the paths, sizes and bytes of its files in order.

    Raises RecipeError where a file or a folder cannot be read.
    """
    state = xxhash.xxh3_128()
    folder = Path(url)
    if "://" in url or not folder.is_dir():
        _add(state, url)
        return state.digest()
    for path in files_below(folder):
        state.update(os.fsencode(path.relative_to(folder)) + b"\0" + path.stat().st_size.to_bytes(8, "little"))
        _add(state, str(path))
    return state.digest()


def _add(state: xxhash.xxh3_128, url: str) -> None:
    for piece in file_pieces(url):
        state.update(piece)
