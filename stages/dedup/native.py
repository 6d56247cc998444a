"""Compiled kernels, where they could be built: plain C behind ctypes, which frees the GIL while they run."""

from __future__ import annotations

import ctypes
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import numpy.typing as npt


@cache
def compiled(folder: Path) -> ctypes.CDLL | None:
    """The library `_kernel` in a folder, None where it was not built."""
    paths = [folder / f"_kernel{suffix}" for suffix in EXTENSION_SUFFIXES]
    found = next((path for path in paths if path.is_file()), None)
    return None if found is None else ctypes.CDLL(str(found))


def native() -> ctypes.CDLL | None:
    """The compiled kernels of this package."""
    return compiled(Path(__file__).parent)


def pointer(array: npt.NDArray[Any]) -> ctypes.c_void_p:
    """The address of an array, which the caller keeps alive."""
    return ctypes.c_void_p(array.ctypes.data)
