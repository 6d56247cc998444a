"""`semdedup` and `d4`: vectors, clusters and greedy removal against plain Python, decisions, whole runs."""

from __future__ import annotations

import importlib.util
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from makes import alpaca_rows, run_here, tree, write_jsonl, write_recipe
from pools import MemoryPool, records, run, score

from pipelines.recipe_file import load_recipe
from schemas.errors import RecipeError
from stages.semantic import builtin
from stages.semantic.clusters import Clusters, cluster, thin
from stages.semantic.stage import D4, SemDedup

TOPICS = [[f"{topic}{n}" for n in range(15)] for topic in ("sea", "code", "tax")]


def texts(count: int, seed: int = 0) -> list[str]:
    """Texts about three topics."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(TOPICS[n % 3], k=30)) for n in range(count)]


def rows(items: list[str | None]) -> pa.Table:
    return records([{"text": item} for item in items])


def details(decisions: Any) -> list[dict[str, Any] | None]:
    return [None if item is None else json.loads(item) for item in pa.array(decisions.detail).to_pylist()]


def test_vectors_have_length_one_and_depend_on_their_own_text() -> None:
    table = rows([*texts(60), "", None, "..."])
    stage = SemDedup(dimensions=16)
    whole = score(stage, table, 1000).table(["vector", "n_tokens"])
    pieces = score(stage, table, 7).table(["vector", "n_tokens"])
    assert whole.equals(pieces)
    vectors = np.array(whole["vector"].to_pylist()[:60], np.float64)
    assert vectors.shape == (60, 16)
    assert np.sqrt((vectors**2).sum(axis=1)) == pytest.approx(1, abs=2e-3)
    assert whole["vector"].is_null().to_pylist()[60:] == [True, True, False]
    assert whole["n_tokens"].to_pylist()[:1] == [30]


def test_vectors_tell_topics_apart() -> None:
    pool = score(SemDedup(dimensions=8), rows(texts(90)))
    vectors = np.array(pool.table(["vector"])["vector"].to_pylist(), np.float64)
    products = vectors @ vectors.T
    same = np.equal.outer(np.arange(90) % 3, np.arange(90) % 3)
    assert products[same].mean() > products[~same].mean() + 0.5


def test_the_fit_takes_the_lowest_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    table = rows(texts(50))
    monkeypatch.setattr(builtin, "_SAMPLE", 30)
    order = np.argsort(table["content_hash"].to_pylist(), kind="stable")[:30]
    part = builtin.fit(MemoryPool(table.take(pa.array(np.sort(order)))), "text", 8, 0)
    whole = builtin.fit(MemoryPool(table), "text", 8, 0)
    assert all(np.array_equal(part[name], whole[name]) for name in whole)


def test_copies_go_and_name_the_kept_row() -> None:
    base = texts(60)
    decided = run(SemDedup(epsilon=0.05), rows([*base, *(text + " also" for text in base[:5]), base[7], None, ""]))
    dropped = np.flatnonzero(~decided.keep)
    pairs = [{k, 60 + k} for k in range(5)] + [{7, 65}]
    assert decided.related is not None
    assert [{int(row), int(decided.related[row])} in pairs for row in dropped] == [True] * 6
    assert all(decided.keep[decided.related[row]] for row in dropped)
    assert decided.score is not None
    assert decided.score[dropped].min() > 0.95
    assert np.nanmax(decided.score[decided.keep]) <= 0.95
    reasons = pa.array(decided.reason).to_pylist()
    assert reasons[dropped[0]].startswith("semantic copy: cosine above 0.95; 0.9")
    assert reasons[-2:] == ["kept: no text to compare"] * 2
    found = details(decided)
    assert found[-1] is None
    assert found[int(dropped[0])]["similarity"] == pytest.approx(decided.score[dropped[0]], abs=1e-3)
    assert found[0]["cluster"] == 0


def test_order_of_rows_and_batches_change_nothing() -> None:
    pool = texts(300)
    pool += [text + " again" for text in pool[:50]]
    one = run(SemDedup(clusters=4, epsilon=0.1), rows(list(pool)))
    order = np.random.default_rng(0).permutation(len(pool))
    other = run(SemDedup(clusters=4, epsilon=0.1), rows([pool[k] for k in order]), batch_size=37)
    hashed = rows(list(pool))["content_hash"].to_pylist()
    assert 0 < (~one.keep).sum() < 200
    assert {hashed[k] for k in np.flatnonzero(one.keep)} == {hashed[order[k]] for k in np.flatnonzero(other.keep)}


@given(st.integers(0, 10_000), st.integers(1, 40), st.floats(0.3, 0.99))
@settings(max_examples=100, deadline=None)
def test_thinning_equals_plain_python(seed: int, count: int, limit: float) -> None:
    draw = np.random.default_rng(seed)
    vectors = builtin.unit(draw.normal(size=(count, 3))).astype(np.float16)
    ties = draw.integers(0, 2**63, count).astype(np.uint64)
    clusters = Clusters(draw.integers(0, 3, count), np.round(draw.random(count), 1))
    found = thin(vectors, clusters, ties, limit)
    cosine = (vectors.astype(np.float32) @ vectors.astype(np.float32).T).astype(np.float64)
    kept: list[int] = []
    for row in np.lexsort((ties, clusters.centrality)).tolist():
        if all(clusters.label[row] != clusters.label[k] or cosine[row, k] <= np.float32(limit) for k in kept):
            kept.append(row)
    assert sorted(kept) == np.flatnonzero(found.keep).tolist()
    for row in range(count):
        others = [k for k in kept if k != row and clusters.label[k] == clusters.label[row]]
        assert (found.nearest[row] in others) if others else found.nearest[row] == -1
        if others:
            assert found.similarity[row] == pytest.approx(min(1.0, max(cosine[row, k] for k in others)), abs=1e-4)


def test_many_rows_in_a_cluster_are_taken_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(1)
    vectors = builtin.unit(draw.normal(size=(200, 4))).astype(np.float16)
    ties = np.arange(200, dtype=np.uint64)
    clusters = cluster(vectors, ties, 2, 0)
    whole = thin(vectors, clusters, ties, 0.9)
    monkeypatch.setattr("stages.semantic.clusters._BLOCK", 16)
    parts = thin(vectors, clusters, ties, 0.9)
    assert np.array_equal(whole.keep, parts.keep)
    assert np.array_equal(whole.nearest, parts.nearest)


def test_clusters_are_the_nearest_centroids() -> None:
    vectors = np.array([[1, 0], [0.99, 0.14], [0, 1], [0.14, 0.99], [-1, 0]], np.float16)
    found = cluster(vectors, np.arange(5, dtype=np.uint64), 3, 0)
    assert found.label[0] == found.label[1] != found.label[2] == found.label[3]
    assert len(set(found.label.tolist())) == 3
    assert found.centrality[4] == pytest.approx(1, abs=1e-3)
    assert len(cluster(vectors[:0], np.zeros(0, np.uint64), None, 0).label) == 0


def test_d4_drops_copies_first_and_then_what_is_most_typical() -> None:
    odd = [f"odd{n} unlike{n} any{n} other{n}" for n in range(6)]
    pool: list[str | None] = [*texts(90), *odd]
    pool += [f"{pool[0]} also", None]
    decided = run(D4(keep=40, epsilon=0.03, dimensions=64, clusters=3), rows(pool))
    assert decided.keep.sum() == 40
    assert decided.keep[90:96].all()
    assert not decided.keep[-1]
    reasons = pa.array(decided.reason).to_pylist()
    assert reasons[-1] == "no text to compare"
    kinds = {reason.split(";")[0] for reason in reasons}
    assert kinds == {
        "kept: not prototypical", "semantic copy", "prototypical: near the centre of its cluster", "no text to compare",
    }  # fmt: skip
    assert decided.score is not None
    typical = [k for k, reason in enumerate(reasons) if reason.startswith("prototypical")]
    assert decided.score[typical].min() >= decided.score[decided.keep].max()
    copies = [k for k, reason in enumerate(reasons) if reason.startswith("semantic copy")]
    assert decided.related is not None
    assert {*copies, int(decided.related[copies[0]])} == {0, 96}
    found = details(decided)[typical[0]]
    assert found is not None
    assert found["second_centrality"] == pytest.approx(decided.score[typical[0]], abs=1e-3)
    short = run(D4(keep=500), rows(pool))
    assert "keep asks for 500 rows, but only" in short.warnings[0]


@pytest.mark.parametrize("items", [[], [None], [""], ["one"], ["one", "one"], ["a b", "c d", None]])
def test_tiny_pools(items: list[str | None]) -> None:
    table = rows(items)
    decided = run(SemDedup(), table)
    copies = max(0, len([item for item in items if item]) - len({item for item in items if item}))
    assert int((~decided.keep).sum()) == copies
    assert run(D4(keep=5), table).keep.sum() == len({item for item in items if item})


def test_whole_runs(tmp_path: Path) -> None:
    base = alpaca_rows(60)
    copies = [{**row, "output": row["output"] + " also"} for row in base[:6]]
    write_jsonl(tmp_path / "rows.jsonl", [*base, *copies])
    recipe = write_recipe(tmp_path, stages=[{"semdedup": {"epsilon": 0.1}}, {"d4": {"keep": 30, "epsilon": 0.1}}])
    manifest = run_here(recipe, tmp_path / "one", tmp_path / "store")
    assert [stage["kept"] for stage in manifest["stages"]] == [60, 30]
    decisions = pq.read_table(tmp_path / "one/lineage/decisions").to_pylist()
    dropped = [row for row in decisions if row["stage"] == "semdedup" and not row["keep"]]
    kept = {row["record_id"] for row in decisions if row["stage"] == "semdedup" and row["keep"]}
    assert len(dropped) == 6
    assert all(row["related_id"] in kept for row in dropped)
    assert pq.read_table(tmp_path / "one/lineage/scores/semdedup").column_names == ["record_id", "n_tokens"]
    looser = run_here(recipe, tmp_path / "two", tmp_path / "store", ["stages.0.semdedup.epsilon=0.0"])
    assert looser["stages"][0]["counters"]["scored"] == 0
    assert looser["stages"][0]["kept"] == 66
    run_here(recipe, tmp_path / "three", tmp_path / "store3", workers=2)
    assert tree(tmp_path / "one/data") == tree(tmp_path / "three/data")


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ({"semdedup": {"epsilon": 1.5}}, r"recipe\.yaml:\d+: stages\.0\.semdedup\.epsilon"),
        ({"d4": {}}, r"recipe\.yaml:\d+: stages\.0\.d4\.keep"),
        ({"semdedup": {"epsilom": 0.1}}, "did you mean 'epsilon'"),
    ],
)
def test_recipes_that_cannot_work(tmp_path: Path, stage: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        load_recipe(write_recipe(tmp_path, stages=[stage]))


def test_models_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="is not a folder"):
        SemDedup(model=str(tmp_path / "none")).check()
    with pytest.raises(RecipeError, match=r"has no modules\.json"):
        SemDedup(model=str(tmp_path)).check()


def test_a_model_in_a_folder(tmp_path: Path) -> None:
    model2vec = pytest.importorskip("model2vec", reason="model2vec is not installed")
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    vocabulary = {"[UNK]": 0, "[PAD]": 1, "cat": 2, "feline": 3, "tax": 4}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    vectors = np.array([[0, 0, 0], [0, 0, 0], [1, 0, 0], [0.999, 0.04, 0], [0, 0, 1]], np.float32)
    model2vec.StaticModel(vectors, tokenizer, normalize=True).save_pretrained(tmp_path / "model")
    stage = SemDedup(model=str(tmp_path / "model"))
    stage.check()
    decided = run(stage, rows(["cat cat", "feline", "tax", "tax tax cat"]))
    assert (~decided.keep[:2]).sum() == 1
    assert decided.keep[2:].all()
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/modules.json").write_text('[{"type": "sentence_transformers.models.Transformer"}]')
    if importlib.util.find_spec("sentence_transformers") is None:
        with pytest.raises(RecipeError, match="pip install sentence-transformers"):
            SemDedup(model=str(tmp_path / "deep")).check()
