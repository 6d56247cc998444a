"""`quad` around its influence: what is stored, asked for, decided, and said."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pools import records
from pydantic import ValidationError
from quad_stages import AskingPool, Counting, asking

from schemas.errors import RecipeError
from stages.contract import Decisions
from stages.quad.clustering import caps
from stages.quad.costs import estimate, operations_per_token, tokens_per_row
from stages.quad.stage import Quad

TOPICS = {
    "cook": ("oven dough butter flour bake recipe sugar salt whisk simmer", "good"),
    "sail": ("mast harbour tide rope wind anchor hull deck gale reef", "bad"),
    "code": ("loop array function return index string parse compile stack heap", ""),
}


def rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Texts on three topics; cooking is good, sailing is bad."""
    draw = random.Random(seed)
    out = []
    for number in range(count):
        topic = list(TOPICS)[number % 3]
        words, verdict = TOPICS[topic]
        out.append(
            {"text": f"{' '.join(draw.choices(words.split(), k=12))} {verdict} item{seed}x{number}", "source": topic}
        )
    return out


def stage(**keys: Any) -> Counting:
    return Counting(**{"target": "t.jsonl", "keep": 30, "clusters": 12, "arms": 4, "draws": 2, **keys})


def decided(made: Counting, table: pa.Table, batch_size: int = 1000) -> tuple[Decisions, AskingPool]:
    pool = asking(made, table, batch_size)
    found = made.decide(pool)
    for column in (found.keep, found.reason, found.score, found.detail):
        assert column is not None
        assert len(column) == table.num_rows
    return found, pool


def kinds(found: Decisions) -> Counter[str]:
    return Counter(str(reason).partition(";")[0] for reason in found.reason)


def test_the_bandit_finds_the_good_rows_by_scoring_few() -> None:
    table = records(rows(600))
    found, pool = decided(stage(keep=90, max_share=None, threshold=0.5), table)
    assert found.keep.sum() == 90
    topics = Counter(np.array(table["source"].to_pylist())[found.keep].tolist())
    assert topics["cook"] > 75
    assert not topics["sail"]
    assert pool.computed < 300
    assert any(f"{pool.computed} of 600 rows scored" in note for note in found.warnings)


def test_reasons_and_details_say_what_happened() -> None:
    made = stage(keep=90)
    found, pool = decided(made, records(rows(600)))
    assert set(kinds(found)) >= {
        "kept: taken with its cluster", "kept: scored and taken with its cluster", "scored: influence below the cut",
    }  # fmt: skip
    assert found.detail is not None
    assert found.score is not None
    details = [json.loads(text) for text in found.detail]
    for row, detail in enumerate(details):
        scored = not np.isnan(found.score[row])
        assert ("influences" in detail) == scored
        assert len(detail["at"]) == 2
        assert ("; influence" in found.reason[row]) == scored
    sizes = Counter(detail["arm"] for detail in details)
    assert all(detail["arm_rows"] == sizes[detail["arm"]] for detail in details)
    draws = Counter(detail["arm"] for row, detail in enumerate(details) if not np.isnan(found.score[row]))
    assert all(detail["arm_draws"] == draws[detail["arm"]] for detail in details)
    assert sum(draws.values()) == pool.computed


def test_another_quota_asks_for_nothing_new_once_all_is_scored() -> None:
    table = records(rows(300))
    made = stage(policy="full", keep=10)
    pool = asking(made, table)
    made.decide(pool)
    assert pool.computed == 300
    for other in (stage(policy="full", keep=50), stage(keep=100), stage(policy="positive_random", keep=0.2)):
        assert other.scoring() == made.scoring()
        other.decide(pool)
    assert pool.computed == 300


def test_the_bandit_asks_for_nothing_twice() -> None:
    table = records(rows(300))
    pool = asking(stage(), table)
    first = stage().decide(pool)
    computed = pool.computed
    again = stage().decide(pool)
    assert pool.computed == computed
    assert again.keep.tolist() == first.keep.tolist()


def test_the_order_of_rows_and_the_size_of_batches_do_not_matter() -> None:
    given = rows(300)
    table = records(given)
    found, _ = decided(stage(), table)
    order = np.random.default_rng(0).permutation(300)
    moved, _ = decided(stage(), table.take(pa.array(order)), batch_size=37)
    assert moved.keep.tolist() == found.keep[order].tolist()
    assert list(moved.reason) == [found.reason[row] for row in order]
    assert found.score is not None
    assert moved.score is not None
    np.testing.assert_array_equal(moved.score, found.score[order])


