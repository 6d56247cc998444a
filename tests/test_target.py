"""`check-target`: needle tests on made texts, overlaps against plain Python, what is said in odd cases."""

from __future__ import annotations

import json
import random
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from makes import write_jsonl
from pools import MemoryPool, records
from rich.console import Console

from pipelines.executor import LocalExecutor
from pipelines.intake import source_units, take_in
from pipelines.pool import RunPool
from pipelines.progress import Silent
from pipelines.recipe import Source
from pipelines.store import Store
from reports import target_overlap
from reports.target import TargetCheck, check_target
from reports.target_trial import Hidden, folds, prepare_field, sizes, surely_better
from reports.target_view import plot, render
from schemas.errors import RecipeError

_CODE = ("def", "return", "if", "for", "in", "range", "len", "print", "lambda", "import", "self", "yield", "while")
_PROSE = ("the", "a", "of", "and", "to", "was", "she", "sea", "night", "house", "river", "wind", "old", "walked")


def made(words: Sequence[str], count: int, seed: int) -> list[str]:
    """Texts of 15 to 60 words, a quarter of them numbers that occur once."""
    draw = random.Random(seed)
    return [
        " ".join(draw.choice(words) if draw.random() < 0.75 else str(draw.random())[2:9] for _ in range(length))
        for length in (draw.randint(15, 60) for _ in range(count))
    ]


def pool_of(texts: Sequence[str | None]) -> MemoryPool:
    return MemoryPool(records([{"text": text} for text in texts]), batch_size=97)


def check(pool: Sequence[str | None], target: Sequence[str | None], sample: int = 400) -> TargetCheck:
    return check_target(pool_of(pool), pool_of(target), "text", 0, sample)


def shown(found: TargetCheck) -> str:
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(render(found))
    return console.export_text()


@pytest.fixture(scope="module")
def clear() -> TargetCheck:
    return check(made(_PROSE, 600, 1), made(_CODE, 60, 2))


def test_a_clear_target_is_found(clear: TargetCheck) -> None:
    recall = {trial.score: trial.recall for trial in clear.trials}
    assert recall["debiased"] > 0.95
    assert all(trial.low <= trial.recall <= trial.high for trial in clear.trials)
    assert clear.best == "zipfit: {mode: debiased}"
    assert clear.recommendation.startswith("Use `zipfit: {mode: debiased}`, which finds")
    assert (clear.pool_rows, clear.others, clear.tested) == (600, 400, 60)
    assert [point.rows for point in clear.sizes] == [8, 16, 32, 48]
    assert clear.sizes[-1].agreement == 1
    assert clear.enough is True
    assert (clear.leakage.pool_equal, clear.leakage.pool_near, clear.redundancy.equal) == (0, 0, 0)


def test_a_target_like_the_pool_is_not() -> None:
    found = check(made(_PROSE, 600, 1), made(_PROSE, 60, 2))
    assert max(trial.recall for trial in found.trials) < 0.25
    assert all(abs(trial.beaten - 0.5) < 0.15 for trial in found.trials)
    assert found.recommendation.startswith("No score tells this target from the pool")


def test_leaks_and_copies() -> None:
    target = made(_CODE, 40, 3)
    target += [target[0].upper(), target[1] + " x"]
    pool = [*made(_PROSE, 300, 4), "  " + target[5].replace(" ", "\n"), target[6] + " more", target[6], None, ""]
    found = check(pool, target)
    assert (found.leakage.pool_equal, found.leakage.pool_near, found.leakage.target_rows) == (2, 1, 2)
    assert (found.redundancy.equal, found.redundancy.near) == (1, 2)
    examples = {leak.pool_id: (leak.target_id, round(leak.similarity, 1)) for leak in found.leakage.examples}
    assert examples[f"{300:032x}"] == (f"{5:032x}", 1.0)
    assert examples[f"{301:032x}"][0] == f"{6:032x}"
    assert 0.8 <= found.leakage.examples[-1].similarity < 1
    assert "3 of 305 pool rows are target rows: take them out first" in found.recommendation
    assert found.others == 300


def test_the_answer_is_the_same_again_and_plain(clear: TargetCheck) -> None:
    again = check(made(_PROSE, 600, 1), made(_CODE, 60, 2))
    assert again == clear
    assert json.loads(json.dumps(clear.to_dict()))["trials"][0]["score"] == "debiased"


def test_views(clear: TargetCheck) -> None:
    text = shown(clear)
    assert "debiased (default)" in text
    assert clear.recommendation[:60] in text
    tree = ElementTree.fromstring(plot(clear))
    space = "{http://www.w3.org/2000/svg}"
    assert len(tree.findall(f".//{space}circle")) == 2 * len(clear.sizes)
    assert len(tree.findall(f".//{space}g/{space}rect")) == len(clear.trials)


