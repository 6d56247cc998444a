"""The bandit of `quad` and its clusters: worked examples, and what holds for any pool."""

from __future__ import annotations

from math import log, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.quad import bandit
from stages.quad.bandit import Bandit, Moments, Neighbours, Purse, Selection, Tuning, _Arms, spent_before
from stages.quad.clustering import caps, default_clusters, group, neighbours, shuffled
from stages.zipfit.ranking import Quota

ALONE = Tuning(alpha=0.0, threshold=0.0, relative=False, sweep=False, arms=1, draws=1, batch=2)


def alone(count: int) -> Neighbours:
    """Arms without neighbours."""
    return Neighbours([np.array([k]) for k in range(count)], [np.ones(1)] * count)


def play(
    values: np.ndarray,
    rows_of: list[np.ndarray],
    quota: int,
    tuning: Tuning = ALONE,
    near: Neighbours | None = None,
    cap: np.ndarray | None = None,
    most: int | None = None,
    tokens: tuple[np.ndarray, float] | None = None,
    costs: np.ndarray | None = None,
) -> tuple[Selection, list[int]]:
    """Run the bandit over known influences; returns what it took and every row it asked for."""
    asked: list[int] = []

    def influence(rows: np.ndarray) -> np.ndarray:
        asked.extend(rows.tolist())
        return values[rows]

    n = len(values)
    sizes, limit = tokens if tokens is not None else (np.ones(n, np.int64), np.inf)
    caps_ = np.array([len(rows) for rows in rows_of]) if cap is None else cap
    purse = Purse(Quota(quota, limit), sizes)
    costs = np.ones(n, np.int64) if costs is None else costs
    found = Bandit(rows_of, near or alone(len(rows_of)), caps_, purse, tuning, costs).run(
        influence, n if most is None else most
    )
    return found, asked


def blocks(*sizes: int) -> list[np.ndarray]:
    return np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])


def test_a_case_worked_out_by_hand() -> None:
    # Arm 0 is good, arm 1 bad, arm 2 fair. All scores are 0 at first, so arm 0 goes first (lowest number): row 0 is
    # drawn, its reward 1 > 0, so rows 0 and 1 go. Arm 0 has the best score: row 2 is drawn, 2 and 3 go. Arm 1: row 4
    # is drawn, reward -1. Arm 2 (score 0, arm 1 has -1.06): row 8 is drawn, 8 and 9 go, and the quota of six is met.
    values = np.array([1.0] * 4 + [-1.0] * 4 + [0.5] * 4)
    found, asked = play(values, blocks(4, 4, 4), 6)
    assert asked == [0, 2, 4, 8]
    assert found.order.tolist() == [0, 1, 2, 3, 8, 9]
    assert found.how.tolist() == [2, 1, 2, 1, 0, 0, 0, 0, 2, 1, 0, 0]
    assert found.draws.tolist() == [2, 1, 1]
    assert found.trace == ((1, 2), (2, 4), (3, 4), (4, 6))
    deviation = np.std([1.0, 1.0, -1.0, 0.5])
    assert found.reward == pytest.approx(np.array([1.0, -1.0, 0.5]) / deviation)


def test_the_cluster_score_is_the_published_formula() -> None:
    arms = _Arms(Neighbours([np.array([0, 1]), np.array([0, 1])], [np.array([1.0, 0.25]), np.array([0.25, 1.0])]))
    arms.credit(0, 4.0)
    arms.credit(0, 2.0)
    arms.credit(1, -1.0)
    # Arm 0: (4 + 2 - 0.25) / 3; arm 1: (1 + 0.5 - 1) / 3; both were chosen three times, six choices in all.
    assert arms.rewards(0.0, 1.0) == pytest.approx([5.75 / 3, 0.5 / 3])
    # An offset of 2 (a threshold in influence) comes off each influence before its weight; deviation 0.5 doubles.
    assert arms.rewards(2.0, 0.5) == pytest.approx([2 * (2.0 + 0.0 - 0.75) / 3, 2 * (0.5 + 0.0 - 3.0) / 3])
    bonus = 0.1 * sqrt(2 * log(6) / 4)
    assert arms.scores(0.0, 1.0, 0.1) == pytest.approx([5.75 / 3 + bonus, 0.5 / 3 + bonus])


def test_an_arm_never_chosen_is_explored_sooner_the_more_alpha_weighs() -> None:
    values = np.array([1.0, 0.9, 1.1, 1.0, 0.95, 1.05, 2.0, 2.0])
    timid, _ = play(values, blocks(6, 2), 2, ALONE._replace(batch=1))
    brave, _ = play(values, blocks(6, 2), 4, ALONE._replace(batch=1, alpha=50.0))
    assert timid.draws.tolist() == [2, 0]
    assert brave.draws[1] > 0


