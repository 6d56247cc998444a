"""`adapt`: selectors by entropy, skills in turn, what is pruned for good and stays out."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import MemoryPool, records
from pydantic import ValidationError

from schemas.errors import RecipeError
from stages.adapt.decision import Plan, decide
from stages.adapt.memory import decision_files, pruned
from stages.adapt.selection import BINS, choose, entropy, in_turn, prune, redundancy
from stages.adapt.stage import Adapt
from stages.quad.clustering import Grouping

NONE = pa.array([], pa.string())


def groups(*sizes: int) -> Grouping:
    label = np.repeat(np.arange(len(sizes)), sizes)
    return Grouping(label, np.eye(len(sizes)), tuple(np.flatnonzero(label == arm) for arm in range(len(sizes))))


def test_entropy_of_known_distributions() -> None:
    assert entropy(np.arange(BINS) + 0.5, 0, BINS) == pytest.approx(np.log(BINS))
    assert entropy(np.full(9, 3.0), 0, BINS) == 0
    assert entropy(np.array([1.0, 1.0, 9.0, 9.0]), 0, 10) == pytest.approx(np.log(2))
    assert entropy(np.array([-99.0, 99.0]), 0, 10) == pytest.approx(np.log(2))
    assert entropy(np.empty(0), 0, 1) == entropy(np.ones(3), 1, 1) == 0


def test_each_skill_gets_the_selector_that_tells_its_rows_apart() -> None:
    flat, wide = np.full(20, 0.5), np.linspace(0, 1, 20)
    selectors = {"loss": np.concatenate([flat, wide]), "el2n": np.concatenate([wide, flat])}
    found = choose(groups(20, 20), selectors, np.arange(40).astype(np.uint64))
    assert found.selector.tolist() == [1, 0]
    assert found.entropy == pytest.approx([np.log(20)] * 2, abs=0.2)
    assert found.rank[:20].tolist() == found.rank[20:].tolist() == list(range(19, -1, -1))


def test_a_selector_that_rows_lack_does_not_stand_for_them() -> None:
    ifd = np.where(np.arange(20) < 10, np.nan, np.linspace(0, 1, 20))
    found = choose(groups(20), {"ifd": ifd, "loss": np.arange(20) // 19.0}, np.zeros(20, np.uint64))
    assert found.selector.tolist() == [1]


def test_skills_take_turns() -> None:
    ties = np.arange(12).astype(np.uint64)
    made = groups(9, 3)
    found = choose(made, {"loss": np.concatenate([np.linspace(0, 1, 9), [5.0, 4.0, np.nan]])}, ties)
    equal = in_turn(made, found, "equal", ties)
    assert equal.tolist() == [8, 9, 7, 10, 6, 5, 4, 3, 2, 1, 0]
    share = in_turn(made, found, "proportional", ties)
    assert Counter(made.label[share[:4]].tolist()) == {0: 3, 1: 1}


def test_only_the_worse_of_two_twins_is_redundant() -> None:
    vectors = np.array([[1, 0], [1, 0], [0, 1], [0.6, 0.8]], np.float16)
    found = redundancy(vectors, groups(4), np.array([1, 0, 2, 3]))
    assert np.isnan(found.cosine[1])
    assert found.cosine.tolist()[0] == pytest.approx(1, abs=1e-3)
    assert found.nearest.tolist() == [1, -1, 1, 2]
    assert found.cosine[3] == pytest.approx(0.8, abs=1e-3)
    assert prune(found, np.ones(4, np.bool_), 2, np.zeros(4, np.uint64)).tolist() == [0, 3]
    assert prune(found, np.array([False, True, True, True]), 9, np.zeros(4, np.uint64)).tolist() == [3, 2]
    assert prune(found, np.ones(4, np.bool_), -3, np.zeros(4, np.uint64)).tolist() == []


def scored(count: int, seed: int = 0) -> MemoryPool:
    """A pool with vectors around three skills, twins among them, and scores of two selectors."""
    rng = np.random.default_rng(seed)
    spots = np.eye(3, 8)
    vectors = spots[np.arange(count) % 3] + rng.normal(0, 0.1, (count, 8))
    vectors[count // 2 :] = vectors[: count - count // 2]  # every row has a twin
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    missing = np.zeros(count, np.bool_)
    missing[-1:] = count > 3
    flat = pa.array(vectors.astype(np.float16).ravel())
    table = pa.table(
        {
            "vector": pa.FixedSizeListArray.from_arrays(flat, 8, mask=pa.array(missing)),
            "loss": pa.array(rng.uniform(1, 3, count), mask=missing),
            "el2n": pa.array(rng.uniform(0, 1, count), mask=missing),
            "n_tokens": pa.array(np.full(count, 5), pa.int32()),
            "problem": pa.array(["too short: no token counts" if flag else None for flag in missing], pa.string()),
            "lost": pa.array(np.arange(count) % 4 // 3 * 5),
            "target_cuts": pa.array([[8, 1, 300]] * count, pa.list_(pa.int64())),
        }
    )
    return MemoryPool(records([{"text": f"row {seed} {n}"} for n in range(count)]), table)


def plan(**keys: Any) -> Plan:
    return Plan(
        **{
            "keep": 9,
            "selectors": ("loss", "el2n"),
            "skills": 3,
            "share": "equal",
            "pool_rows": None,
            "seed": 0,
            "targets": ("some/t.jsonl",),
            **keys,
        }
    )


def test_skills_share_the_quota_and_say_why() -> None:
    found = decide(scored(60), plan(), NONE)
    assert found.keep.sum() == 9
    assert found.detail is not None
    details = [json.loads(text) if text else None for text in found.detail]
    assert Counter(detail["skill"] for row, detail in enumerate(details) if detail and found.keep[row]) == {
        0: 3,
        1: 3,
        2: 3,
    }
    assert found.reason[-1] == "no gradient; too short: no token counts"
    assert details[-1] is None
    longer = "are longer than the model's context; the"
    assert f"15 scored rows {longer} 75 tokens after it are not looked at" in found.warnings
    assert f"1 of 8 rows of target t.jsonl {longer} 300 tokens after it are not looked at" in found.warnings
    for row, reason in enumerate(found.reason[:-1]):
        detail = details[row]
        assert detail is not None
        assert f"; {detail['selector']} " in reason
        assert reason.startswith("kept" if found.keep[row] else "not this time")


def test_the_pool_is_pruned_to_size_and_stays_so(tmp_path: Path) -> None:
    pool = scored(60)
    found = decide(pool, plan(pool_rows=40), NONE)
    gone = np.array([reason.startswith("pruned") for reason in found.reason])
    assert gone.sum() == 19  # 59 rows have a vector
    assert not (gone & found.keep).any()
    assert found.related is not None
    assert (found.related[gone] >= 0).all()
    assert (found.related[~gone] == -1).all()
    folder = tmp_path / "run/lineage/decisions"
    folder.mkdir(parents=True)
    hashes = pool.records["content_hash"]
    for name, stage in (("01-adapt", "adapt"), ("02-dedup", "dedup")):
        pq.write_table(
            pa.table({"stage": [stage] * 60, "reason": list(found.reason), "content_hash": hashes}),
            folder / f"{name}.parquet",
        )
    known = pruned([str(tmp_path / "run")], "adapt")
    assert set(known.to_pylist()) == set(hashes.filter(pa.array(gone)).to_pylist())
    again = decide(pool, plan(pool_rows=40), known)
    assert [reason for reason, flag in zip(again.reason, gone, strict=True) if flag] == [
        "pruned by an earlier run"
    ] * 19
    assert not again.keep[gone].any()
    assert not any(str(reason).startswith("pruned:") for reason in again.reason)
    assert any("19 rows were pruned by earlier runs" in note for note in again.warnings)


def test_a_memory_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="not the output of a run"):
        decision_files(str(tmp_path))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 40),
    st.integers(1, 30),
    st.integers(1, 40),
    st.sampled_from(["equal", "proportional"]),
    st.integers(0, 3),
)
def test_whatever_the_pool(count: int, keep: int, size: int, share: str, seed: int) -> None:
    pool = scored(count, seed)
    chosen = plan(keep=keep, pool_rows=size, share=share)
    found = decide(pool, chosen, NONE)
    usable = count - (count > 3)
    gone = sum(str(reason).startswith("pruned") for reason in found.reason)
    assert found.keep.sum() == min(keep, usable)
    assert gone <= max(0, usable - size)
    order = np.random.default_rng(seed).permutation(count)
    assert pool._scores is not None
    moved = MemoryPool(pool.records.take(pa.array(order)), pool._scores.take(pa.array(order)), 7)
    other = decide(moved, chosen, NONE)
    assert other.keep.tolist() == found.keep[order].tolist()
    assert [str(reason).partition(";")[0] for reason in other.reason] == [
        str(found.reason[row]).partition(";")[0] for row in order
    ]


@pytest.mark.parametrize(
    "keys", [{"selectors": ["influence"]}, {"selectors": ["loss", "loss"]}, {"selectors": []}, {"selectors": ["best"]}]
)
def test_wrong_parameters_are_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Adapt(keep=1, **keys)


def test_what_is_fitted_on() -> None:
    assert Adapt(keep=1).fits_on() == "pool"
    assert Adapt(keep=1, model="m").fits_on() == "nothing"
    assert Adapt(keep=1, model="m", target="t").fits_on() == "inputs"
    assert Adapt(keep=1, memory=["run"], skills=4).scoring() == Adapt(keep=7).scoring()


def test_scores_by_a_real_model(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    draw = random.Random(0)
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]
    rows: list[dict[str, Any]] = [{"text": " ".join(draw.choices(words, k=10))} for _ in range(12)]
    rows += [{"kind": "sft", "prompt": f"Say {w}", "completion": " ".join([w] * 5)} for w in words] + [{"text": ""}]
    tiny = {"vocabulary": 300, "width": 16, "layers": 1, "heads": 2, "context": 64, "tokens": 3_000}
    made = Adapt(
        keep=6,
        student=tiny,
        dimensions=16,
        target="t",
        selectors=("loss", "el2n", "influence", "ifd", "gradient_norm"),
        skills=3,
    )
    table = records(rows)
    pool = MemoryPool(table)
    state = made.fit(pool, {"target0": MemoryPool(records(rows[12:16]))})
    batches = [part.select(list(made.reads)) for part in table.to_batches(max_chunksize=7)]
    found = pa.Table.from_batches(list(made.stream(iter(batches), state, tmp_path)))
    assert found["problem"].to_pylist() == [None] * 20 + ["too short: no token counts"]
    assert found["ifd"].null_count == 13  # rows without a response
    assert found["vector"].null_count == found["loss"].null_count == found["influence"].null_count == 1
    assert all(0 < value < 2**0.5 for value in found["el2n"].to_pylist()[:20])
    vectors = np.array(found["vector"].to_pylist()[:20], np.float64)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=2e-3)
    alone = pa.Table.from_batches(list(made.stream(iter([batches[2].slice(1, 1)]), state, tmp_path)))
    for name in ("loss", "gradient_norm", "influence", "ifd"):
        assert alone[name][0].as_py() == pytest.approx(found[name][15].as_py(), rel=1e-3)
    decisions = made.decide(MemoryPool(table, found))
    assert decisions.keep.sum() == 6
    del torch


def test_pruned_rows_stay_out_of_the_next_run(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from makes import run_here, write_jsonl, write_recipe

    from stages.student import builtin
    from stages.student.builtin import Size

    draw = random.Random(1)
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]
    texts = [" ".join(draw.choices(words, k=10)) + f" {n}" for n in range(30)]
    tiny = Size(vocabulary=300, width=16, layers=1, heads=2, context=64, tokens=3_000)
    student = builtin.from_state(builtin.fit(MemoryPool(records([{"text": text} for text in texts])), tiny))
    student.model.save_pretrained(tmp_path / "model")
    student.tokenizer.save_pretrained(tmp_path / "model")
    adapt = {"keep": 8, "model": "model", "dimensions": 16, "skills": 3, "selectors": ["loss", "el2n"], "pool_rows": 20}
    write_jsonl(tmp_path / "rows.jsonl", [{"text": text} for text in texts])
    first = run_here(write_recipe(tmp_path, stages=[{"adapt": adapt}]), tmp_path / "first", tmp_path / "store")
    assert first["stages"][0]["counters"]["scored"] == 30
    more = [{"text": text} for text in [*texts, "something new under the sun", "and another one of them"]]
    write_jsonl(tmp_path / "rows.jsonl", more)
    recipe = write_recipe(tmp_path, stages=[{"adapt": {**adapt, "memory": ["first"]}}])
    second = run_here(recipe, tmp_path / "second", tmp_path / "store")
    assert second["stages"][0]["counters"]["scored"] == 2
    before, after = (_decisions(tmp_path / name) for name in ("first", "second"))
    gone = {row["content_hash"] for row in before if row["reason"].startswith("pruned")}
    assert len(gone) == 10
    assert {row["content_hash"] for row in after if row["reason"] == "pruned by an earlier run"} == gone
    assert sum(row["reason"].startswith("pruned: redundant") for row in after) == 2  # 22 rows are left for 20 places


def _decisions(out: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(next((out / "lineage/decisions").glob("*-adapt.parquet"))).to_pylist()
    return found
