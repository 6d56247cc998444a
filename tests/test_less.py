"""`less`: warm-up, Adam's moments, cosines with each target, the top within the quota."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pools import MemoryPool, records
from pydantic import ValidationError
from small_models import ScratchPool

from schemas.errors import RecipeError
from stages.less.stage import Less

torch = pytest.importorskip("torch")

TINY = {"vocabulary": 300, "width": 16, "layers": 1, "heads": 2, "context": 64, "tokens": 4_000}
TOPICS = {
    "sums": ["plus", "minus", "times", "seven", "twelve", "equals", "number", "total"],
    "cook": ["oven", "dough", "butter", "flour", "bake", "sugar", "salt", "whisk"],
}


def texts(count: int, seed: int = 0, topics: tuple[str, ...] = ("sums", "cook")) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    return [
        {"text": " ".join(draw.choices(TOPICS[topics[k % len(topics)]], k=16)) + f" {seed} {k}"} for k in range(count)
    ]


def stage(**keys: Any) -> Less:
    return Less(
        **{
            "target": "t",
            "keep": 10,
            "student": TINY,
            "warm_up": 0.5,
            "epochs": 2,
            "rate": 1e-3,
            "dimensions": 512,
            **keys,
        }
    )


def scored(made: Less, rows: list[dict[str, Any]], targets: list[list[dict[str, Any]]], tmp: Path) -> MemoryPool:
    table = records(rows)
    inputs = {f"target{n}": MemoryPool(records(part)) for n, part in enumerate(targets)}
    state = made.fit(MemoryPool(table), inputs)
    batches = (part.select(list(made.reads)) for part in table.to_batches(max_chunksize=16))
    return MemoryPool(table, pa.Table.from_batches(list(made.stream(batches, state, tmp))))


def test_targets_take_no_weights() -> None:
    with pytest.raises(ValidationError, match="highest over the targets, which takes no weights"):
        stage(target=[{"path": "t", "weight": 3}, "other"])


def test_rows_like_the_target_come_first(tmp_path: Path) -> None:
    rows = [*texts(40), {"text": ""}]
    pool = scored(stage(), rows, [texts(12, 9, ("sums",))], tmp_path)
    found = stage().decide(pool)
    assert found.keep.sum() == 10
    about = ["sums" if any(word in row["text"] for word in TOPICS["sums"]) else "cook" for row in rows]
    assert sum(about[row] == "sums" for row in np.flatnonzero(found.keep)) >= 9
    assert found.reason[-1] == "no gradient; too short: no token counts"
    values = pool.table(["less"])["less"].to_pylist()
    assert all(-1 <= value <= 1 for value in values[:-1])


def test_the_best_subtask_counts(tmp_path: Path) -> None:
    made = stage(target=["a", "b"])
    pool = scored(made, texts(20), [texts(8, 5, ("sums",)), texts(8, 6, ("cook",))], tmp_path)
    table = pool.table(["less", "cosines"])
    for best, each in zip(table["less"].to_pylist(), table["cosines"].to_pylist(), strict=True):
        assert best == max(each)
    first = np.array([each[0] > each[1] for each in table["cosines"].to_pylist()])
    assert first[::2].mean() > 0.8
    assert first[1::2].mean() < 0.2


def test_cosines_against_autograd(tmp_path: Path) -> None:
    """One projected row against Adam's rule written out: the cosine is that of the projected update and gradient."""
    from stages.influence import find_layers
    from stages.influence.projection import Projection
    from stages.less.engine import Scorer, cosines
    from stages.quad.reading import read_batch
    from stages.quad.setup import READS

    made = stage(dimensions=64)
    table = records(texts(10))
    state = made.fit(MemoryPool(table), {"target0": MemoryPool(records(texts(4, 3)))})
    scorer = Scorer(made._setup(), made._lesson(), state)
    batch = table.select(list(READS)).combine_chunks().to_batches()[0].slice(0, 1)
    rows = read_batch(batch, scorer._student, "text", "auto")
    model, layers, projection = scorer._model, find_layers(scorer._model, "all"), Projection(64, 0)
    ids = torch.from_numpy(rows.ids[0])[None]
    model.zero_grad()
    model(input_ids=ids, labels=ids).loss.backward()
    gradients = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
    total, t = torch.zeros(1, 64), int(state["step"])
    for block in layers:
        g = torch.cat([gradients[f"{member}.weight"] for member in block.members])
        first, second = (torch.from_numpy(state[f"{kind}.{block.name}"]) for kind in ("first", "second"))
        up = (0.9 * first + 0.1 * g) / (1 - 0.9 ** (t + 1))
        down = ((0.999 * second + 0.001 * g**2) / (1 - 0.999 ** (t + 1))).sqrt() + 1e-8
        total = total + projection.gradients(block, (up / down)[None])
    expected = cosines(total.double().numpy(), state["targets"])
    assert scorer(batch)["cosines"].to_pylist()[0] == pytest.approx(expected[0].tolist(), abs=1e-4)


