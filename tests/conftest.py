"""Shared fixtures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# One thread per test process: several of them with a thread per core each would only wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Else every command that a test starts compiles all our modules again, which takes longer than many of the commands.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import fsspec
import pytest
from hypothesis import settings

settings.register_profile("curatrix", deadline=None)  # how long a test takes is no property of the code
settings.load_profile("curatrix")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real public data beside the checkout; tests that need it skip where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}")
    return folder


@pytest.fixture
def memory() -> Iterator[Any]:
    """An empty object store in this process."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()
