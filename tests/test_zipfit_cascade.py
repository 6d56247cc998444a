"""The search on values that are known, so that recall and the number of evaluations can be checked."""

from __future__ import annotations

import numpy as np
import pytest

from stages.zipfit.cascade import Affine, Found, Pilots, Problem, Search, choose_pivots, pilot_rows, pivot_counts
from stages.zipfit.regression import fit_model

N = 20_000


class World:
    """Rows with a true value, a cheap feature and two sharper ones; counts what is asked for."""

    def __init__(self, noise: float, heavy_tail: bool = False) -> None:
        draw = np.random.default_rng(0)
        self.truth = draw.normal(0, 1, N)
        errors = draw.standard_t(3, N) if heavy_tail else draw.normal(0, 1, N)
        self.cheap = (self.truth + noise * errors)[:, None]
        self.sharp = self.truth[:, None] + np.outer(errors, [noise / 4, noise / 8])
        self.ties = draw.integers(0, 2**63, N).astype(np.uint64)
        self.usable = np.ones(N, np.bool_)
        self.evaluated, self.sharpened = 0, {1: 0, 2: 0}

    def find(self, k: int, rank: Affine | None = None) -> Found:
        return self.search(rank).find(k)

    def search(self, rank: Affine | None = None) -> Search:
        def pivots(rows: np.ndarray, count: int) -> np.ndarray:
            self.sharpened[count] += len(rows)
            return self.sharp[rows, :count]

        def exact(rows: np.ndarray) -> np.ndarray:
            self.evaluated += len(rows)
            return self.truth[rows]

        pilots = pilot_rows(self.ties, self.usable)
        problem = Problem((1, 2), lambda rows: self.cheap[rows], pivots, exact)
        plain = rank or Affine(1.0, np.zeros(N))
        return Search(problem, Pilots(pilots, self.sharp[pilots], self.truth[pilots]), self.usable, plain)


def recall(found: Found, score: np.ndarray, k: int) -> float:
    """Share of the best `k` by `score` that are the best `k` of the exactly evaluated."""
    best = set(np.argsort(-score)[:k].tolist())
    return len(best & set(np.argsort(-np.where(found.is_exact, score, -np.inf))[:k].tolist())) / k


@pytest.mark.parametrize("k", [1, 200, 2_000])
@pytest.mark.parametrize("heavy_tail", [False, True])
def test_finds_the_best_with_few_evaluations(k: int, heavy_tail: bool) -> None:
    world = World(0.3, heavy_tail)
    found = world.find(k)
    assert recall(found, world.truth, k) >= 0.995
    assert np.array_equal(found.value[found.is_exact], world.truth[found.is_exact])
    assert world.evaluated < 2 * k + 2_000
    if not heavy_tail:
        assert world.evaluated <= world.sharpened[2] <= world.sharpened[1] < 0.75 * N


def test_a_score_that_depends_on_the_row_as_well() -> None:
    world = World(0.2)
    draw = np.random.default_rng(1)
    rank = Affine(draw.uniform(0.5, 2), draw.normal(0, 3, N))
    assert recall(world.find(200, rank), rank.slope * world.truth + rank.offset, 200) >= 0.995


def test_useless_features_cost_evaluations_and_not_recall() -> None:
    world = World(50.0)
    assert recall(world.find(200), world.truth, 200) == 1.0


def test_all_rows_none_and_rows_without_a_value() -> None:
    assert World(0.3).find(N).is_exact.all()
    assert World(0.3).find(0).is_exact.sum() == 500  # the pilots
    assert World(0.3).find(2 * N).is_exact.all()
    world = World(0.3)
    world.usable[::2] = False
    found = world.find(N)
    assert np.array_equal(found.is_exact, world.usable)
    assert np.isnan(found.value[::2]).all()


def test_few_targets_need_no_pivots() -> None:
    assert [pivot_counts(targets) for targets in (1, 15, 16, 63, 64)] == [(), (), (8,), (8,), (8, 32)]
    world = World(0.3)
    search = world.search()
    problem = search.problem._replace(counts=())
    rows = np.flatnonzero(search.is_exact)
    pilots = Pilots(rows, np.empty((len(rows), 0)), world.truth[rows])
    found = Search(problem, pilots, world.usable, search.rank).find(200)
    assert recall(found, world.truth, 200) >= 0.995
    assert world.sharpened == {1: 0, 2: 0}
    assert found.is_exact.sum() < N / 2


def test_a_margin_comes_from_the_better_half_of_the_pilots_and_from_what_was_evaluated() -> None:
    draw = np.random.default_rng(7)
    features = draw.uniform(-1, 1, (1_000, 1))
    noise = np.where(features[:, 0] < -0.3, 5.0, 0.1) * draw.uniform(-1, 1, 1_000)
    model = fit_model(features, 20 * features[:, 0] + noise)
    assert model.margin < 1 < model.errors.max()
    assert model.learn(np.array([2.0])).margin > model.margin


def test_expected_missed_is_small_when_little_is_missed() -> None:
    search = World(0.3).search()
    search.find(200)
    assert 0 <= search.expected_missed(200) < 5
    assert search.expected_missed(0) == 0
    assert search.expected_missed(20) <= search.expected_missed(200) < search.expected_missed(2_000)


@pytest.mark.parametrize("heavy_tail", [False, True])
def test_a_search_that_goes_on_finds_as_much_for_as_little(heavy_tail: bool) -> None:
    world = World(0.3, heavy_tail)
    search = world.search()
    for k in (50, 200, 120, 900, 2_000):
        found = search.find(k)
        assert recall(found, world.truth, k) >= 0.995
        assert np.array_equal(found.value[found.is_exact], world.truth[found.is_exact])
    assert world.evaluated == found.is_exact.sum() - 500  # the pilots; and no row twice
    assert world.evaluated < 2 * 2_000 + 2_000
    assert search.find(N).is_exact.all()


def test_pilots_do_not_depend_on_the_order_of_rows() -> None:
    ties = np.random.default_rng(2).permutation(5_000).astype(np.uint64)
    usable = ties % 3 > 0
    order = np.random.default_rng(3).permutation(5_000)
    one = ties[pilot_rows(ties, usable, 100)]
    other = ties[order][pilot_rows(ties[order], usable[order], 100)]
    assert one.tolist() == other.tolist()
    assert (one % 3 > 0).all()


def test_pivots_explain_the_mean() -> None:
    draw = np.random.default_rng(4)
    group = draw.normal(size=(500, 3))
    values = np.repeat(group, [5, 3, 2], axis=1) + 0.01 * draw.normal(size=(500, 10))
    chosen = choose_pivots(values, values.mean(axis=1), 3)
    assert sorted(np.searchsorted([5, 8], chosen, side="right")) == [0, 1, 2]  # one of each group
    assert len(choose_pivots(values, values.mean(axis=1), 50)) == 10