def test_an_adapter_is_trained_where_asked_for(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    made = stage(lora=2)
    table = records(texts(12))
    state = made.fit(MemoryPool(table), {"target0": MemoryPool(records(texts(4, 3)))})
    names = [name for name in state if name.startswith("weights.")]
    assert names
    assert all("lora_" in name for name in names)
    batch = table.select(list(made.reads)).combine_chunks().to_batches()[0]
    found = next(made.stream(iter([batch]), state, tmp_path))
    assert found["less"].null_count == 0


def test_the_warm_up_continues_after_a_kill(tmp_path: Path) -> None:
    from stages.less.warmup import prepared, warm_up
    from stages.quad.reading import read_pool
    from stages.student import builtin
    from stages.student.builtin import Size

    pool = MemoryPool(records(texts(24)))
    student = builtin.from_state(builtin.fit(pool, Size(**TINY)))
    rows = read_pool(pool, student, "text", "auto")

    def trained(folder: Path) -> dict[str, Any]:
        model = prepared(student.model, 0, 0)
        warm_up(model, rows, 3, 1e-3, 0, ScratchPool(records([]), folder))
        return dict(model.named_parameters())

    whole = trained(tmp_path / "whole")

    class Kill(Exception):
        pass

    import stages.less.warmup as module

    step, calls = module._step, []

    def dies(*args: Any) -> None:
        if len(calls) == 2:
            raise Kill
        calls.append(1)
        step(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_step", dies)
        with pytest.raises(Kill):
            trained(tmp_path / "killed")
    assert (tmp_path / "killed/warm-up.safetensors").is_file()
    again = trained(tmp_path / "killed")
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_a_target_without_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="nothing to score"):
        scored(stage(), texts(10), [[{"text": ""}]], tmp_path)


def test_what_the_context_cuts_is_told(tmp_path: Path) -> None:
    made, words = stage(target=["a.jsonl", "b.jsonl"], student={**TINY, "context": 160}), " ".join(TOPICS["sums"] * 50)
    pool = scored(made, [*texts(10), {"text": words}], [texts(3, 5), [{"text": words}, {"text": words}]], tmp_path)
    (each,) = {lost for lost in pool.table(["lost"])["lost"].to_pylist() if lost}
    found = made.decide(pool).warnings
    longer = "are longer than the model's context; the"
    assert f"1 scored rows {longer} {each} tokens after it are not looked at" in found
    assert f"2 of 2 rows of target b.jsonl {longer} {2 * each} tokens after it are not looked at" in found
    assert len([note for note in found if "context" in note]) == 2
    assert each == 400 - 160  # every word has become a token


def test_decision_parameters_rescore_nothing() -> None:
    assert stage(keep=0.5).scoring() == stage().scoring()
    assert stage(epochs=3).scoring() != stage().scoring()
    assert stage().fits_on() == "pool"


def test_a_whole_run(tmp_path: Path) -> None:
    from makes import run_here, write_jsonl, write_recipe

    write_jsonl(tmp_path / "rows.jsonl", texts(40))
    write_jsonl(tmp_path / "t.jsonl", texts(8, 9, ("sums",)))
    less = {"target": "t.jsonl", "keep": 10, "student": TINY, "warm_up": 0.5, "epochs": 1, "dimensions": 256}
    manifest = run_here(write_recipe(tmp_path, stages=[{"less": less}]), tmp_path / "out", tmp_path / "store")
    assert manifest["stages"][0]["kept"] == 10
    again = write_recipe(tmp_path, stages=[{"less": {**less, "keep": 0.5}}])
    manifest = run_here(again, tmp_path / "again", tmp_path / "store")
    assert (manifest["stages"][0]["kept"], manifest["stages"][0]["counters"]["scored"]) == (20, 0)