def test_policies_agree_on_what_is_good() -> None:
    table = records(rows(300))
    full, pool = decided(stage(policy="full", keep=60, max_share=None), table)
    assert pool.computed == 300
    assert kinds(full)["kept: influence within the quota"] == 60
    lucky, pool = decided(stage(policy="positive_random", keep=40), table)
    assert kinds(lucky)["kept: drawn at random among positive influence"] == 40
    assert pool.computed == 256  # a slice of the pool: a third of it is positive
    sources = np.array(table["source"].to_pylist())
    assert set(sources[full.keep]) == set(sources[lucky.keep]) == {"cook"}


def test_no_cluster_gives_more_than_its_cap() -> None:
    table = records(rows(600))
    for policy in ("quad", "full", "positive_random"):
        found, _ = decided(stage(keep=60, max_share=1.5, policy=policy), table)
        assert found.detail is not None
        arms = np.array([json.loads(text)["arm"] for text in found.detail])
        sizes = np.bincount(arms)
        assert (np.bincount(arms[found.keep], minlength=len(sizes)) <= caps(sizes, 60, 600, 1.5)).all()


def long_and_short(count: int) -> list[dict[str, Any]]:
    """Rows of 9 words; one row in five says the same 30 times over, and is not as good."""
    draw, topics = random.Random(0), [words.split() for words, _ in TOPICS.values()]
    made = [" ".join(draw.choices(topics[number % 3], k=9)) for number in range(count)]
    return [{"text": " ".join([text] * 30) if at % 5 == 0 else f"{text} good"} for at, text in enumerate(made)]


def tokens_of(table: pa.Table) -> np.ndarray:
    return np.array([len(text.split()) for text in table["text"].to_pylist()])


@pytest.mark.parametrize("policy", ["quad", "full"])
def test_a_cap_does_not_keep_short_rows_from_filling_a_token_budget(policy: str) -> None:
    table = records(long_and_short(800))
    found, _ = decided(stage(keep={"tokens": 2_000}, policy=policy, max_share=1.5), table)
    assert found.detail is not None
    words = tokens_of(table)
    assert 2_000 - words.max() < words[found.keep].sum() <= 2_000
    arms = np.array([json.loads(text)["arm"] for text in found.detail])
    whole = np.bincount(arms, weights=words)
    kept = np.bincount(arms[found.keep], weights=words[found.keep], minlength=len(whole))
    assert (kept < np.ceil(1.5 * 2_000 * whole / whole.sum()) + words[found.keep].max()).all()
    assert not any("keep asks" in note for note in found.warnings)


def test_a_token_budget_that_a_cap_leaves_unspent_is_said() -> None:
    table = records(rows(300))
    words = tokens_of(table)
    made = stage(keep={"tokens": 3_000}, policy="positive_random", max_share=1.0)  # 100 of 300 rows are positive
    found, _ = decided(made, table)
    spent = words[found.keep].sum()
    assert spent < words[np.arange(300) % 3 == 0].sum()
    assert found.warnings[0] == f"keep asks for 3,000 tokens, but rows with only {spent:,} can be kept"
    free, _ = decided(stage(keep={"tokens": 3_000}, policy="positive_random", max_share=None), table)
    assert free.keep.sum() == 100
    assert not any("keep asks" in note for note in free.warnings)  # there is no more to be had


def test_rows_without_text_or_influence_are_told_apart() -> None:
    given = [*rows(60), {"text": ""}, {"text": "  \n "}, {"text": None}, {"text": "odd oven dough butter good"}]
    found, _ = decided(stage(keep=64), records(given))
    assert kinds(found)["no text to score"] == 3
    assert found.reason[-1] == "no influence; odd"
    assert not found.keep[-4:].any()
    assert found.keep.sum() == 60
    assert any("1 scored rows have no influence" in note for note in found.warnings)
    assert any("only 60 can be kept" in note for note in found.warnings)


