"""`quad` in whole runs with real (tiny) models: what is stored, what a kill loses, what new rows and quotas cost."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from makes import run_here, write_jsonl, write_recipe
from pools import MemoryPool, records

from schemas.errors import RecipeError
from stages.quad.setup import READS, Setup
from stages.quad.stage import Quad
from stages.student.builtin import Size

torch = pytest.importorskip("torch")

TINY = {"vocabulary": 320, "width": 16, "layers": 1, "heads": 2, "context": 64, "tokens": 6_000, "epochs": 2}
WORDS = {
    "sums": ["plus", "minus", "times", "seven", "twelve", "equals", "number", "add", "total", "sum"],
    "cook": ["oven", "dough", "butter", "flour", "bake", "recipe", "sugar", "salt", "whisk", "simmer"],
}
KILL = """
import os, signal, sys
import stages.quad.engine as engine

def die(*args, **keys):
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv.pop(1) == "factors":
    estimate = engine.estimate_factors
    engine.estimate_factors = lambda *args, **keys: estimate(*args, **{**keys, "progress": die})
else:
    examine, calls = engine.Examiner.__call__, []
    engine.Examiner.__call__ = lambda self, batch: die() if calls else calls.append(1) or examine(self, batch)
import cli
cli.main()
"""


def texts(count: int, seed: int = 0, topics: tuple[str, ...] = ("sums", "cook")) -> list[dict[str, str]]:
    draw = random.Random(seed)
    return [
        {"text": " ".join(draw.choices(WORDS[topics[k % len(topics)]], k=14)) + f" {seed}-{k}"} for k in range(count)
    ]


def place(folder: Path, rows: list[dict[str, str]], **keys: Any) -> Path:
    """A recipe with one quad stage over `rows`, towards sums."""
    write_jsonl(folder / "rows.jsonl", rows)
    write_jsonl(folder / "target.jsonl", texts(12, seed=99, topics=("sums",)))
    quad = {"target": "target.jsonl", "keep": 20, "clusters": 6, "draws": 3, "arms": 2, "student": TINY, **keys}
    return write_recipe(folder, stages=[{"quad": quad}])


def decisions(out: Path) -> pa.Table:
    return pq.read_table(next((out / "lineage/decisions").glob("*-quad.parquet")))


def stored(store: Path, stage: str) -> int:
    """Rows of scores in the store."""
    files = [path for path in store.glob("scores/*/*.parquet") if path.parent.name.rpartition("-")[0] == stage]
    return sum(pq.read_metadata(path).num_rows for path in files)


def kept(out: Path) -> set[str]:
    table = decisions(out)
    return set(table.filter(table["keep"])["content_hash"].to_pylist())


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run over 90 rows: recipe, out and store in one folder."""
    folder = tmp_path_factory.mktemp("quad")
    run_here(place(folder, texts(90)), folder / "out", folder / "store")
    return folder


def test_a_run_keeps_what_the_quota_says_and_explains_every_row(reference: Path) -> None:
    table = decisions(reference / "out")
    assert table["keep"].to_pylist().count(True) == 20
    asked = stored(reference / "store", "quad-asked")
    assert 18 <= asked < 90
    scored = [row for row in table.to_pylist() if row["score"] is not None]
    assert len(scored) == asked
    for row in table.to_pylist():
        detail = json.loads(row["detail"])
        assert ("influences" in detail) == (row["score"] is not None)
        assert row["keep"] == row["reason"].startswith("kept")
    assert not list((reference / "store").glob("**/scratch"))


def test_influence_favours_the_target(reference: Path) -> None:
    out = reference / "full"
    run_here(place(reference, texts(90), policy="full"), out, reference / "store")
    table = decisions(out)
    assert stored(reference / "store", "quad-asked") == 90
    source = pq.read_table(next((out / "data").glob("*.parquet")))["text"].to_pylist()
    about = sum(any(word in text for word in WORDS["sums"]) for text in source)
    assert about >= 15
    assert len({row["score"] for row in table.to_pylist()}) > 80


@pytest.mark.parametrize("keys", [{"policy": "full", "keep": 33}, {"policy": "positive_random"}, {"keep": 0.5}])
def test_another_quota_or_policy_scores_nothing_again(reference: Path, keys: dict[str, Any]) -> None:
    run_here(place(reference, texts(90), policy="full"), reference / "full", reference / "store")
    before = stored(reference / "store", "quad-asked")
    run_here(place(reference, texts(90), **keys), reference / f"other-{keys.get('policy')}", reference / "store")
    assert stored(reference / "store", "quad-asked") == before == 90


