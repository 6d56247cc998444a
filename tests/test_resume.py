"""kill -9 at random moments: the next run continues, repeats no finished work and writes the same bytes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from makes import alpaca_rows, tree, write_jsonl, write_recipe

from pipelines.files import read_json

KILLS = 10
ROWS = 12_000
STAGES = ["clean", {"dedup": {"threshold": 0.8}}, "length", {"sample": {"keep": 0.9}}]


class Place:
    """One output directory with its own store, and the command that fills it."""

    def __init__(self, recipe: Path, folder: Path) -> None:
        self.out, self.store = folder / "out", folder / "store"
        self._command = [sys.executable, "-m", "cli", "run", str(recipe), "--out", str(self.out), "--json"]
        self._environment = {**os.environ, "CURATRIX_STORE": str(self.store)}

    def run(self) -> dict[str, Any]:
        """Run to the end; returns the manifest."""
        done = subprocess.run(
            self._command, env=self._environment, check=False, capture_output=True, text=True, timeout=200
        )
        assert done.returncode == 0, done.stderr
        manifest: dict[str, Any] = read_json(self.out / "manifest.json")
        return manifest

    def run_and_kill(self, seconds: float) -> None:
        """Run for a while, then kill -9 the command and all its workers."""
        process = subprocess.Popen(
            self._command, env=self._environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def finished(self) -> dict[str, int]:
        """Work that is done so far: chunks read, and rows scored per stage."""
        done = {"ingest": len(list(self.store.glob("pool/*/chunk-*.json")))}
        for path in self.store.glob("scores/*/*.parquet"):
            stage = path.parent.name.rpartition("-")[0]
            done[stage] = done.get(stage, 0) + pq.read_metadata(path).num_rows
        return done


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    for number in range(4):
        write_jsonl(folder / f"in/{number}.jsonl", alpaca_rows(ROWS // 4, seed=number) + alpaca_rows(200))
    return write_recipe(
        folder, sources=[{"name": "s", "path": "in/*.jsonl"}], stages=STAGES, export={"rows_per_file": 3000}
    )


@pytest.fixture(scope="module")
def undisturbed(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, dict[str, Any], float]:
    place = Place(recipe, tmp_path_factory.mktemp("undisturbed"))
    started = time.monotonic()
    manifest = place.run()
    return place, manifest, time.monotonic() - started


@pytest.mark.parametrize(
    "number", [pytest.param(k, marks=[pytest.mark.slow] if k >= KILLS // 2 else []) for k in range(KILLS)]
)
def test_killed_and_run_again(
    number: int, recipe: Path, undisturbed: tuple[Place, Mapping[str, Any], float], tmp_path: Path
) -> None:
    reference, whole, seconds = undisturbed
    place = Place(recipe, tmp_path)
    place.run_and_kill(random.Random(number).uniform(0.2, 1.0) * seconds)
    if number % 3 == 0:
        place.run_and_kill(random.Random(-number - 1).uniform(0.2, 1.0) * seconds)
    published = (place.out / "manifest.json").exists()
    done = place.finished()
    manifest = place.run()
    for part in ("data", "lineage/decisions"):
        assert tree(place.out / part) == tree(reference.out / part)
    assert not list(place.out.rglob("*.tmp"))
    if not published:
        _nothing_repeated(done, manifest, whole)


def _nothing_repeated(done: Mapping[str, int], manifest: Mapping[str, Any], whole: Mapping[str, Any]) -> None:
    """The counters of the second run leave out what the first had finished."""
    assert manifest["ingest"]["chunks_read"] == whole["ingest"]["chunks_read"] - done["ingest"]
    for stage, reference in zip(manifest["stages"], whole["stages"], strict=True):
        scored, all_scored = stage["counters"]["scored"], reference["counters"]["scored"]
        assert scored == all_scored - done.get(stage["stage"], 0), stage["stage"]
