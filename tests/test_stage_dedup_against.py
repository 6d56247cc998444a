"""`dedup` against earlier releases, its measures of similarity, and which text it compares."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from makes import alpaca_rows, run_here, write_jsonl, write_recipe
from pools import MemoryPool, records, run, score

from reports.story import story
from stages.contract import Decisions, Scores
from stages.dedup import Dedup
from stages.dedup.lazy import LazyStrings

EVERY_PAIR = {"bands": 128, "rows": 1}


class Compared(MemoryPool):
    """A scored pool that also hands out the records of earlier releases."""

    def __init__(self, pool: MemoryPool, scores: pa.Table, earlier: MemoryPool) -> None:
        super().__init__(pool.records, scores, pool.batch_size)
        self._earlier = earlier

    @property
    def inputs(self) -> Mapping[str, Scores]:
        return {"against": self._earlier}  # type: ignore[dict-item]


def words(start: int, stop: int) -> str:
    return " ".join(f"w{k}" for k in range(start, stop))


def run_against(stage: Dedup, earlier: pa.Table, new: pa.Table, scores: Mapping[str, pa.Array] | None = None) -> Any:
    """Decisions about `new`, and how many texts of `earlier` were read for them."""
    old, pool = score(stage, earlier), score(stage, new, earlier=scores)
    assert pool._scores is not None
    decisions = stage.decide(Compared(pool, pool._scores, old))
    for column in (decisions.keep, decisions.reason, decisions.score, decisions.related):
        assert column is not None
        assert len(column) == new.num_rows
    return decisions, old.fetched


def texts(*values: str | None, **extra: Sequence[Any]) -> pa.Table:
    rows = [{"text": value} for value in values]
    return records([{**row, **{name: extra[name][k] for name in extra}} for k, row in enumerate(rows)])


def reasons(decisions: Decisions) -> list[str | None]:
    assert isinstance(decisions.reason, LazyStrings)
    return list(decisions.reason.to_pylist())


OLD = ("aa" * 16, "bb" * 16, "cc" * 16)


def test_a_copy_of_an_earlier_release_names_its_record() -> None:
    earlier = texts(words(0, 100), words(200, 300), words(400, 500), record_id=OLD)
    new = texts(words(200, 300), words(0, 99) + " x", words(600, 700), words(600, 699) + " y")
    decisions, _ = run_against(Dedup(against=("release",)), earlier, new)
    assert reasons(decisions) == [
        "duplicate: exact of an earlier release",
        "duplicate: near of an earlier release",
        "kept: survivor of 2",
        "duplicate: near",
    ]
    assert decisions.keep.tolist() == [False, False, True, False]
    assert decisions.related_id.to_pylist() == [OLD[1], OLD[0], None, None]
    assert decisions.related.tolist() == [-1, -1, -1, 2]
    assert decisions.score[1] == 95 / 97
    detail = json.loads(decisions.detail[1])
    assert detail == {"cluster": OLD[0], "size": 2, "similarity": round(95 / 97, 6), "kind": "near"}
    assert decisions.warnings == ()


@pytest.mark.parametrize(
    "rule",
    [
        {"keep": "longest"},
        {"keep": "newest"},
        {"keep": "best(judge.score)"},
        {"keep": "source_priority", "priority": ["new", "s"]},
    ],
)
def test_earlier_records_survive_whatever_the_rule(rule: dict[str, Any]) -> None:
    earlier = texts(words(0, 98), words(0, 97), record_id=OLD[:2])
    new = texts(words(0, 100), words(0, 98), source=["new", "new"])
    stage = Dedup.model_validate({**rule, "against": ["x"], **EVERY_PAIR})
    decisions, _ = run_against(stage, earlier, new, {"judge.score": pa.array([9.0, 9.0])})
    assert not decisions.keep.any()
    assert decisions.related_id.to_pylist() == [OLD[0], OLD[0]]


def test_earlier_records_are_not_compared_with_each_other() -> None:
    earlier = texts(*(f"{words(0, 100)} {k}" for k in range(500)))
    decisions, read = run_against(Dedup(against=("x",)), earlier, texts(words(1000, 1100)))
    assert decisions.keep.all()
    assert read == 0


def test_no_earlier_record_at_all() -> None:
    decisions, _ = run_against(Dedup(against=("x",)), texts(), texts("a", "A", None))
    assert decisions.keep.tolist() == [True, False, True]


def test_a_kept_row_names_the_most_similar_kept_row_it_was_compared_with() -> None:
    earlier = texts(words(0, 70) + " " + words(500, 530), record_id=OLD[:1])
    new = texts(words(0, 70) + " " + words(600, 640), words(1000, 1100), words(1000, 1070) + words(1200, 1220))
    decisions, _ = run_against(Dedup(against=("x",), **EVERY_PAIR), earlier, new)
    assert decisions.keep.all()
    nearest = [json.loads(text)["nearest"] if text else None for text in decisions.detail.to_pylist()]
    assert nearest == [OLD[0], f"{2:032x}", f"{1:032x}"]
    assert 0.3 < decisions.score[0] < 0.8
    assert decisions.score[1] == decisions.score[2]


def test_changing_what_to_compare_with_scores_nothing_anew() -> None:
    assert Dedup(against=("a", "b")).scoring() == Dedup().scoring()
    assert Dedup(against=("a", "b")).sources() == {"against": ("a",), "against-2": ("b",)}
    assert Dedup().sources() == {}


def entry(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return next(stage for stage in manifest["stages"] if stage["stage"] == "dedup")


def test_a_release_against_the_one_before_costs_the_new_rows_only(tmp_path: Path) -> None:
    january, february = alpaca_rows(300), alpaca_rows(40, seed=1)
    edited = {**january[7], "output": january[7]["output"] + " indeed"}
    write_jsonl(tmp_path / "rows.jsonl", january)
    store = tmp_path / "store"
    run_here(write_recipe(tmp_path, stages=["dedup"]), tmp_path / "january", store)
    write_jsonl(tmp_path / "rows.jsonl", [*february, january[3], edited, february[0]])
    recipe = write_recipe(tmp_path, stages=[{"dedup": {"against": ["january"]}}])
    manifest = run_here(recipe, tmp_path / "february", store)
    assert entry(manifest)["reasons"] == {
        "duplicate: exact": 1,
        "duplicate: exact of an earlier release": 1,
        "duplicate: near of an earlier release": 1,
    }
    assert entry(manifest)["counters"]["scored"] == 41  # the others were scored in January
    assert manifest["splits"] == {"train": 40}
    decisions = pq.read_table(tmp_path / "february/lineage/decisions").to_pylist()
    dropped = [row for row in decisions if row["reason"].endswith("earlier release")]
    twins = {row["related_id"] for row in dropped}
    assert len(twins) == 2
    january_ids = pq.read_table(tmp_path / "january/data", columns=["record_id"])["record_id"].to_pylist()
    assert twins <= set(january_ids)  # so that the earlier run can be asked about them
    for twin in twins:
        assert story(tmp_path / "january", twin).record_id == twin
    clusters = {json.loads(row["detail"])["cluster"] for row in dropped}
    assert clusters == twins
    again = run_here(recipe, tmp_path / "march", store, ["stages.dedup.threshold=0.9"])
    assert entry(again)["counters"]["scored"] == 0


# --- similarity and texts -------------------------------------------------------------------------------------------


def test_containment_drops_an_excerpt_and_never_the_whole() -> None:
    whole, excerpt = words(0, 200), words(50, 150)
    table = texts(excerpt, whole)
    assert run(Dedup(), table).keep.all()
    decisions = run(Dedup(similarity="containment"), table)
    assert decisions.keep.tolist() == [False, True]
    assert decisions.score is not None
    assert decisions.score[0] == 1.0
    assert run(Dedup(similarity="containment", keep="first"), table).keep.all()


def test_newest_keeps_the_last_row() -> None:
    assert run(Dedup(keep="newest"), texts("a b", "A b", "a  b")).keep.tolist() == [False, False, True]
    near = texts(words(0, 100), words(0, 99) + " x", words(0, 98) + " y z")
    assert run(Dedup(keep="newest", **EVERY_PAIR), near).keep.tolist() == [False, False, True]


def test_each_kind_is_compared_by_its_own_text() -> None:
    rows = [
        {"kind": "code", "prompt": "add", "completion": "one"},
        {"kind": "code", "prompt": "add", "completion": "two"},
        {"kind": "sft", "prompt": "first", "completion": "same"},
        {"kind": "sft", "prompt": "second", "completion": "same"},
        {"kind": "text", "text": "same"},
        {"kind": "text", "text": "other"},
    ]
    stage = Dedup.model_validate({"mode": "exact", "on": {"code": "prompt", "sft": "response"}})
    assert run(stage, records(rows)).keep.tolist() == [True, False, True, False, False, True]
    near = Dedup.model_validate({"on": {"code": "prompt"}, **EVERY_PAIR})
    assert run(near, records(rows)).keep.tolist() == [True, False, True, True, True, True]
    assert stage.scoring() != Dedup(mode="exact").scoring()


def test_a_moved_run_is_an_index_that_costs_nothing_anew(tmp_path: Path) -> None:
    """A run's directory needs neither its sources nor its place, and several of them are one index."""
    store = tmp_path / "store"
    for number, month in enumerate(("january", "february")):
        write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(60, seed=number))
        run_here(write_recipe(tmp_path, stages=["dedup"]), tmp_path / month, store)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "january").rename(tmp_path / "elsewhere/jan")
    write_jsonl(tmp_path / "rows.jsonl", [*alpaca_rows(60), *alpaca_rows(60, seed=1), *alpaca_rows(5, seed=2)])
    recipe = write_recipe(tmp_path, stages=[{"dedup": {"against": ["elsewhere/jan", "february"]}}])
    manifest = run_here(recipe, tmp_path / "march", store)
    assert entry(manifest)["counters"]["scored"] == 5
    assert manifest["splits"] == {"train": 5}
    fresh = run_here(recipe, tmp_path / "again", tmp_path / "empty store")  # the store is a cache, not the index
    assert fresh["splits"] == {"train": 5}
    assert entry(fresh)["reasons"] == entry(manifest)["reasons"]