@pytest.mark.parametrize("moment", ["factors", "scoring"])
def test_killed_and_run_again(moment: str, reference: Path, tmp_path: Path) -> None:
    recipe = place(tmp_path, texts(90))
    command = [sys.executable, "-c", KILL, moment, "run", str(recipe), "--out", str(tmp_path / "out"), "--workers", "1"]
    environment = {**os.environ, "CURATRIX_STORE": str(tmp_path / "store")}
    found = subprocess.run(command, env=environment, capture_output=True, timeout=250, cwd=Path(__file__).parents[1])
    assert found.returncode == -signal.SIGKILL, found.stderr.decode()[-2000:]
    asked = stored(tmp_path / "store", "quad-asked")
    assert (asked > 0) == (moment == "scoring")
    assert bool(list((tmp_path / "store").glob("**/student.safetensors"))) == (moment == "factors")
    run_here(recipe, tmp_path / "out", tmp_path / "store")
    assert decisions(tmp_path / "out").equals(decisions(reference / "out"))
    assert stored(tmp_path / "store", "quad-asked") == len(
        [row for row in decisions(reference / "out")["score"].to_pylist() if row is not None]
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model in a folder."""
    from stages.student import builtin

    folder = tmp_path_factory.mktemp("model")
    student = builtin.from_state(builtin.fit(MemoryPool(records(texts(60))), Size(**TINY)))
    student.model.save_pretrained(folder)
    student.tokenizer.save_pretrained(folder)
    return folder


def test_new_rows_cost_only_themselves_with_a_model(model: Path, tmp_path: Path) -> None:
    old, new = texts(100), texts(2, seed=5)
    run_here(place(tmp_path, old, model=str(model), policy="full"), tmp_path / "a", tmp_path / "store")
    assert stored(tmp_path / "store", "quad-asked") == 100
    manifest = run_here(place(tmp_path, old + new, model=str(model), policy="full"), tmp_path / "b", tmp_path / "store")
    assert stored(tmp_path / "store", "quad-asked") == 102
    assert stored(tmp_path / "store", "quad") == 102
    assert manifest["stages"][0]["counters"]["scored"] == 2


def test_influence_does_not_depend_on_the_batch(model: Path) -> None:
    from stages.quad import engine
    from stages.student.models import load

    setup = Setup(str(model), Size(), "all", "ekfac", 0.1, "text", "auto", 0)
    inputs = {"a": MemoryPool(records(texts(6, 7))), "b": MemoryPool(records(texts(6, 8)))}
    state = engine.fit(setup, MemoryPool(records([])), inputs, {"a": "a.jsonl", "b": "b.jsonl"})  # type: ignore[arg-type]
    examine = engine.Examiner(setup, state)
    rows = [*texts(7), {"text": " ".join(WORDS["cook"] * 40)}, {"text": "x"}, {"text": ""}]
    batch = records(rows).select(list(READS)).combine_chunks().to_batches()[0]
    whole = examine(batch).to_pylist()
    single = [examine(batch.slice(row, 1)).to_pylist()[0] for row in range(len(rows))]
    assert [row["problem"] for row in whole] == [row["problem"] for row in single]
    size = len(load(str(model)).tokenizer(rows[7]["text"])["input_ids"])
    assert [row["lost"] for row in whole] == [0] * 7 + [size - TINY["context"], 0, 0]
    assert [row["target_cuts"] for row in whole] == [[6, 0, 0, 6, 0, 0]] * 10
    assert whole[-1]["problem"] == "too short: no token counts"
    assert whole[-1]["influences"] is None
    for one, other in zip(whole[:8], single[:8], strict=True):
        assert len(one["influences"]) == 2
        np.testing.assert_allclose(one["influences"], other["influences"], rtol=1e-3)


def test_a_target_of_which_nothing_counts_is_refused(model: Path) -> None:
    from stages.quad import engine

    pool = MemoryPool(records(texts(4)))
    for rows, counts, why in (
        ([{"text": ""}], "auto", "none of its rows has a text that counts"),
        ([{"text": "no response here"}], "response", "none of its rows has a text that counts"),
        (
            [{"kind": "sft", "prompt": "oven dough " * 200, "completion": "salt"}],
            "response",
            "ends before anything that counts",
        ),
    ):
        setup = Setup(str(model), Size(), "all", "identity", 0.1, "text", counts, 0)  # type: ignore[arg-type]
        with pytest.raises(RecipeError, match=why):
            engine.fit(setup, pool, {"t": MemoryPool(records(rows))}, {"t": "t.jsonl"})  # type: ignore[arg-type]


def test_digits_are_significant_ones() -> None:
    from stages.quad.engine import rounded

    values = np.array([123456.789, -0.000123456789, 0.0, np.nan, np.inf])
    np.testing.assert_array_equal(rounded(values), [123457.0, -0.000123457, 0.0, np.nan, np.inf])


def test_the_estimate_reads_the_models_own_size(model: Path) -> None:
    made = Quad(target=("t",), keep=5, model=str(model))
    told = made.estimate(records(texts(20)), 1_000)
    size = sum(
        one.numel()
        for one in __import__("stages.student.models", fromlist=["load"]).load(str(model)).model.parameters()
    )
    assert abs(int(told["model"].split()[0].replace(",", "")) - size) < 0.25 * size
