"""Walking through a folder without passing over anything in silence."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from schemas.errors import RecipeError


def walk(top: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Every folder at or below `top` once, with the names of the folders and of the files in it.

    As in `os.walk`, the caller may take folders out of the list. Links to folders are followed, after everything that
    can be reached without one. Raises RecipeError for a folder that cannot be read.
    """
    seen: set[tuple[int, int]] = set()
    waiting = deque([top])
    while waiting:
        for parent, folders, names in os.walk(waiting.popleft(), onerror=_refuse):
            here = Path(parent)
            if _seen(here, seen):
                folders.clear()
                continue
            folders.sort()
            yield here, folders, names
            waiting.extend(here / name for name in folders if (here / name).is_symlink())


def files_below(folder: Path) -> list[Path]:
    """Every file below a folder, sorted. Raises RecipeError as `walk` does."""
    return sorted(here / name for here, _, names in walk(folder) for name in names)


def readable_name(name: str) -> str:
    r"""A file's name as text that can be stored: a byte that is not UTF-8 is written `\xff`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _seen(folder: Path, seen: set[tuple[int, int]]) -> bool:
    status = folder.stat()
    identity = (status.st_dev, status.st_ino)
    if identity in seen:
        return True
    seen.add(identity)
    return False


def _refuse(error: OSError) -> NoReturn:
    raise RecipeError(f"cannot read the folder {readable_name(str(error.filename))}: {error.strerror}") from error
