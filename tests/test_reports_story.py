"""`curate explain` and `curate diff`."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, RenderableType
from rundir import REWRITTEN, TEXTS, record, record_id, write_run

import reports
from reports.difference import difference
from reports.story import story
from reports.story_view import render
from reports.text import excerpt, plain, shortened, word_diff
from reports.thresholds import thresholds
from schemas.errors import RecipeError


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("story") / "run")


def source_texts(ids: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
    return {record_id(key): record(key, text) for key, text in TEXTS.items() if record_id(key) in ids}


def shown(view: RenderableType) -> str:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(view)
    return console.export_text()


@pytest.mark.parametrize("key", [record_id("b1"), record_id("b1")[:10], record_id("b1")[:10].upper(), "b1", "beta:b1"])
def test_a_record_is_found_by_id_prefix_and_own_id(run: Path, key: str) -> None:
    assert story(run, key).record_id == record_id("b1")


def test_the_story_of_a_dropped_record(run: Path) -> None:
    found = story(run, "b1", source_texts)
    assert (found.outcome, found.source, found.source_id) == ("dropped", "beta", "b1")
    assert [(step.stage, step.keep) for step in found.steps] == [("ingest", True), ("length", True), ("dedup", False)]
    last = found.steps[-1]
    assert (last.reason, last.score, last.limits, last.detail) == (
        "near_duplicate",
        0.84,
        {"threshold": 0.8},
        {"cluster": 1},
    )
    assert last.related is not None
    assert (last.related.related_id, last.related.source_id) == (record_id("a1"), "a1")
    assert ("removed", "numbers") in last.related.changes
    assert ("added", "integers") in last.related.changes
    text = shown(render(found))
    assert "dropped by dedup: near_duplicate" in text
    assert "[-numbers-]{+integers+}" in text
    assert "threshold 0.8" in text


def test_without_its_text_the_story_says_so(run: Path) -> None:
    found = story(run, "b3")
    assert found.text is None
    assert found.steps[-1].limits == {"min_chars": 10.0}
    assert "not in this directory" in shown(render(found))


def test_the_story_of_a_rewritten_record(run: Path) -> None:
    found = story(run, "a3")
    assert (found.outcome, found.split, found.origin) == ("kept", "train", "alpha.jsonl#3")
    assert found.text is not None
    assert REWRITTEN in found.text
    (rewrite,) = found.rewrites
    assert ("added", "single ") in rewrite.columns["prompt"]
    assert "reflect rewritten" in shown(render(found))


def test_scores_of_a_stage_are_shown(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / "lineage/scores/dedup#2").rename(run / "lineage/scores/dedup")
    assert story(run, "b1").steps[-1].scores == {"jaccard": 0.84, "shingles": 9}


def test_origin_comes_from_the_ingest_decision_where_the_row_is_gone(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    path = run / "lineage/decisions/part-00000.parquet"
    table = pq.read_table(path)
    detail = ['{"origin":"beta.jsonl#1"}' if row["stage"] == "ingest" else None for row in table.to_pylist()]
    index = table.schema.get_field_index("detail")
    pq.write_table(table.set_column(index, table.schema.field(index), [detail]), path)
    assert story(run, "b1").origin == "beta.jsonl#1"


def test_only_drops_were_written(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    path = run / "lineage/decisions/part-00000.parquet"
    table = pq.read_table(path)
    pq.write_table(table.filter([not keep for keep in table["keep"].to_pylist()]), path)
    assert story(run, "a1").outcome == "kept"
    assert story(run, "b1").outcome == "dropped"


def test_a_record_quarantined_by_a_stage(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    path = run / "quarantine/part-00000.parquet"
    row = pq.read_table(path).to_pylist()[0] | {"stage": "dedup", "record_id": record_id("a6"), "kind": "crash"}
    pq.write_table(pq.read_table(path).from_pylist([row], schema=pq.read_schema(path)), path)
    found = story(run, "a6")
    assert (found.outcome, found.quarantine[0]["kind"]) == ("quarantined", "crash")
    assert "quarantined at dedup: crash" in shown(render(found))


@pytest.mark.parametrize("key", ["b9", "alpha:b1", "", "ffffffffffff", "'; DROP", "%", "a"])
def test_unknown_ids_name_the_nearest(run: Path, key: str) -> None:
    with pytest.raises(RecipeError, match=r"nearest: [0-9a-f]{32}"):
        story(run, key)


def test_an_own_id_with_a_typo_finds_its_neighbour(run: Path) -> None:
    with pytest.raises(RecipeError, match=rf"nearest: {record_id('b4')} \(beta:b4\)"):
        story(run, "beta:b44")


def test_an_id_of_several_records_lists_them(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    for path in (run / "lineage/decisions/part-00000.parquet", run / "data/train-00000-of-00002.parquet"):
        table = pq.read_table(path)
        index = table.schema.get_field_index("source_id")
        pq.write_table(table.set_column(index, table.schema.field(index), [["x"] * table.num_rows]), path)
    with pytest.raises(RecipeError, match="'x' names several records"):
        story(run, "x")


def test_explain_as_data_and_view(run: Path) -> None:
    data, view = reports.explain(run, "b1")
    assert orjson.loads(orjson.dumps(data))["steps"][2]["related"]["related_id"] == record_id("a1")
    assert record_id("b1") in shown(view)


def test_no_difference(run: Path) -> None:
    found = difference(run, run)
    assert found.same
    assert "no difference" in shown(reports.diff(run, run)[1])


def test_difference_of_content_decisions_and_settings(run: Path, tmp_path: Path) -> None:
    texts = {key: text for key, text in TEXTS.items() if key != "a6"}
    texts |= {"a4": "List four primes.", "b5": "A new row in beta."}
    other = write_run(tmp_path / "other", texts, threshold=0.9)
    found = difference(run, other)
    # b1 is new in data/ because the higher threshold keeps it, b5 because it was not there before.
    assert found.counts == {"removed": 1, "added": 2, "changed": 1}
    assert (found.rows_before, found.rows_after) == (7, 8)
    assert [sample.source_id for sample in found.samples["removed"]] == ["a6"]
    assert sorted(str(sample.source_id) for sample in found.samples["added"]) == ["b1", "b5"]
    assert ("added", "four") in found.samples["changed"][0].changes
    assert [(item.before, item.after, item.rows) for item in found.transitions] == [
        ("dedup: near_duplicate", "kept", 1)
    ]
    assert found.settings == {"dedup.threshold": (0.8, 0.9)}
    assert not found.same
    text = shown(reports.diff(run, other)[1])
    assert "dedup: near_duplicate" in text
    assert "[-three-]{+four+}" in text


def test_difference_is_plain_data(run: Path, tmp_path: Path) -> None:
    data, _ = reports.diff(run, write_run(tmp_path / "other", bare=True))
    assert orjson.loads(orjson.dumps(data))["counts"]["changed"] == 1


def test_rows_that_only_one_run_let_go(run: Path, tmp_path: Path) -> None:
    """Drops and quarantine count, whichever run they are in, also where only drops were written."""
    other = write_run(tmp_path / "other")
    decided, bad = other / "lineage/decisions/part-00000.parquet", other / "quarantine/part-00000.parquet"
    table = pq.read_table(decided)
    kept = [{**row, "keep": True} if row["source_id"] == "a2" else row for row in table.to_pylist()]
    pq.write_table(table.from_pylist(kept, schema=table.schema), decided)
    quarantined = pq.read_table(bad).to_pylist()[0] | {"stage": "dedup", "record_id": record_id("a6"), "kind": "crash"}
    pq.write_table(pq.read_table(bad).from_pylist([quarantined], schema=pq.read_schema(bad)), bad)
    there = {(item.before, item.after): item.rows for item in difference(run, other).transitions}
    assert there == {("dedup: exact_duplicate", "kept"): 1, ("kept", "dedup: quarantined, crash"): 1}
    back = {(item.after, item.before): item.rows for item in difference(other, run).transitions}
    assert back == there


def test_moved_rows_are_not_new(run: Path, tmp_path: Path) -> None:
    """Rows in another order have other positions, but the same content."""
    other = write_run(tmp_path / "other", dict(reversed(TEXTS.items())))
    assert not any(difference(run, other).counts.values())


words = st.lists(st.sampled_from(["a", "bb", "ccc", "d,", "\n", "ü", "一二"]), max_size=30).map(" ".join)


@given(words, words)
def test_word_diff_loses_nothing(before: str, after: str) -> None:
    changes = word_diff(before, after)
    assert "".join(text for kind, text in changes if kind != "added") == before
    assert "".join(text for kind, text in changes if kind != "removed") == after
    assert all(text for _, text in changes)
    assert all(first[0] != second[0] for first, second in pairwise(changes))


def test_word_diff_of_long_texts_is_quick_and_complete() -> None:
    before, after = "a b " * 50_000, "c d " * 50_000
    assert word_diff(before, after) == [("removed", before.rstrip()), ("added", after.rstrip()), ("same", " ")]


def test_shortened_keeps_every_change() -> None:
    changes = word_diff("x" * 500 + " old " + "y" * 500, "x" * 500 + " new " + "y" * 500)
    assert [kind for kind, _ in shortened(changes)] == ["same", "removed", "added", "same"]
    assert sum(len(text) for _, text in shortened(changes)) < 140


@given(st.text(max_size=2000), st.integers(1, 300))
def test_excerpt_is_one_short_line(text: str, length: int) -> None:
    found = excerpt(text, length)
    assert len(found) <= length
    assert "\n" not in found


def test_plain_text_of_every_kind() -> None:
    assert plain({"messages": [{"role": "user", "content": "hi"}, {"role": "assistant"}]}) == "user: hi\n\nassistant: "
    assert plain({"messages": None, "text": "just text"}) == "just text"
    assert plain({"prompt": "p", "completion": "c"}) == "prompt: p\n\ncompletion: c"
    assert plain({}) == ""


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"threshold": 0.8, "min_words": 3}, {"threshold": 0.8}),
        ({"min_tests": 5, "verify": True}, {"min_tests": 5.0}),
        ({"min_chars": 10, "max_chars": None}, {"min_chars": 10.0}),
        ({"min_chars": 10, "max_words": 20}, {}),
        ({}, {}),
    ],
)
def test_limits_of_a_score(params: dict[str, Any], expected: dict[str, float]) -> None:
    assert thresholds(params) == expected
