"""`compare`: what leaks nowhere, what every selector gets, what a rerun repeats, and what the parts compute."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from compare_data import code_rows, compare_here, world
from hypothesis import given
from hypothesis import strategies as st
from makes import alpaca_rows, write_jsonl
from pools import MemoryPool, records
from small_models import save_llama

from pipelines.comparing import comparison
from pipelines.comparing.measures import distinct, effective, jaccard
from pipelines.comparing.proxy import Proxy
from pipelines.comparing.selectors import Filling, parse, recipe_stages
from pipelines.comparing.sets import Texts, open_run, read
from pipelines.comparing.training import blocks
from pipelines.files import read_json
from reports.compare_command import budget, named
from schemas.errors import RecipeError
from stages.zipfit.ranking import TokenBudget


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path, dict[str, Any]]:
    """A finished comparison: its document, its folder and its figures."""
    folder = tmp_path_factory.mktemp("compare")
    document = world(folder)
    return document, folder, compare_here(document, folder / "out", folder / "store")


def counting(monkeypatch: pytest.MonkeyPatch, fail_after: int = 10**9) -> list[int]:
    """The seeds of the trainings that are really done; the next one after `fail_after` fails."""
    real: Callable[..., Any] = Proxy.trained
    seeds: list[int] = []

    def trained(self: Proxy, chosen: Texts, seed: int, sets: Any) -> dict[str, float]:
        if len(seeds) == fail_after:
            raise KeyboardInterrupt
        seeds.append(seed)
        return dict(real(self, chosen, seed, sets))

    monkeypatch.setattr(Proxy, "trained", trained)
    return seeds


def test_figures(done: tuple[dict[str, Any], Path, dict[str, Any]]) -> None:
    _, folder, found = done
    assert found["selectors"] == ["random", "zipfit"]
    assert [(one["selector"], one["seed"]) for one in found["trainings"]] == [
        ("random", 0), ("random", 1), ("zipfit", 0), ("zipfit", 1),
    ]  # fmt: skip
    assert [(one["selector"], one["seed"], one["rows"]) for one in found["selections"]] == [
        ("random", 0, 12), ("random", 1, 12), ("zipfit", None, 12),
    ]  # fmt: skip
    for one in found["trainings"]:
        assert set(one["loss"]) == {"code", "words"}
    assert max(one["loss"]["code"] for one in found["trainings"][2:]) < found["model"]["loss"]["code"]  # it learns
    overlap = found["overlap"]["code"]
    assert overlap["zipfit"]["zipfit"] == 1.0
    assert overlap["random"]["zipfit"] == overlap["zipfit"]["random"]
    rows = {one: read(open_run(folder / "out/selections" / one), "text").ids for one in ("random-0", "random-1")}
    assert overlap["random"]["random"] == jaccard(rows["random-0"], rows["random-1"]) < 1.0
    assert read_json(folder / "out/comparison.json") == found


def test_the_halves_of_a_target_share_nothing(done: tuple[dict[str, Any], Path, dict[str, Any]]) -> None:
    _, folder, found = done
    data = folder / "out/sets/code/data"
    seen, held = (
        {row["content_hash"] for row in pq.read_table(path).to_pylist()} for path in map(str, sorted(data.glob("t*")))
    )
    assert not seen & held
    assert len(seen) + len(held) == 24 == found["targets"]["code"]["rows"]


def test_rows_that_repeat_held_out_ones_are_in_no_selection(tmp_path: Path) -> None:
    document = world(tmp_path)
    # The pool is the whole target: selectors may take the half they see, never the other.
    distinct_rows = alpaca_rows(30, seed=3)
    write_jsonl(tmp_path / "code.jsonl", distinct_rows)
    write_jsonl(tmp_path / "rows.jsonl", [*distinct_rows, *code_rows(30)])
    found = compare_here({**document, "seeds": 1}, tmp_path / "out", tmp_path / "store")
    held = {row["prompt"] for row in pq.read_table(next((tmp_path / "out/sets/code/data").glob("test*"))).to_pylist()}
    assert found["pool"]["repeating_held_out"] >= len(held) > 0
    for folder in (tmp_path / "out/selections").iterdir():
        assert not held & {row["prompt"] for row in pq.read_table(folder / "data").to_pylist()}


def test_the_same_again_trains_nothing(
    done: tuple[dict[str, Any], Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    document, folder, found = done
    seeds = counting(monkeypatch)
    assert compare_here(document, folder / "out", folder / "store") == found
    assert seeds == []


def test_one_more_seed_trains_only_that_seed(
    done: tuple[dict[str, Any], Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    document, folder, found = done
    seeds = counting(monkeypatch)
    more = compare_here({**document, "seeds": 3}, folder / "out", folder / "store")
    assert seeds == [2, 2]  # random and zipfit
    assert [one for one in more["trainings"] if one["seed"] < 2] == found["trainings"]
    compare_here({**document, "seeds": 3, "selectors": ["zipfit", "length"]}, folder / "out", folder / "store")
    assert seeds == [2, 2, 0, 1, 2]  # length


def test_what_was_trained_before_a_failure_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = world(tmp_path)
    seeds = counting(monkeypatch, fail_after=3)
    with pytest.raises(KeyboardInterrupt):
        compare_here(document, tmp_path / "out", tmp_path / "store")
    assert seeds == [0, 1, 0]
    monkeypatch.undo()
    seeds = counting(monkeypatch)
    continued = compare_here(document, tmp_path / "out", tmp_path / "store")
    assert seeds == [1]
    whole = compare_here(document, tmp_path / "other", tmp_path / "store2")
    assert continued["trainings"] == whole["trainings"]
    assert continued["model"] == whole["model"]


@pytest.mark.slow
def test_killed_and_run_again(done: tuple[dict[str, Any], Path, dict[str, Any]], tmp_path: Path) -> None:
    document, _, found = done
    pool, target = document["pool"]["rows"], document["targets"]["code"]
    command = [sys.executable, "-m", "cli", "compare", pool, "--target", f"code={target}", "--keep", "12"]
    command += ["--selector", "zipfit", "--seeds", "2", "--other", f"words={document['others']['words']}"]
    command += ["--out", str(tmp_path / "out"), "--store", str(tmp_path / "store"), "--workers", "1"]
    for part in ("student", "train"):
        for key, value in document[part].items():
            command += ["--set", f"{part}.{key}={value}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "out/trainings").glob("*.json")) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out/comparison.json").exists()
    again = subprocess.run([*command, "--json"], env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert '"best"' in again.stdout
    assert read_json(tmp_path / "out/comparison.json")["trainings"] == found["trainings"]
    assert {"comparison.md", "comparison.svg"} <= {path.name for path in (tmp_path / "out").iterdir()}


def test_with_a_model_of_ones_own(tmp_path: Path) -> None:
    folder = save_llama(tmp_path / "model")
    document = {**world(tmp_path), "model": str(folder), "seeds": 1, "selectors": ["ifd"]}
    found = compare_here(document, tmp_path / "out", tmp_path / "store", "train.rate=0.01")
    assert found["model"]["given"] == str(folder)
    assert not (tmp_path / "out/base").exists() or not list((tmp_path / "out/base").glob("*/config.json"))
    losses = [one["loss"]["code"] for one in found["trainings"]]
    assert len(losses) == 2
    assert max(losses) < found["model"]["loss"]["code"]


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out/thesis").mkdir(parents=True)
    with pytest.raises(RecipeError, match="holds something else"):
        compare_here(world(tmp_path), tmp_path / "out", tmp_path / "store")


# What a selector becomes.


def filling(keep: Any) -> Filling:
    return Filling(keep, "text", "base", np.array([2, 9, 4, 5]), np.array([10, 50, 20, 30]))


def stages(name: str, keep: Any = 2) -> list[dict[str, Any]]:
    (selector,) = parse([name])
    return recipe_stages(selector, filling(keep), "target.parquet")


def test_stages_of_selectors() -> None:
    assert stages("random") == [{"sample": {"keep": 2}}]
    assert stages("zipfit", 0.5) == [{"zipfit": {"on": "text", "target": ["target.parquet"], "keep": 0.5}}]
    assert stages("ifd") == [{"ifd": {"model": "base", "keep": 2}}]
    budget = TokenBudget(tokens=10)
    assert stages("random", budget) == [{"sample": {"keep": 2}}]  # two rows of five words on average
    assert stages("dsir", budget)[0]["dsir"]["keep"] == {"tokens": 10}
    assert stages("length") == [{"length": {"min_chars": 30, "on": "text"}}, {"sample": {"keep": 2}}]
    assert stages("length", TokenBudget(tokens=18))[1] == {"sample": {"keep": 3}}  # 9 + 5 + 4 words


def test_which_selectors_look_at_the_target_and_which_draw() -> None:
    found = {item.name: (item.targeted, item.redrawn) for item in parse(["random", "length", "dsir", "zipfit", "quad"])}
    assert found == {
        "random": (False, True), "length": (False, False), "dsir": (True, True), "zipfit": (True, False),
        "quad": (True, False),
    }  # fmt: skip


def test_a_file_of_stages(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("- dedup: {threshold: 0.7}\n- zipfit: {mode: zipfit}\n")
    first, last = stages(str(path))
    assert first["dedup"]["threshold"] == 0.7
    assert last == {"zipfit": {"on": "text", "target": ["target.parquet"], "keep": 2, "mode": "zipfit"}}
    path.write_text("[sample: {seed: 3}, {dedup: {}}]\n")
    assert stages(str(path))[0] == {"sample": {"keep": 2, "seed": 3}}
    assert not parse([str(path)])[0].redrawn
    path.write_text("stages: nothing\n")
    with pytest.raises(RecipeError, match="write a list of stages"):
        stages(str(path))


@pytest.mark.parametrize(
    ("name", "message"), [("zipfti", "did you mean 'zipfit'"), ("clean", "has no budget"), ("dedup", "has no budget")]
)
def test_names_that_select_nothing(name: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse([name])


def test_arguments_that_cannot_be() -> None:
    document = {"pool": {"a": "a"}, "targets": {"t": "t"}, "keep": 5}
    assert comparison(document, ["train.tokens=99", "student.width=32"]).train.tokens == 99
    assert comparison(document, ["student.width=64"]).student.vocabulary == comparison(document).student.vocabulary
    with pytest.raises(RecipeError, match=r"unknown key 'train.token'; did you mean 'tokens'"):
        comparison(document, ["train.token=99"])
    with pytest.raises(RecipeError, match="names a target and another set"):
        comparison({**document, "others": {"t": "t"}})
    with pytest.raises(RecipeError, match="keep"):
        comparison({**document, "keep": 1.5})


def test_inputs_and_budgets_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert named(["a/rows.jsonl.gz", "maths=b/*.jsonl", "s3://x/y.jsonl", "c/d/*"]) == {
        "rows": str(tmp_path / "a/rows.jsonl.gz"), "maths": str(tmp_path / "b/*.jsonl"), "y": "s3://x/y.jsonl",
        "d": str(tmp_path / "c/d/*"),
    }  # fmt: skip
    with pytest.raises(RecipeError, match="two inputs are called 'x'"):
        named(["a/x.jsonl", "b/x.jsonl"])
    assert [budget(0.1, None), budget(1.0, None), budget(500.0, None)] == [0.1, 1, 500]
    assert budget(None, 1e6) == {"tokens": 1e6}
    with pytest.raises(RecipeError, match="either --keep or --tokens"):
        budget(1.0, 1.0)
    with pytest.raises(RecipeError, match="a whole number of rows"):
        budget(1.5, None)


# Training data and measures.


@given(
    st.lists(st.lists(st.integers(10, 99), max_size=12), min_size=1, max_size=8),
    st.integers(16, 200),
    st.integers(4, 16),
)
def test_blocks_hold_as_many_tokens_whatever_the_rows(rows: list[list[int]], tokens: int, window: int) -> None:
    found = blocks(rows, (1, 2), tokens, window, 3)
    assert found.shape == (max(1, tokens // window), window)
    stream = found.ravel().tolist()
    assert np.array_equal(found, blocks(rows, (1, 2), tokens, window, 3))
    one_pass = sum(len(row) + 2 for row in rows)
    if len(stream) >= one_pass:  # every row once before any comes twice
        told: list[list[int]] = []
        for token in stream[:one_pass]:
            told += [[]] if token == 1 else []
            told[-1].append(token)
        assert sorted(told) == sorted([1, *row, 2] for row in rows)


def test_measures() -> None:
    assert jaccard(["a", "b", "c"], ["b", "c", "d"]) == 0.5
    assert jaccard([], []) == 1.0
    assert effective([0, 0, 1, 1, 2, 2]) == pytest.approx(3.0)
    assert effective([7, 7]) == pytest.approx(1.0)
    assert effective([0, 0, 0, 1]) == pytest.approx(np.exp(0.75 * np.log(4 / 3) + 0.25 * np.log(4)))
    texts = read(MemoryPool(records([{"text": "a b c a b c"}, {"text": "  "}, {"text": "x y z"}])), "text")
    assert len(texts.texts) == 2
    assert distinct(texts) == pytest.approx(4 / 5)  # abc bca cab abc; xyz
