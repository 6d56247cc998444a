"""Tensors by name as named arrays, and back; a scratch file that survives kill -9."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from schemas.errors import RunError

Arrays = dict[str, npt.NDArray[Any]]
State = Mapping[str, npt.NDArray[Any]]
Storage = Literal["float32", "float16"]


def pack(kind: str, tensors: Mapping[str, Tensor], dtype: Storage = "float32") -> Arrays:
    """`kind.names` and one array per tensor; in float16 each is scaled to its largest entry (`.scale`)."""
    arrays: Arrays = {f"{kind}.names": np.array(list(tensors), dtype=np.str_)}
    for place, tensor in enumerate(tensors.values()):
        values = tensor.detach().to("cpu", torch.float32).numpy()
        if dtype == "float16":
            scale = np.float32(np.abs(values).max(initial=0) or 1)
            arrays[f"{kind}.{place}.scale"] = np.array(scale)
            values = (values / scale).astype(np.float16)
        arrays[f"{kind}.{place}"] = values
    return arrays


def unpack(kind: str, state: State) -> dict[str, Tensor]:
    """The tensors that `pack` made arrays of, in float32."""
    tensors = {}
    for place, name in enumerate(state[f"{kind}.names"].tolist()):
        values = np.asarray(state[f"{kind}.{place}"], np.float32)
        scale = np.float32(state.get(f"{kind}.{place}.scale", np.float32(1)))
        tensors[str(name)] = torch.from_numpy(np.asarray(values * scale, np.float32, order="C"))
    return tensors


def save(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write `arrays` so that a reader sees the old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with unfinished.open("wb") as file:
        np.savez(file, allow_pickle=False, **dict(arrays))
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def load(path: Path) -> Arrays | None:
    """What `save` wrote; None where there is nothing.

    Raises:
        RunError: where the file is damaged.
    """
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError) as error:
        raise RunError(f"influence: {path} is damaged ({error}); delete it to start anew") from error
