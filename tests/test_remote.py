"""Object storage: the same bytes as on a disk, and nothing half-published."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import pytest
from makes import alpaca_rows, run_here, tree, write_jsonl, write_recipe

from pipelines.progress import Silent
from pipelines.publish import locked
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


@contextmanager
def _dead_line(memory: Any, monkeypatch: pytest.MonkeyPatch, method: str, after: int) -> Iterator[None]:
    """A file system whose `method` fails from the call after the first `after` on."""
    real, done = getattr(type(memory), method), []

    def breaking(self: Any, source: str, target: str, **more: Any) -> None:
        if len(done) == after:
            raise ConnectionError("the line is dead")
        done.append(target)
        real(self, source, target, **more)

    with monkeypatch.context() as patched:
        patched.setattr(type(memory), method, breaking)
        yield


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
    with _dead_line(memory, monkeypatch, "put_file", 2), pytest.raises(ConnectionError):
        upload(released, "memory://sets/one", Silent())
    now = {name: memory.cat_file(name) for name in memory.find("/sets/one") if "/.curatrix/" not in name}
    assert now == before
    assert len(upload(released, "memory://sets/one", Silent()).known) == 2  # not sent again
    assert (
        memory.cat_file("/sets/one/data/train-00000-of-00001.parquet")
        == tree(released)["data/train-00000-of-00001.parquet"]
    )


def _release_again(released: Path, rows: int = 80, **keys: Any) -> None:
    """Another run in the same folder."""
    write_jsonl(released.parent / "rows.jsonl", alpaca_rows(rows))
    run_here(write_recipe(released.parent, **keys), released, released.parent / "store")


def _published(memory: Any) -> dict[str, bytes]:
    return {name.removeprefix("/sets/one/"): memory.cat_file(name) for name in memory.find("/sets/one")}


def _wanted(released: Path) -> dict[str, bytes]:
    return {name: data for name, data in tree(released).items() if name != ".lock"}


def test_files_of_an_earlier_run_go(released: Path, memory: Any) -> None:
    _release_again(released, stages=["dedup"], export={"rows_per_file": 30, "delta": True, "also": ["alpaca"]})
    upload(released, "memory://sets/one", Silent())
    assert _published(memory) == _wanted(released)
    _release_again(released, 70)
    gone = upload(released, "memory://sets/one", Silent()).removed
    assert {"data/train-00000-of-00003.parquet", "delta/train-00000-of-00001.parquet"} <= {*gone}
    assert {"lineage/decisions/01-dedup.parquet", "exports/alpaca/export.json", "exports/alpaca/README.md"} <= {*gone}
    assert _published(memory) == _wanted(released)


FOREIGN = {"README.txt": b"bytes of others", "thesis/ch1.tex": b"years of work", "data/mine.parquet": b"not yours"}


def test_a_place_that_holds_something_else_is_refused(released: Path, memory: Any) -> None:
    foreign = {**FOREIGN, "manifest.json": b'{"name": "a web app"}'}
    memory.pipe({f"/sets/one/{name}": data for name, data in foreign.items()})
    for dry_run in (True, False):
        with pytest.raises(RecipeError, match=r"not a run of curatrix \(it has 'README\.txt'\)"):
            upload(released, "memory://sets/one", Silent(), dry_run)
    with pytest.raises(RecipeError, match="not a finished run"):
        fetch("memory://sets/one")
    assert _published(memory) == foreign


def test_the_command_refuses_a_folder_that_holds_something_else(released: Path, tmp_path: Path) -> None:
    thesis = tmp_path / "thesis/ch1.tex"
    thesis.parent.mkdir()
    thesis.write_text("years of work")
    command = [sys.executable, "-m", "cli", "publish", str(released), "--to", thesis.parent.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 2
    assert "ch1.tex" in done.stderr
    assert tree(thesis.parent) == {"ch1.tex": b"years of work"}


def test_a_run_for_a_place_that_holds_something_else_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    thesis = tmp_path / "thesis/ch1.tex"
    thesis.parent.mkdir()
    thesis.write_text("years of work")
    write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(5))
    command = [sys.executable, "-m", "cli", "run", str(write_recipe(tmp_path)), "--out", thesis.parent.as_uri()]
    environment = {**os.environ, "CURATRIX_STORE": str(tmp_path / "store")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, env=environment)
    assert done.returncode == 2
    assert "not a run of curatrix (it has 'ch1.tex')" in done.stderr.replace("\n", " ")
    assert tree(thesis.parent) == {"ch1.tex": b"years of work"}
    assert not list((tmp_path / "store").glob("outputs/*"))


def test_what_lies_beside_a_run_stays(released: Path, memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(released.parent / "cache"))
    upload(released, "memory://sets/one", Silent())
    memory.pipe({f"/sets/one/{name}": data for name, data in FOREIGN.items()})
    (released / "notes.txt").write_text("mine: a password")
    _release_again(released)
    assert "lineage/decisions/01-dedup.parquet" in upload(released, "memory://sets/one", Silent()).removed
    wanted = {name: data for name, data in _wanted(released).items() if name != "notes.txt"}
    assert _published(memory) == {**FOREIGN, **wanted}
    assert tree(fetch("memory://sets/one")).keys() == wanted.keys()


@pytest.mark.parametrize("after", range(4))
def test_copies_that_break_off_are_gone_on_with(
    after: int, released: Path, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the same run or by another one; what the first of all had is known although its manifest is gone."""
    upload(released, "memory://sets/one", Silent())
    memory.pipe({f"/sets/one/{name}": data for name, data in FOREIGN.items()})
    _release_again(released, export={"rows_per_file": 30})
    with _dead_line(memory, monkeypatch, "cp_file", after), pytest.raises(ConnectionError):
        upload(released, "memory://sets/one", Silent())
    if after % 2:
        _release_again(released, 70)
    again = upload(released, "memory://sets/one", Silent())
    assert after % 2 or again.known == again.files.keys()  # nothing is sent again
    assert _published(memory) == {**FOREIGN, **_wanted(released)}


