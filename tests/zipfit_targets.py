"""Targets for tests of `zipfit` and `dsir`: texts by path, in the place of files."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from types import ModuleType

import pytest


def place(monkeypatch: pytest.MonkeyPatch, files: Mapping[str, Sequence[str | None]]) -> None:
    """Make `stages.targets.load` answer with `files`."""
    module = ModuleType("stages.targets")
    module.load = lambda path, on: [(f"{path}:{k}", text) for k, text in enumerate(files[path])]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "stages.targets", module)
