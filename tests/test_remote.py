"""Object storage: the same bytes as on a disk, and nothing half-published."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from makes import alpaca_rows, run_here, tree, write_jsonl, write_recipe

from pipelines.progress import Silent
from pipelines.remote import fetch, upload
from schemas.errors import RecipeError, RunError

BUCKET = "curatrix"


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """A finished run."""
    write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(60) + alpaca_rows(5))
    run_here(write_recipe(tmp_path, stages=["dedup"]), tmp_path / "out", tmp_path / "store")
    return tmp_path / "out"


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    """Environment of processes that talk to an S3-compatible server on this machine."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    system = _s3(settings)
    system.mkdir(BUCKET)
    yield settings
    server.stop()


def _s3(settings: dict[str, str]) -> Any:
    return fsspec.filesystem(
        "s3", key="test", secret="test", endpoint_url=settings["AWS_ENDPOINT_URL"], skip_instance_cache=True
    )


def test_what_is_published_can_be_fetched(released: Path, memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(released.parent / "cache"))
    upload(released, "memory://sets/one", Silent())
    wanted = {name: data for name, data in tree(released).items() if name != ".lock"}
    found = tree(fetch("memory://sets/one"))
    assert {name for name in found if name != "manifest.json"} == {name for name in wanted if name != "manifest.json"}
    assert all(found[name] == data for name, data in wanted.items() if name != "manifest.json")
    assert not [name for name in memory.find("/sets/one") if "/.curatrix/" in name]


def test_what_was_fetched_follows_what_is_there(released: Path, memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(released.parent / "cache"))
    upload(released, "memory://sets/one", Silent())
    folder = fetch("memory://sets/one")
    (folder / "data/train-00001-of-00002.parquet").write_bytes(b"of an earlier run")
    write_jsonl(released.parent / "rows.jsonl", alpaca_rows(80))
    run_here(released.parent / "recipe.yaml", released, released.parent / "store")
    upload(released, "memory://sets/one", Silent())
    assert tree(fetch("memory://sets/one") / "data") == tree(released / "data")


def test_an_upload_that_breaks_off_leaves_the_place_as_it_was(
    released: Path, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(released, "memory://sets/one", Silent())
    before = {name: memory.cat_file(name) for name in memory.find("/sets/one")}
    write_jsonl(released.parent / "rows.jsonl", alpaca_rows(80))
    run_here(released.parent / "recipe.yaml", released, released.parent / "store")
    put, sent = type(memory).put_file, []

    def breaking(self: Any, source: str, target: str, **more: Any) -> None:
        if len(sent) == 2:
            raise ConnectionError("the line is dead")
        sent.append(target)
        put(self, source, target, **more)

    monkeypatch.setattr(type(memory), "put_file", breaking)
    with pytest.raises(ConnectionError):
        upload(released, "memory://sets/one", Silent())
    now = {name: memory.cat_file(name) for name in memory.find("/sets/one") if "/.curatrix/" not in name}
    assert now == before
    monkeypatch.setattr(type(memory), "put_file", put)
    assert len(upload(released, "memory://sets/one", Silent()).known) == 2  # not sent again
    assert (
        memory.cat_file("/sets/one/data/train-00000-of-00001.parquet")
        == tree(released)["data/train-00000-of-00001.parquet"]
    )


def test_files_of_an_earlier_run_go(released: Path, memory: Any) -> None:
    memory.pipe_file("/sets/one/data/train-00007-of-00008.parquet", b"old")
    assert upload(released, "memory://sets/one", Silent()).removed == ("data/train-00007-of-00008.parquet",)
    assert not memory.exists("/sets/one/data/train-00007-of-00008.parquet")


def test_two_publishers_do_not_mix(released: Path, memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = type(memory).cp_file

    def copying(self: Any, source: str, target: str, **more: Any) -> None:
        copy(self, source, target, **more)
        self.pipe_file("/sets/one/manifest.json", b"{}")  # somebody else was quicker

    monkeypatch.setattr(type(memory), "cp_file", copying)
    with pytest.raises(RunError, match="another run was published there meanwhile"):
        upload(released, "memory://sets/one", Silent())


def test_dry_run_sends_nothing_to_the_hub(released: Path) -> None:
    command = [sys.executable, "-m", "cli", "publish", str(released), "--to", "hf://datasets/me/sft", "--dry-run"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert "data/train-00000-of-00001.parquet" in done.stdout
    assert "would be sent; nothing was" in done.stdout


def test_what_cannot_be_published_says_why(released: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="not a finished run"):
        upload(tmp_path, "memory://sets/one", Silent())
    with pytest.raises(RecipeError, match="hf://datasets/OWNER/NAME"):
        upload(released, "hf://me/sft", Silent(), dry_run=True)
    with pytest.raises(RecipeError, match="nowhere"):
        upload(released, "nowhere://x", Silent())
    with pytest.raises(RecipeError, match="has no manifest"):
        fetch("memory://sets/none")


def test_a_run_on_s3_equals_one_on_disk(tmp_path: Path, s3: dict[str, str]) -> None:
    write_jsonl(tmp_path / "rows/a.jsonl", alpaca_rows(200) + alpaca_rows(20))
    _s3(s3).put(str(tmp_path / "rows/a.jsonl"), f"{BUCKET}/rows/a.jsonl")
    stages = [{"dedup": {"threshold": 0.8}}, "length"]
    local = write_recipe(tmp_path, sources=[{"name": "rows", "path": "rows"}], stages=stages)
    run_here(local, tmp_path / "local", tmp_path / "store")
    (tmp_path / "there").mkdir()
    far = write_recipe(tmp_path / "there", sources=[{"name": "rows", "path": f"s3://{BUCKET}/rows"}], stages=stages)
    out = f"s3://{BUCKET}/sets/one"
    environment = {**os.environ, **s3, "CURATRIX_STORE": str(tmp_path / "s"), "XDG_CACHE_HOME": str(tmp_path / "c")}

    def curate(*arguments: str) -> str:
        command = [sys.executable, "-m", "cli", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    curate("run", str(far), "--out", out)
    _s3(s3).get(f"{BUCKET}/sets/one/", str(tmp_path / "got"), recursive=True)
    assert tree(tmp_path / "got/data") == tree(tmp_path / "local/data")
    assert tree(tmp_path / "got/lineage") == tree(tmp_path / "local/lineage")
    assert "200" in curate("sql", out, "SELECT count(*) FROM records")
    again = write_recipe(tmp_path / "there", sources=[{"name": "rows", "path": out}], stages=[])
    curate("run", str(again), "--out", str(tmp_path / "again"))
    assert (tmp_path / "again/manifest.json").is_file()
