"""The Ray executor: the same bytes as on one machine, whatever happens to a node."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from makes import alpaca_rows, nothing, run_here, tree, write_jsonl, write_recipe

from pipelines.executor import R, Runs, T
from pipelines.progress import Silent
from pipelines.ray_executor import RayExecutor
from pipelines.recipe_file import load_recipe
from pipelines.run import Settings, run
from pipelines.store import Store
from schemas.errors import RunError
from stages.contract import Needs

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow


@pytest.fixture
def one_node() -> Iterator[RayExecutor]:
    with RayExecutor("local") as executor:
        yield executor


def test_results_come_in_order_and_errors_as_they_were_raised(one_node: RayExecutor) -> None:
    def twice(number: int) -> int:  # defined here, so that it travels by value
        if number == 13:
            raise RunError("thirteen")
        return 2 * number

    assert list(one_node.map(twice, range(12), needs=Needs(cpus=0.5))) == list(range(0, 24, 2))
    with pytest.raises(RunError, match=r"^thirteen$"):
        list(one_node.map(twice, range(20)))


def test_a_node_lost_in_the_middle_changes_nothing(tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    for number in range(12):
        write_jsonl(tmp_path / f"data/{number:02d}.jsonl", alpaca_rows(4_000, seed=number))
    sources = [{"name": "rows", "path": "data"}]
    recipe = write_recipe(tmp_path, sources=sources, stages=["clean", {"dedup": {"threshold": 0.8}}, "length"])
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        second = cluster.add_node(num_cpus=2)
        command = [sys.executable, "-m", "cli", "run", str(recipe), "--out", str(tmp_path / "ray"), "--executor", "ray"]
        environment = {**os.environ, "RAY_ADDRESS": cluster.address, "CURATRIX_STORE": str(tmp_path / "store")}
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        _wait_for_a_chunk(tmp_path / "store", process)
        cluster.remove_node(second, allow_graceful=False)
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
    finally:
        cluster.shutdown()
    run_here(recipe, tmp_path / "local", tmp_path / "other")
    assert tree(tmp_path / "ray/data") == tree(tmp_path / "local/data")
    assert tree(tmp_path / "ray/lineage") == tree(tmp_path / "local/lineage")


class Watched:
    """The Ray executor, and on which nodes the tasks of each function ran."""

    def __init__(self, executor: RayExecutor) -> None:
        self._executor, self.nodes = executor, dict[str, set[str]]()

    def map(
        self, function: Callable[[T], R], tasks: Iterable[T], runs_in: Runs = "process", needs: Needs = Needs()
    ) -> Iterator[R]:
        def placed(task: T) -> tuple[str, R]:
            return ray.get_runtime_context().get_node_id(), function(task)

        for node, result in self._executor.map(placed, tasks, runs_in, needs):
            self.nodes.setdefault(function.__name__, set()).add(node)
            yield result


def test_near_copies_are_found_on_all_nodes_and_are_the_same(tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    for number in range(24):
        rows = alpaca_rows(1_500, seed=number)
        rows += [{**row, "output": f"{row['output']} more"} for row in rows[:300]]
        write_jsonl(tmp_path / f"data/{number:02d}.jsonl", rows)
    sources = [{"name": "rows", "path": "data"}]
    recipe = write_recipe(tmp_path, sources=sources, stages=[{"dedup": {"threshold": 0.7}}])
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        both = {cluster.head_node.node_id, cluster.add_node(num_cpus=1).node_id}
        cluster.wait_for_nodes()
        store = Store(tmp_path / "store")
        with RayExecutor(cluster.address) as executor:
            watched = Watched(executor)
            run(load_recipe(recipe, ()), Settings(tmp_path / "ray", store, watched, Silent(), nothing))
    finally:
        cluster.shutdown()
    assert {"write_keys", "candidates", "write_sets", "compared"} <= set(watched.nodes)
    assert set.union(*watched.nodes.values()) == both
    manifest = run_here(recipe, tmp_path / "local", tmp_path / "other")
    assert manifest["stages"][-1]["reasons"]["duplicate: near"] == 24 * 300
    assert tree(tmp_path / "ray/data") == tree(tmp_path / "local/data")
    assert tree(tmp_path / "ray/lineage") == tree(tmp_path / "local/lineage")
    assert not list((store.root / "scratch").iterdir())


def _wait_for_a_chunk(store: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not list(store.glob("pool/*/chunk-*.json")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    over = process.poll() is not None
    assert not over, f"the run was over before a node could be lost: {process.communicate()[1]}"
