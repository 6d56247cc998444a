"""A real Prefect server and worker: a deployment of prefect.yaml is run, killed and run again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from makes import alpaca_rows, run_here, tree, write_jsonl, write_recipe

from reports.status import status
from schemas.errors import RecipeError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[1]
STAGES = ["clean", {"dedup": {"threshold": 0.8}}, "length"]


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Environment of Prefect's commands, with a server of its own running."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        **os.environ, "PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "CURATRIX_HOME": str(ROOT), "CURATRIX_STORE": str(tmp_path / "store"), "PREFECT_SERVER_ANALYTICS_ENABLED": "0",
        "PREFECT_CLI_PROMPT": "0",
    }  # fmt: skip
    server = _prefect(settings, "server", "start", "--host", "127.0.0.1", "--port", str(port))
    try:
        _until(lambda: httpx.get(f"{settings['PREFECT_API_URL']}/health", timeout=5).status_code == 200, 120)
        yield settings
    finally:
        _kill(server)


def _prefect(settings: dict[str, str], *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "prefect", *arguments]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, env=settings, cwd=ROOT, stdout=quiet, stderr=quiet, start_new_session=True)


def _call(settings: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "-m", "prefect", *arguments]
    done = subprocess.run(command, env=settings, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _states(settings: dict[str, str]) -> list[str]:
    found = httpx.post(f"{settings['PREFECT_API_URL']}/flow_runs/filter", json={}, timeout=10).json()
    return [run["state"]["type"] for run in found if run["state"]["type"] != "SCHEDULED"]  # what cron has planned


def _kill(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _until(true: Callable[[], bool], seconds: float, now: Callable[[], object] = lambda: "") -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if true():
                return
        except (httpx.HTTPError, RecipeError):
            pass
        time.sleep(0.05)
    raise AssertionError(f"it never came about: {now()}")


def test_a_deployment_that_is_killed_goes_on(tmp_path: Path, environment: dict[str, str]) -> None:
    for number in range(10):
        write_jsonl(tmp_path / f"data/{number}.jsonl", alpaca_rows(4_000, seed=number))
    recipe = write_recipe(tmp_path, sources=[{"name": "rows", "path": "data"}], stages=STAGES)
    out = tmp_path / "out"
    _call(environment, "work-pool", "create", "curatrix", "--type", "process")
    _call(environment, "--no-prompt", "deploy", "--all")
    worker = _prefect(environment, "worker", "start", "--pool", "curatrix")
    start = ("deployment", "run", "curate/nightly-sft", "--param", f"recipe={recipe}", "--param", f"out={out}")
    try:
        _call(environment, *start)
        _until(lambda: len(status(out)["steps"]) >= 2, 200)
        os.kill(status(out)["pid"], signal.SIGKILL)
        _until(lambda: status(out)["state"] == "died", 30)
        # Until the worker has told of the crash, a new run would cancel itself.
        _until(lambda: _states(environment) == ["CRASHED"], 120, lambda: _states(environment))
        _call(environment, *start)
        _until(lambda: status(out)["state"] == "finished", 300, lambda: _states(environment))
    finally:
        _kill(worker)
    run_here(recipe, tmp_path / "direct", tmp_path / "other-store")
    assert tree(out / "data") == tree(tmp_path / "direct/data")
    assert tree(out / "lineage") == tree(tmp_path / "direct/lineage")