def test_neighbours_share_the_reward() -> None:
    centres = np.array([[1.0, 0.0], [np.cos(0.3), np.sin(0.3)], [0.0, 1.0]])
    near = neighbours(centres, 0.2)
    distance = 1 - np.cos(0.3)
    assert [part.tolist() for part in near.arms] == [[0, 1], [0, 1], [2]]
    assert near.weights[0] == pytest.approx([1.0, 1 - distance / 0.2], abs=1e-5)
    assert near.weights[2].tolist() == [1.0]
    # A bad first arm takes its neighbour down with it: the third arm comes before the second.
    _, asked = play(np.array([-1.0, -1.0, 1.0, 1.0, 0.0, 0.0]), blocks(2, 2, 2), 2, near=near)
    assert asked[:2] == [0, 4]


def test_a_row_without_an_influence_is_never_taken_for_it() -> None:
    values = np.array([np.nan, np.inf, 1.0, 1.0, np.nan, np.nan])
    found, _ = play(values, [np.array([0, 1, 2]), np.array([3]), np.array([4, 5])], 6, ALONE._replace(draws=3))
    assert sorted(found.order.tolist()) == [2, 3]
    assert np.isnan(found.influence[[0, 1, 4, 5]]).all()


def test_nothing_positive_fills_the_quota_with_the_best() -> None:
    values = np.array([-5.0, -1.0, -3.0, -2.0, -4.0])
    found, asked = play(values, blocks(3, 2), 2)
    assert sorted(asked) == [0, 1, 2, 3, 4]
    assert found.order.tolist() == [1, 3]
    assert found.how[[1, 3]].tolist() == [bandit.FILLED, bandit.FILLED]


def test_a_limit_on_scoring_fills_by_the_cluster_mean() -> None:
    values = np.array([-2.0, -2.0, -2.0, -1.0, -1.0, -1.0])
    found, asked = play(values, blocks(3, 3), 3, most=2)
    assert sorted(asked) == [0, 3]
    assert sorted(found.order.tolist()) == [3, 4, 5]
    none, asked = play(values, blocks(3, 3), 3, most=0)
    assert asked == []
    assert len(none.order) == 3


def test_relative_rewards_count_from_the_mean_of_what_was_seen() -> None:
    values = np.array([3.0, 3.0, 1.0, 1.0])
    absolute, _ = play(values, blocks(2, 2), 4, ALONE._replace(arms=2))
    relative, _ = play(values, blocks(2, 2), 4, ALONE._replace(arms=2, relative=True))
    assert absolute.how.tolist() == [2, 1, 2, 1]
    assert relative.how.tolist() == [2, 1, 3, 3]


def test_moments_are_those_of_numpy() -> None:
    values = np.random.default_rng(0).normal(3, 7, 100)
    moments = Moments()
    assert moments.deviation == 1.0
    moments.add(values[:60])
    moments.add(values[60:])
    assert (moments.mean, moments.deviation) == pytest.approx((values.mean(), values.std()))


def test_spent_before_counts_within_groups() -> None:
    groups, costs = np.array([3, 1, 3, 3, 1, 0]), np.array([5, 2, 1, 7, 4, 9])
    assert spent_before(groups, np.ones(6, np.int64)).tolist() == [0, 0, 1, 2, 1, 0]
    assert spent_before(groups, costs).tolist() == [0, 0, 5, 6, 2, 0]
    assert spent_before(np.empty(0, np.int64), np.empty(0, np.int64)).tolist() == []


@st.composite
def pools(draw: st.DrawFn) -> tuple[np.ndarray, list[np.ndarray], Tuning, int, int]:
    sizes = draw(st.lists(st.integers(1, 9), min_size=1, max_size=8))
    n = sum(sizes)
    value = st.one_of(st.floats(-10, 10), st.just(float("nan")), st.sampled_from([0.0, 1e12, -1e-12]))
    values = np.array(draw(st.lists(value, min_size=n, max_size=n)))
    tuning = Tuning(
        draw(st.sampled_from([0.0, 0.1, 3.0])), draw(st.sampled_from([-1.0, 0.0, 0.5])), draw(st.booleans()),
        draw(st.booleans()), draw(st.integers(1, 5)), draw(st.integers(1, 4)), draw(st.integers(1, 6)),
    )  # fmt: skip
    return values, blocks(*sizes), tuning, draw(st.integers(0, n + 3)), draw(st.integers(0, n))


@settings(max_examples=150, deadline=None)
@given(pools(), st.floats(1, 40), st.floats(1, 4))
def test_whatever_the_pool(
    case: tuple[np.ndarray, list[np.ndarray], Tuning, int, int], tokens: float, share: float
) -> None:
    values, rows_of, tuning, quota, most = case
    sizes = np.arange(len(values)) % 4
    cap = caps(np.array([len(rows) for rows in rows_of]), quota, len(values), share)
    found, asked = play(values, rows_of, quota, tuning, cap=cap, most=most, tokens=(sizes, tokens))
    again, _ = play(values, rows_of, quota, tuning, cap=cap, most=most, tokens=(sizes, tokens))
    taken = found.order.tolist()
    assert taken == again.order.tolist()
    assert len(taken) == len(set(taken)) <= quota
    assert sizes[taken].sum() <= tokens
    assert len(asked) == len(set(asked)) <= most
    assert sorted(asked) == np.flatnonzero(found.asked).tolist()
    assert sorted(taken) == np.flatnonzero(found.how > 0).tolist()
    assert not np.isnan(values[[row for row in taken if found.asked[row]]]).any()
    assert all(
        found.asked[row] == (found.how[row] != bandit.WITH_CLUSTER) or found.how[row] == bandit.FILLED for row in taken
    )
    for rows, most_rows in zip(rows_of, cap, strict=True):
        assert (found.how[rows] > 0).sum() <= most_rows