def test_too_little_to_test() -> None:
    few = check(made(_PROSE, 100, 5), made(_CODE, 5, 6))
    assert (few.trials, few.sizes, few.enough, few.tested) == ((), (), None, 0)
    assert "too few for needle tests" in few.notes[0]
    assert few.recommendation.startswith("Too little to test: use `zipfit: {mode: debiased}`")
    assert "Too little to test" in plot(few)
    assert "Too little to test" in shown(few)


def test_a_target_that_is_the_pool() -> None:
    texts = made(_PROSE, 50, 7)
    found = check(texts, texts)
    assert found.leakage.pool_equal == 50
    assert found.recommendation == "There is nothing to select: all 50 pool rows are target rows."


def test_nothing_to_compare() -> None:
    with pytest.raises(RecipeError, match="no row with a text"):
        check(["a b c"], [None, "", " \n"])
    with pytest.raises(RecipeError, match="pool has no rows"):
        check([], ["a b c"])
    only_nulls = check([None, ""], made(_CODE, 20, 8))
    assert only_nulls.others == 0
    assert only_nulls.trials == ()


def test_more_target_rows_than_are_tested() -> None:
    found = check(made(_PROSE, 60, 9), made(_CODE, 300, 10), sample=40)
    assert (found.tested, found.target_rows) == (256, 300)
    assert "256 of 300 distinct target rows" in found.notes[0]


def test_near_copies_are_hidden_together() -> None:
    groups = np.array([0, 0, 1, 2, 3, 4, 4, 4, 5, 6])
    parts = folds(groups, 0)
    assert sorted(np.concatenate(parts).tolist()) == list(range(10))
    assert sum(len(set(groups[part])) for part in parts) == len(set(groups))


def test_a_rival_must_be_surely_better() -> None:
    def hidden(hits: int) -> Hidden:
        return Hidden(np.arange(100) < hits, np.zeros(100))

    assert surely_better(hidden(80), hidden(50), 0)
    assert not surely_better(hidden(52), hidden(50), 0)
    assert not surely_better(hidden(50), hidden(50), 0)


def test_a_larger_target_finds_more_where_rows_differ_much() -> None:
    topics = [[f"{chr(97 + k)}{word}" for word in range(12)] for k in range(24)]
    target = [text for k, words in enumerate(topics) for text in made(words, 4, k)]
    field = prepare_field(made([f"z{n}" for n in range(300)], 300, 99), target)
    points = sizes(field, folds(np.arange(len(target)), 0), 0)
    assert points[0].recall < points[-1].recall - 0.1


TOKENS = st.lists(st.sampled_from("abcd"), max_size=14).map(" ".join)


@given(st.lists(TOKENS, max_size=12), st.lists(TOKENS, max_size=12), st.sampled_from([0.5, 0.8, 1.0]))
@settings(max_examples=200, deadline=None)
def test_overlaps_equal_plain_python(texts: list[str], fixed: list[str], threshold: float) -> None:
    index = target_overlap.build(target_overlap.prepare(pa.array(fixed, pa.string())), threshold)
    found = target_overlap.matches(target_overlap.prepare(pa.array(texts, pa.string())), index)
    near = {(m.row, m.fixed): m.similarity for m in found if not m.same}
    assert near == pytest.approx(
        {
            (i, j): similarity
            for i, one in enumerate(texts)
            for j, other in enumerate(fixed)
            if one != other and (similarity := jaccard(one, other)) >= threshold
        }
    )
    assert {m.row: m.fixed for m in found if m.same} == {i: fixed.index(t) for i, t in enumerate(texts) if t in fixed}
    pairs = {(i, j) for i, j in combinations(range(len(fixed)), 2) if fixed[i] != fixed[j]}
    twins = target_overlap.twins(target_overlap.prepare(pa.array(fixed, pa.string())), threshold)
    assert {(m.row, m.fixed) for m in twins} == {(i, j) for i, j in pairs if jaccard(fixed[i], fixed[j]) >= threshold}


def jaccard(one: str, other: str) -> float:
    a, b = grams(one), grams(other)
    return len(a & b) / len(a | b) if a and b else 0.0


def grams(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    runs = {tuple(words[k : k + 5]) for k in range(len(words) - 4)}
    return runs or ({tuple(words)} if words else set())


def test_pools_as_a_run_has_them(tmp_path: Path) -> None:
    def pool(name: str, texts: Sequence[str]) -> RunPool:
        write_jsonl(tmp_path / f"{name}.jsonl", [{"text": text} for text in texts])
        units = source_units(Source(name=name, path=f"{name}.jsonl"), tmp_path, None)
        with LocalExecutor(1) as executor:
            taken = take_in(units, Store(tmp_path / "store"), executor, Silent())
        return RunPool.open([part for one in taken for part in one.record_parts()])

    code = made(_CODE, 30, 2)
    found = check_target(pool("rows", [*made(_PROSE, 200, 1), code[4]]), pool("target", code), "text", 0, 150)
    assert (found.leakage.pool_equal, found.tested) == (1, 30)
    assert found.trials[0].recall > 0.9