def test_rows_cut_by_the_context_are_counted() -> None:
    found, _ = decided(stage(policy="full"), records([{"text": f"long good row {n}"} for n in range(40)]))
    longer = "are longer than the model's context; the"
    assert f"40 scored rows {longer} 120 tokens after it are not looked at" in found.warnings
    assert f"2 of 5 rows of target t.jsonl {longer} 70 tokens after it are not looked at" in found.warnings
    assert found.detail is not None
    assert all(json.loads(text)["lost"] == 3 for text in found.detail)


def test_nothing_good_fills_the_quota_and_says_so() -> None:
    given = [{"text": f"mast harbour tide {n} bad"} for n in range(80)]
    found, _ = decided(stage(keep=10, relative=False), records(given))
    assert kinds(found)["kept: the best of what was left"] == 10
    assert any("10 kept rows only fill the quota" in note for note in found.warnings)


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("policy", ["quad", "full", "positive_random"])
def test_tiny_pools(count: int, policy: str) -> None:
    found, _ = decided(stage(keep=5, policy=policy), records(rows(count)))
    positive = sum(number % 3 == 0 for number in range(count))
    assert found.keep.sum() == (positive if policy == "positive_random" else count)


def test_fewer_clusters_than_asked_is_said() -> None:
    given = [{"text": "oven dough butter", "content_hash": f"{n:032x}"} for n in range(40)]
    found, _ = decided(stage(clusters=30), records(given))
    assert any("30 clusters asked for, but the rows give 1" in note for note in found.warnings)


def test_a_token_budget_and_a_limit_on_scoring_hold() -> None:
    table = records(rows(600))
    found, pool = decided(stage(keep={"tokens": 500}, max_scored=0.1), table)
    words = np.array([len(text.split()) for text in table["text"].to_pylist()])
    assert 400 < words[found.keep].sum() <= 500
    assert pool.computed <= 60


def test_the_seed_draws_other_rows() -> None:
    table = records(rows(300))
    assert decided(stage(seed=1), table)[0].keep.tolist() != decided(stage(seed=2), table)[0].keep.tolist()


def test_target_weights_are_shares() -> None:
    made = stage(target=[{"path": "a", "weight": 3}, "b"], policy="full", keep=3)
    found, _ = decided(made, records([{"text": f"good good item {n}"} for n in range(6)]))
    assert found.score is not None
    assert found.score[0] == pytest.approx(2.0)


@pytest.mark.parametrize(
    "keys", [{"keep": 0}, {"keep": 1.5}, {"damping": 0}, {"policy": "best"}, {"layers": "some"}, {"max_share": 0.5}]
)
def test_wrong_parameters_are_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        stage(**keys)


def test_a_missing_model_is_refused_before_the_run() -> None:
    with pytest.raises(RecipeError, match="is not a folder"):
        Quad(target=("t",), keep=1, model="no/such/model").check()


def test_decision_parameters_rescore_nothing() -> None:
    base = stage().scoring()
    for keys in ({"keep": 7}, {"clusters": 3}, {"alpha": 2.0}, {"policy": "full"}, {"max_share": None}, {"batch": 9}):
        assert stage(**keys).scoring() == base
    for keys in ({"layers": "mlp"}, {"factors": "kfac"}, {"counts": "text"}, {"seed": 9}):
        assert stage(**keys).scoring() != base


def test_other_target_weights_rescore_nothing() -> None:
    first = stage(target=["a", {"path": "b", "weight": 3}])
    second = stage(target=["a", "b"])
    assert first.scoring() == second.scoring()
    assert first.parameters() != second.parameters()
    assert stage(target=["a"]).scoring() != second.scoring()


def test_a_model_of_the_users_own_makes_scores_independent_of_the_pool(tmp_path: Any) -> None:
    assert stage().fits_on() == "pool"
    assert stage(model=str(tmp_path)).fits_on() == "inputs"


def test_the_estimate_counts_what_may_be_scored() -> None:
    made = Quad(target=("t",), keep=5, max_scored=0.25, student={"layers": 2, "width": 64, "vocabulary": 1000})
    sample = records(rows(30))
    told = made.estimate(sample, 10_000)
    assert told["rows to score"] == "at most 2,500 of 10,000"
    assert "162,304 parameters" in told["model"]  # 12 x 2 x 64^2 + 1,000 x 64
    assert operations_per_token(100, 2) == 1000
    assert tokens_per_row(made._setup(), sample.slice(0, 0)) == 0
    assert estimate(made._setup(), sample.slice(0, 0), 0, 1.0)["tokens"].startswith("about 0")