@settings(max_examples=100, deadline=None)
@given(pools(), st.floats(1, 40), st.floats(1, 4))
def test_caps_in_tokens(
    case: tuple[np.ndarray, list[np.ndarray], Tuning, int, int], tokens: float, share: float
) -> None:
    values, rows_of, tuning, _, most = case
    costs = np.arange(len(values)) % 7 + 1
    cap = caps(np.array([costs[rows].sum() for rows in rows_of]), tokens, int(costs.sum()), share)
    given = {"cap": cap, "tokens": (costs, tokens), "costs": costs, "most": most}
    found, _ = play(values, rows_of, len(values), tuning, **given)
    for rows, most_tokens in zip(rows_of, cap, strict=True):
        taken = [row for row in found.order if row in rows]
        assert costs[taken[:-1]].sum() < most_tokens or not taken  # the last row may go beyond the cap
    if most == len(values) and not np.isnan(values).any() and found.open:
        assert costs[found.order].sum() >= min(tokens, costs.sum())


@settings(max_examples=60, deadline=None)
@given(pools(), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(
    case: tuple[np.ndarray, list[np.ndarray], Tuning, int, int], random: object
) -> None:
    values, rows_of, tuning, quota, most = case
    found, _ = play(values, rows_of, quota, tuning, most=most)
    place = np.array(random.sample(range(len(values)), len(values)), np.int64)  # type: ignore[attr-defined]
    moved = np.empty_like(values)
    moved[place] = values
    other, _ = play(moved, [place[rows] for rows in rows_of], quota, tuning, most=most)
    assert place[found.order].tolist() == other.order.tolist()


def test_a_full_quota_can_always_be_reached_under_the_caps() -> None:
    sizes = np.array([1, 10, 89, 900])
    for quota in (1, 7, 100, 500, 1000):
        assert caps(sizes, quota, 1000, 1.0).sum() >= quota
    assert caps(sizes, 100, 1000, 3.0).tolist() == [1, 3, 27, 270]
    assert caps(sizes, 100, 1000, None).tolist() == sizes.tolist()


def test_clusters_do_not_depend_on_the_order_of_rows() -> None:
    rng = np.random.default_rng(1)
    spots = rng.normal(size=(5, 16))
    vectors = spots[rng.integers(0, 5, 200)] + rng.normal(0, 0.05, (200, 16))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    vectors[:3] = 0
    ties = rng.integers(0, 2**63, 200).astype(np.uint64)
    usable = np.ones(200, np.bool_)
    usable[0] = False
    found = group(vectors, usable, ties, 5, 7)
    place = rng.permutation(200)
    other = group(vectors[place], usable[place], ties[place], 5, 7)
    assert other.label.tolist() == found.label[place].tolist()
    assert [place[rows].tolist() for rows in other.rows] == [rows.tolist() for rows in found.rows]
    assert np.allclose(other.centres, found.centres, atol=1e-9)
    # Five clusters and one of the rows without a direction; the unusable row is in none.
    assert len(found.rows) == 6
    assert sorted(np.concatenate(found.rows).tolist()) == list(range(1, 200))
    assert found.label[0] == -1
    assert set(found.rows[found.label[1]].tolist()) == {1, 2}


@pytest.mark.parametrize("n", [0, 1, 2])
def test_tiny_pools_have_clusters_too(n: int) -> None:
    vectors = np.eye(3, 4, dtype=np.float16)[:n]
    found = group(vectors, np.ones(n, np.bool_), np.arange(n).astype(np.uint64), 50, 0)
    assert sum(map(len, found.rows)) == n
    assert all(len(rows) for rows in found.rows)


def test_equal_rows_make_fewer_clusters_than_asked() -> None:
    vectors = np.tile(np.eye(1, 4, dtype=np.float16), (20, 1))
    found = group(vectors, np.ones(20, np.bool_), np.arange(20).astype(np.uint64), 5, 0)
    assert len(found.rows) == 1


def test_default_number_of_clusters() -> None:
    assert [default_clusters(n) for n in (0, 5_000, 10**7)] == [8, 50, 2_000]


def test_shuffling_is_fixed_by_seed_and_content() -> None:
    ties = np.arange(1000).astype(np.uint64)
    assert shuffled(ties, 1).tolist() == shuffled(ties, 1).tolist() != shuffled(ties, 2).tolist()
    assert len(set(shuffled(ties, 3).tolist())) == 1000
    order = np.argsort(shuffled(ties, 4))
    assert abs(np.corrcoef(order, np.arange(1000))[0, 1]) < 0.1
