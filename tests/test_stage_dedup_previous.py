"""`previous` in the `dedup` stage: the order of preference, who counts as published, and the word in a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from makes import alpaca_rows, write_jsonl, write_recipe
from pools import records, score

from pipelines.ids import ID, from_hex
from pipelines.pool import RunPool
from pipelines.previous import Publication
from pipelines.recipe_file import load_recipe
from schemas.errors import RecipeError
from stages.dedup import Dedup

EVERY_PAIR: dict[str, Any] = {"bands": 128, "rows": 1}


# --- the order of preference ----------------------------------------------------------------------------------------


def shingles(text: str) -> frozenset[str]:
    words = text.split()
    return frozenset(" ".join(words[k : k + 2]) for k in range(len(words) - 1)) or frozenset(words)


def brute_force(values: Sequence[str], published: Sequence[bool], threshold: float) -> list[int]:
    """The survivor of every row by the documented rule: published rows are visited first, then longer ones."""
    sets = [shingles(value) for value in values]
    order = sorted(range(len(values)), key=lambda k: (not published[k], -len(values[k]), k))
    survivor: dict[int, int] = {}
    for place, row in enumerate(order):
        equal = [other for other in order[:place] if values[other] == values[row]]
        kept = [other for other in order[:place] if survivor[other] == other and sets[other] and sets[row]]
        alike = {other: len(sets[row] & sets[other]) / len(sets[row] | sets[other]) for other in kept}
        best = max(alike, key=lambda other: alike[other], default=row)
        near = best if best != row and alike[best] >= threshold else row
        survivor[row] = survivor[equal[0]] if equal else near
    return [survivor[row] for row in range(len(values))]


corpus = st.lists(st.tuples(st.lists(st.sampled_from("abcd"), max_size=9).map(" ".join), st.booleans()), max_size=20)


@given(corpus, st.sampled_from([0.3, 0.6, 1.0]))
@settings(max_examples=40, deadline=None)
def test_published_rows_come_first(rows: list[tuple[str, bool]], threshold: float) -> None:
    values, published = [value for value, _ in rows], [mark for _, mark in rows]
    stage = Dedup(threshold=threshold, shingle_size=2, against="previous", **EVERY_PAIR)  # type: ignore[arg-type]
    pool = score(stage, records([{"text": value} for value in values]), batch_size=7)
    decisions = stage.decide_preferring(pool, np.array(published, np.bool_))  # type: ignore[arg-type]
    wanted = brute_force(values, published, threshold)
    assert decisions.keep.tolist() == [k == survivor for k, survivor in enumerate(wanted)]
    assert decisions.related is not None
    exact = [k for k, survivor in enumerate(wanted) if k != survivor and values[k] == values[survivor]]
    assert decisions.related[exact].tolist() == [wanted[k] for k in exact]


@pytest.mark.parametrize("rule", [{"keep": "longest"}, {"keep": "newest"}, {"keep": "best(judge.score)"}])
def test_whatever_the_rule(rule: dict[str, str]) -> None:
    texts = ["one two three four", "one two three four five", "one two three four six"]
    stage = Dedup.model_validate({"against": "previous", "threshold": 0.5, "shingle_size": 1, **rule, **EVERY_PAIR})
    judged = {"judge.score": pa.array([0.0, 9.0, 9.0])}
    pool = score(stage, records([{"text": text} for text in texts]), earlier=judged)
    decisions = stage.decide_preferring(pool, np.array([True, False, False]))  # type: ignore[arg-type]
    assert decisions.keep.tolist() == [True, False, False]
    assert decisions.related is not None
    assert decisions.related.tolist() == [-1, 0, 0]


# --- who is published -----------------------------------------------------------------------------------------------


def ids(values: Sequence[int]) -> Any:
    return from_hex(pa.array([f"{value:032x}" for value in values], pa.string()))


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 6)), unique_by=lambda pair: pair[0]),
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 6)), unique_by=lambda pair: pair[0]),
)
def test_published_rows_are_known_again(before: list[tuple[int, int]], now: list[tuple[int, int]]) -> None:
    publication = Publication("x", ids([name for name, _ in before]), ids([content for _, content in before]))
    pool = RunPool([], np.ones(len(now), np.bool_), ids([name for name, _ in now]), ids([text for _, text in now]))
    at_home = {content for name, content in now if (name, content) in before}
    wanted = [
        (name, content) in before or (content in {text for _, text in before} and content not in at_home)
        for name, content in now
    ]
    assert publication.rows_of(pool).tolist() == wanted
    assert publication.ids.dtype == ID


# --- the word -------------------------------------------------------------------------------------------------------


def test_the_word_and_a_directory_of_that_name(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(3))

    def stage(against: Any) -> Dedup:
        found = load_recipe(write_recipe(tmp_path, stages=[{"dedup": {"against": against}}])).stages[0].stage
        assert isinstance(found, Dedup)
        return found

    folder = str(tmp_path.resolve() / "previous")
    assert stage("previous").sources() == {}
    assert stage("previous").prefers_published()
    assert stage(["previous", "march", "april"]).sources() == {
        "against": (str(tmp_path.resolve() / "march"),),
        "against-2": (str(tmp_path.resolve() / "april"),),
    }
    (tmp_path / "previous").mkdir()
    assert stage("./previous").against == (folder,)
    assert not stage(["./previous"]).prefers_published()
    with pytest.raises(RecipeError, match=r"recipe.yaml:\d+: stages.0.dedup.against.0: .*write \./previous"):
        stage(["previous"])
