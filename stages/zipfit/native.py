"""The compiled library, where it could be built. Plain C behind ctypes, so no Python headers are needed to build it."""

from __future__ import annotations

import ctypes
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any, Final

import numpy.typing as npt

from schemas.errors import RunError
from stages.zipfit.packed import Packed

_STATUS: Final = {
    -1: "out of memory",
    -2: "a text is longer than a gigabyte",
    -3: "more than 65,535 targets",
    -4: "more than 65,536 buckets",
}


@cache
def native() -> ctypes.CDLL | None:
    """The compiled kernel, None where it was not built."""
    folder = Path(__file__).parent
    paths = [folder / f"_kernel{suffix}" for suffix in EXTENSION_SUFFIXES]
    found = next((path for path in paths if path.is_file()), None)
    return None if found is None else ctypes.CDLL(str(found))


def arguments(packed: Packed) -> tuple[Any, ...]:
    """Texts as the three arguments that every entry point takes for them."""
    return pointer(packed.data), pointer(packed.offsets), ctypes.c_int64(len(packed))


def pointer(array: npt.NDArray[Any]) -> ctypes.c_void_p:
    """The address of an array, which the caller keeps alive."""
    return ctypes.c_void_p(array.ctypes.data)


def checked(status: int) -> None:
    """Raise RunError for a status other than 0."""
    if status:
        raise RunError(f"zipfit: {_STATUS.get(status, 'the kernel failed')}")
