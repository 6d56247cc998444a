"""Choosing where work runs."""

from __future__ import annotations

from typing import Literal

from pipelines.executor import LocalExecutor
from pipelines.ray_executor import RayExecutor

ExecutorName = Literal["local", "ray"]


def open_executor(name: ExecutorName, workers: int | None = None) -> LocalExecutor | RayExecutor:
    """The executor of that name, to be entered; `workers` bounds a local one (default: one per core)."""
    return RayExecutor() if name == "ray" else LocalExecutor(workers)
