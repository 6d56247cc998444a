"""`export: {also: [...]}`: other shapes beside the dataset, made from the very run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from makes import alpaca_rows, run_here, tree, write_jsonl, write_recipe

from pipelines.exporting import export_run
from pipelines.recipe_file import load_recipe
from schemas.errors import RecipeError


def test_shapes_are_written_and_follow_the_run(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(30))
    recipe = write_recipe(tmp_path, export={"also": ["alpaca", {"to": "sharegpt", "lines": True}]})
    run_here(recipe, tmp_path / "out", tmp_path / "store")
    export_run(tmp_path / "out", "alpaca", tmp_path / "by-hand")
    assert tree(tmp_path / "out/exports/alpaca") == tree(tmp_path / "by-hand")
    assert list((tmp_path / "out/exports/sharegpt/data").glob("*.jsonl"))
    shutil.rmtree(tmp_path / "out/exports/alpaca")
    run_here(recipe, tmp_path / "out", tmp_path / "store")  # nothing else to do
    assert tree(tmp_path / "out/exports/alpaca") == tree(tmp_path / "by-hand")
    write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(31))
    run_here(recipe, tmp_path / "out", tmp_path / "store")
    assert tree(tmp_path / "out/exports/alpaca") != tree(tmp_path / "by-hand")


def test_other_options_write_the_shape_anew(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(30))
    for shape, ending in (("alpaca", "parquet"), ({"to": "alpaca", "lines": True}, "jsonl")):
        run_here(write_recipe(tmp_path, export={"also": [shape]}), tmp_path / "out", tmp_path / "store")
        files = list((tmp_path / "out/exports/alpaca/data").iterdir())
        assert files
        assert all(path.suffix == f".{ending}" for path in files)


def test_another_shape_changes_nothing_else(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(30))
    first = run_here(write_recipe(tmp_path), tmp_path / "out", tmp_path / "store")
    recipe = write_recipe(tmp_path, export={"also": ["prompt-completion"]})
    second = run_here(recipe, tmp_path / "out", tmp_path / "store")
    assert second == first
    assert (tmp_path / "out/exports/prompt-completion/export.json").is_file()


def test_an_unknown_shape_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="did you mean 'alpaca'"):
        load_recipe(write_recipe(tmp_path, export={"also": ["alpacca"]}), ())
