"""Whole runs with `zipfit` and `dsir`: targets beside the recipe, caching, quotas, and recipes that cannot work."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from makes import alpaca_rows, run_here, tree, write_jsonl, write_recipe

from pipelines.recipe_file import load_recipe
from schemas.errors import RecipeError
from stages.zipfit import stage as zipfit_stage

CODE = "def f{n}(x):\n    for i in range({n}):\n        x = x + i\n    return x"


def code_rows(count: int, first: int = 0) -> list[dict[str, str]]:
    return [
        {"instruction": f"Write f{n}", "input": "", "output": CODE.format(n=n)} for n in range(first, first + count)
    ]


def make(folder: Path, stages: Sequence[dict[str, Any]], rows: Sequence[dict[str, str]] | None = None) -> Path:
    write_jsonl(folder / "rows.jsonl", [*alpaca_rows(60), *code_rows(20)] if rows is None else rows)
    write_jsonl(folder / "targets/code.jsonl", code_rows(12, 100))
    return write_recipe(folder, stages=list(stages))


def kept_texts(out: Path) -> list[str]:
    return [row["completion"] for row in pq.read_table(out / "data").to_pylist()]


TARGET = {"target": ["targets/code.jsonl"], "keep": 20}


@pytest.mark.parametrize(
    "stage",
    [
        {"zipfit": TARGET},
        {"zipfit": {**TARGET, "mode": "zipfit"}},
        {"zipfit": {**TARGET, "cascade": True}},
        {"zipfit": {**TARGET, "target": [{"path": "targets/code.jsonl", "weight": 2}]}},
        {"dsir": {**TARGET, "normalise": "per_token", "laplace": 0.1}},
    ],
)
def test_rows_like_the_target_are_kept(tmp_path: Path, stage: dict[str, Any]) -> None:
    manifest = run_here(make(tmp_path / "recipe", [stage]), tmp_path / "out", tmp_path / "store")
    (found,) = manifest["stages"]
    assert (found["rows_in"], found["kept"]) == (80, 20)
    texts = kept_texts(tmp_path / "out")
    assert sum(text.startswith("def f") for text in texts) >= 16  # 5 by chance
    decisions = [row for row in pq.read_table(tmp_path / "out/lineage/decisions").to_pylist() if row["position"] == 1]
    assert len(decisions) == 80
    assert min(row["score"] for row in decisions if row["keep"]) >= max(
        row["score"] for row in decisions if not row["keep"]
    )


def test_scores_are_public_and_vectors_are_not(tmp_path: Path) -> None:
    recipe = make(tmp_path, [{"zipfit": TARGET}, {"dsir": {**TARGET, "keep": 5}}])
    run_here(recipe, tmp_path / "out", tmp_path / "store")
    zipfit = pq.read_table(tmp_path / "out/lineage/scores/zipfit")
    assert set(zipfit.column_names) == {"record_id", "alignment", "gain", "c_x", "best_target", "n_tokens"}
    assert pq.read_table(tmp_path / "out/lineage/scores/dsir").column_names == ["record_id", "n_tokens"]


def test_what_rescores_and_what_does_not(tmp_path: Path) -> None:
    recipe, store = make(tmp_path, [{"zipfit": TARGET}, {"dsir": {**TARGET, "keep": 5}}]), tmp_path / "store"

    def scored(name: str, *overrides: str) -> list[int]:
        return [stage["counters"]["scored"] for stage in run_here(recipe, tmp_path / name, store, overrides)["stages"]]

    assert scored("first") == [80, 20]
    assert scored("fewer", "stages.0.zipfit.keep=10", "stages.1.dsir.seed=4") == [0, 0]
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    write_jsonl(tmp_path / "rows.jsonl", [*rows, *alpaca_rows(8, seed=5)])
    assert scored("more", "stages.0.zipfit.keep=20")[0] == 8
    write_jsonl(tmp_path / "targets/code.jsonl", code_rows(3, 200))
    assert scored("other")[0] == 88


def test_the_same_bytes_again_with_two_workers(tmp_path: Path) -> None:
    recipe = make(tmp_path, [{"zipfit": {**TARGET, "cascade": True}}, {"dsir": {**TARGET, "keep": 5}}])
    run_here(recipe, tmp_path / "one", tmp_path / "store1")
    run_here(recipe, tmp_path / "two", tmp_path / "store2", workers=2)
    assert tree(tmp_path / "one/data") == tree(tmp_path / "two/data")


@pytest.mark.parametrize("name", ["zipfit", "dsir"])
def test_keep_more_than_there_is(tmp_path: Path, name: str) -> None:
    manifest = run_here(make(tmp_path, [{name: {**TARGET, "keep": 500}}]), tmp_path / "out", tmp_path / "store")
    (found,) = manifest["stages"]
    assert found["kept"] == 80
    assert found["warnings"] == ["keep asks for 500 rows, but only 80 can be kept"]


@pytest.mark.parametrize("name", ["zipfit", "dsir"])
def test_zero_survivors(tmp_path: Path, name: str) -> None:
    recipe = make(tmp_path, [{"length": {"min_words": 10_000}}, {name: TARGET}, {name: {**TARGET, "keep": 2}}])
    manifest = run_here(recipe, tmp_path / "out", tmp_path / "store")
    assert [stage["kept"] for stage in manifest["stages"]] == [0, 0, 0]
    none_fit = make(tmp_path / "budget", [{name: {**TARGET, "keep": {"tokens": 1}}}])
    (found,) = run_here(none_fit, tmp_path / "out2", tmp_path / "store")["stages"]
    assert found["kept"] == 0
    assert found["warnings"] == ["nothing can be kept: the best row has more than 1 tokens, or none has a text"]


@pytest.mark.parametrize("name", ["zipfit", "dsir"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"target": ["targets/cod.jsonl"]}, r"cod\.jsonl does not exist: .*did you mean 'code.jsonl'"),
        ({"target": ["targets/blank.jsonl"]}, r"blank\.jsonl has no usable record"),
        ({"target": ["targets/void.jsonl"]}, r"void\.jsonl has no usable record"),
        ({"target": "targets/code.jsonl", "on": "txt"}, r"recipe\.yaml:\d+: .*did you mean 'text'"),
        ({"target": ["targets/text.jsonl"], "on": "response"}, r"target .*text\.jsonl has no row with a text"),
        ({"target": []}, r"recipe\.yaml:\d+: .*target"),
        ({"keep": 1.5}, r"recipe\.yaml:\d+: .*keep"),
        ({"keep": {"tokns": 5}}, r"recipe\.yaml:\d+: .*keep"),
    ],
)
def test_recipes_that_cannot_work(tmp_path: Path, name: str, change: dict[str, Any], words: str) -> None:
    recipe = make(tmp_path, [{name: {**TARGET, **change}}])
    write_jsonl(tmp_path / "targets/blank.jsonl", [{"text": ""}, {"text": ""}])
    write_jsonl(tmp_path / "targets/void.jsonl", [])
    write_jsonl(tmp_path / "targets/text.jsonl", [{"text": "a text"}, {"text": "another"}])
    with pytest.raises(RecipeError, match=words):
        run_here(recipe, tmp_path / "out", tmp_path / "store")
    assert not (tmp_path / "out/manifest.json").exists()


def test_level_0_is_refused_with_the_line(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"recipe\.yaml:\d+: stages\.0\.zipfit.*level 0 stores without compressing"):
        load_recipe(make(tmp_path, [{"zipfit": {**TARGET, "level": 0}}]))


def test_a_pool_that_is_the_target(tmp_path: Path) -> None:
    recipe = make(tmp_path, [{"zipfit": {**TARGET, "keep": 6}}], code_rows(12, 100))
    (found,) = run_here(recipe, tmp_path / "out", tmp_path / "store")["stages"]
    assert (found["kept"], found["warnings"]) == (6, [])


def test_a_large_pool_takes_the_cascade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfit_stage, "CASCADE_FROM", 50)
    (found,) = run_here(make(tmp_path, [{"zipfit": TARGET}]), tmp_path / "out", tmp_path / "store")["stages"]
    assert "scored exactly (cascade)" in found["warnings"][0]
