"""`curate status`: what a run is doing, while it does it and after it died."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from makes import alpaca_rows, run_here, write_jsonl, write_recipe

from reports.status import status
from schemas.errors import CuratrixError, RecipeError

STAGES = ["clean", {"dedup": {"threshold": 0.8}}, "length"]


def _curate(*arguments: str, check: bool = True) -> str:
    command = [sys.executable, "-m", "cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=check).stdout


def test_a_finished_run(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(50))
    run_here(write_recipe(tmp_path, stages=STAGES), tmp_path / "out", tmp_path / "store")
    found = status(tmp_path / "out")
    assert found["state"] == "finished"
    assert [step["step"] for step in found["steps"]] == ["ingest", "clean", "dedup", "length", "export"]
    assert {step["state"] for step in found["steps"]} == {"done"}
    assert "50 records" in _curate("status", str(tmp_path / "out"))


def test_a_failed_run_says_why(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", [{"instruction": "", "output": ""}] * 5)
    with pytest.raises(CuratrixError):
        run_here(write_recipe(tmp_path, stages=STAGES), tmp_path / "out", tmp_path / "store")
    found = status(tmp_path / "out")
    assert found["state"] == "failed"
    assert found["error"].startswith("GateError: ")
    assert found["left"] == ["clean", "dedup", "length", "export"]


def test_a_run_that_goes_on_and_then_dies(tmp_path: Path) -> None:
    for number in range(8):
        write_jsonl(tmp_path / f"data/{number}.jsonl", alpaca_rows(4_000, seed=number))
    recipe = write_recipe(tmp_path, sources=[{"name": "rows", "path": "data"}], stages=STAGES)
    environment = {**os.environ, "CURATRIX_STORE": str(tmp_path / "store")}
    command = [sys.executable, "-m", "cli", "run", str(recipe), "--out", str(tmp_path / "out")]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, start_new_session=True)
    found = _wait_for_steps(tmp_path / "out", process)
    assert (found["state"], found["pid"]) == ("running", process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    _wait_for_the_end_of(process.pid)
    found = json.loads(_curate("status", str(tmp_path / "out"), "--json"))
    assert (found["state"], found["error"]) == ("died", None)
    assert found["steps"][-1]["state"] == "under way"
    assert "export" in found["left"]
    assert "run the same command again" in _curate("status", str(tmp_path / "out"))


def _wait_for_the_end_of(session: int) -> None:
    """Workers of a killed run end by themselves; nobody else would end them."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        listed = subprocess.run(["ps", "-o", "pid=", "-s", str(session)], capture_output=True, text=True, check=False)
        if not listed.stdout.split():
            return
        time.sleep(0.1)
    raise AssertionError(f"still there: {listed.stdout}")


def _wait_for_steps(out: Path, process: subprocess.Popen[bytes]) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            found = status(out)
        except RecipeError:
            continue
        if found["steps"]:
            return found
        time.sleep(0.01)
    raise AssertionError("the run never told of a step")


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="holds no run"):
        status(tmp_path)
