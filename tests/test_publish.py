"""Putting a run in place: only runs are replaced, and only what is theirs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from makes import alpaca_rows, nothing, run_here, tree, write_jsonl, write_recipe

import reports
from pipelines.executor import LocalExecutor
from pipelines.exporting import export_run
from pipelines.forget import stores_of
from pipelines.progress import EVENTS, Silent
from pipelines.publish import WORK, check_ours, current_manifest
from pipelines.recipe_file import load_recipe
from pipelines.redecide import redecide
from pipelines.run import Settings, run
from pipelines.store import Store
from schemas.errors import RecipeError

FOREIGN = {"notes.txt": b"mine", ".git/HEAD": b"mine", "figures/one.svg": b"mine", "models/README.md": b"mine"}
MANIFESTS = ['{"name": "a web app", "start_url": "/"}', '{"metadata": {}, "nodes": {}}', "[]", "", '{"run_finger']


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(30))
    return write_recipe(tmp_path)


def _put(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def _settings(out: Path, store: Path, executor: LocalExecutor) -> Settings:
    return Settings(out, Store(store), executor, Silent(), nothing)


@pytest.mark.parametrize("content", MANIFESTS)
def test_a_manifest_of_another_program_is_none(content: str, recipe: Path, tmp_path: Path) -> None:
    app = {"manifest.json": content.encode(), "data/index.html": b"mine"}
    _put(tmp_path / "webapp", app)
    assert current_manifest(tmp_path / "webapp") is None
    with pytest.raises(RecipeError, match="not empty and not a run"):
        run_here(recipe, tmp_path / "webapp", tmp_path / "store")
    with pytest.raises(RecipeError, match="not a finished run"):
        export_run(tmp_path / "webapp", "alpaca", tmp_path / "alpaca")
    with pytest.raises(RecipeError, match="not a finished run"):
        stores_of([tmp_path / "webapp"])
    assert tree(tmp_path / "webapp") == app


def test_redecide_refuses_what_is_no_run(recipe: Path, tmp_path: Path) -> None:
    run_here(recipe, tmp_path / "out", tmp_path / "store")
    _put(tmp_path / "webapp", {"manifest.json": b"{}"})
    with LocalExecutor(1) as executor:
        settings = _settings(tmp_path / "webapp", tmp_path / "store", executor)
        with pytest.raises(RecipeError, match="not empty and not a run"):
            redecide(tmp_path / "out", [], settings, write=True)
        with pytest.raises(RecipeError, match="not a finished run"):
            redecide(tmp_path / "webapp", [], settings, write=False)
    assert tree(tmp_path / "webapp") == {"manifest.json": b"{}"}


def test_a_note_alone_makes_no_run_of_a_folder(recipe: Path, tmp_path: Path) -> None:
    _put(tmp_path / "thesis", {"chapter1.tex": b"mine", f"{WORK}/flow.json": b"{}"})
    with pytest.raises(RecipeError, match="chapter1"):
        run_here(recipe, tmp_path / "thesis", tmp_path / "store")


def test_a_first_run_that_stopped_is_gone_on_with(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def breaking(name: str, work: Callable[[], Any]) -> Any:
        if name == "publish":
            raise ConnectionError("the machine goes down")
        return work()

    with LocalExecutor(1) as executor:
        settings = replace(_settings(out, tmp_path / "store", executor), step=breaking)
        with pytest.raises(ConnectionError):
            run(load_recipe(recipe), settings)
    assert list(out.glob(f"{WORK}/*/{EVENTS}"))
    _put(out, {"notes.txt": b"mine"})
    manifest = run_here(recipe, out, tmp_path / "store")
    assert manifest["splits"] == {"train": 30}
    assert (out / "notes.txt").read_bytes() == b"mine"


def test_an_empty_folder_and_one_of_only_a_lock_are_free(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    check_ours(tmp_path / "out")
    (tmp_path / "out/.lock").touch()
    (tmp_path / "out/.curatrix").mkdir()
    check_ours(tmp_path / "out")


def test_what_others_put_beside_a_run_stays(recipe: Path, tmp_path: Path) -> None:
    out, store = tmp_path / "out", tmp_path / "store"
    run_here(recipe, out, store)
    _put(out, FOREIGN)
    write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(20))
    run_here(recipe, out, store)
    run_here(recipe, tmp_path / "fresh", tmp_path / "other-store")
    assert {name: data for name, data in tree(out).items() if name in FOREIGN} == FOREIGN
    assert tree(out).keys() - FOREIGN.keys() == tree(tmp_path / "fresh").keys()


def test_parts_that_the_next_run_does_not_have_go(recipe: Path, tmp_path: Path) -> None:
    """Of everything that a run can write, nothing is left; so nothing of it is taken for somebody else's."""
    out, store = tmp_path / "out", tmp_path / "store"
    write_jsonl(tmp_path / "rows.jsonl", [*alpaca_rows(29), {"instruction": "", "output": ""}])
    rich = write_recipe(
        tmp_path, stages=["clean", "dedup", "length"], max_quarantine=0.5,
        export={"delta": True, "also": ["alpaca"], "splits": {"validation": 0.1}},
    )  # fmt: skip
    with LocalExecutor(1) as executor:
        run(load_recipe(rich), Settings(out, Store(store), executor, Silent(), reports.documents))
    parts = {path.name for path in out.iterdir() if not path.name.startswith(".")}
    assert {"data", "delta", "exports", "lineage", "quarantine", "README.md", "report.html", "catalog.sql"} <= parts
    (out / ".report.html.0123.tmp").write_text("never finished")
    write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(20))
    manifest = run_here(write_recipe(tmp_path), out, store)
    names = {path.name for path in out.iterdir()}
    assert names == {".lock", "manifest.json", EVENTS, "data", "lineage"}
    assert json.loads((out / "manifest.json").read_text()) == manifest