def test_nobody_writes_what_is_being_uploaded(released: Path, memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    put, refused = type(memory).put_file, []

    def meanwhile(self: Any, source: str, target: str, **more: Any) -> None:
        put(self, source, target, **more)
        with pytest.raises(RunError, match="an upload reads it"):
            _release_again(released)
        refused.append(source)

    monkeypatch.setattr(type(memory), "put_file", meanwhile)
    upload(released, "memory://sets/one", Silent())
    assert refused
    assert _published(memory) == _wanted(released)
    _release_again(released)  # the folder is free again
    with locked(released), pytest.raises(RunError, match="a run is writing here"):
        upload(released, "memory://sets/one", Silent())


def test_a_run_in_a_folder_of_others_can_be_published(released: Path, memory: Any) -> None:
    (released / ".lock").unlink()
    released.chmod(0o555)
    try:
        upload(released, "memory://sets/one", Silent())
    finally:
        released.chmod(0o755)
    assert _published(memory) == _wanted(released)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of the hub as a folder, with what the hub puts in a new one."""
    import huggingface_hub

    root = tmp_path / "hub/datasets/me/sft"
    write_jsonl(root / ".gitattributes", [])
    system = fsspec.filesystem("dir", path=str(tmp_path / "hub"), fs=fsspec.filesystem("file"))
    monkeypatch.setattr("pipelines.remote.open_place", lambda url: (system, url.removeprefix("hf://")))

    class Api:
        def create_repo(self, *names: str, **more: Any) -> None:
            pass

        def upload_folder(
            self, folder_path: Path, allow_patterns: list[str], delete_patterns: list[str] | None, **more: Any
        ) -> None:
            for name in delete_patterns or ():
                (root / name).unlink()
            for name in allow_patterns:
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(folder_path / name, root / name)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    return root


def test_a_repository_of_the_hub_keeps_what_is_not_ours(released: Path, hub: Path) -> None:
    (hub / "README.md").write_text("---\nlicense: mit\n---\n")  # made with the repository
    upload(released, "hf://datasets/me/sft", Silent())
    (hub / "data/mine.parquet").write_bytes(b"not yours")
    _release_again(released, export={"rows_per_file": 30})
    upload(released, "hf://datasets/me/sft", Silent())
    assert tree(hub) == {**_wanted(released), "data/mine.parquet": b"not yours", ".gitattributes": b""}


def test_a_repository_of_somebody_else_is_refused(released: Path, hub: Path) -> None:
    write_jsonl(hub / "data/train.jsonl", [{"theirs": 1}])
    before = tree(hub)
    with pytest.raises(RecipeError, match=r"data/train\.jsonl"):
        upload(released, "hf://datasets/me/sft", Silent())
    assert tree(hub) == before


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
