"""The `zipfit` stage: the published score by its definition, decisions, the cascade against exact scores."""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from pools import records
from pydantic import ValidationError
from zipfit_targets import TargetPool, rows
from zipfit_targets import run as run_with
from zipfit_targets import score as score_with

from schemas.errors import RecipeError
from stages.contract import Decisions
from stages.dsir.ngrams import words
from stages.zipfit import debias
from stages.zipfit import stage as stage_module
from stages.zipfit.debias import fit_line
from stages.zipfit.stage import ZipFit

WORDS = (
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "zeta",
    "eta",
    "theta",
    "iota",
    "kappa",
    "lambda",
    "mu",
    "nu",
    "xi",
    "pi",
    "rho",
    "sigma",
    "tau",
)
CODE = (
    "def",
    "return",
    "if",
    "else",
    "for",
    "in",
    "range",
    "print",
    "len",
    "list",
    "dict",
    "self",
    "None",
    "True",
    "(",
    ")",
    "[",
    "]",
    ":",
    "=",
    "==",
    "+",
    "-",
    "x",
    "y",
    "n",
)


def texts(seed: int, count: int, code_share: float = 0.3) -> list[str]:
    """Sentences and code-like lines, 3 to 120 words."""
    draw = random.Random(seed)
    out = []
    for k in range(count):
        vocabulary = CODE if draw.random() < code_share else WORDS
        out.append(" ".join(draw.choices(vocabulary, k=draw.randint(3, 120))) + f" {k}")
    return out


TARGETS = texts(1, 12, 1.0)


FILES: dict[str, Sequence[str | None]] = {
    "t": TARGETS,
    "other": texts(2, 5, 0.0),
    "empty": [None, ""],
    "huge": ["x y " * 60_000],
}


def run(stage: ZipFit, table: pa.Table, batch_size: int = 1000) -> Decisions:
    return run_with(stage, table, FILES, batch_size)


def score(stage: ZipFit, table: pa.Table, batch_size: int = 1000) -> TargetPool:
    return score_with(stage, table, FILES, batch_size)


def gzip_length(text: str, level: int) -> int:
    return len(zlib.compress(text.encode("utf-8", "surrogatepass"), level, 31))


def alignment(text: str, target: str, level: int) -> float:
    x, t, both = (gzip_length(item, level) for item in (text, target, text + target))
    return (x + t - both) / max(x, t)


def details(decided: Decisions) -> list[dict[str, float | bool | None]]:
    return [json.loads(item) for item in pa.array(decided.detail).to_pylist()]


@pytest.mark.parametrize("level", [1, 6, 9])
def test_the_published_score(level: int) -> None:
    pool = [*texts(3, 40), "", "😀 漢字", "\n"]
    decided = run(ZipFit(target=("t",), keep=10, mode="zipfit", level=level), records(rows(pool)), batch_size=7)
    expected = np.array([np.mean([alignment(text, t, level) for t in TARGETS]) for text in pool])
    assert decided.score == pytest.approx(expected, abs=1e-12)
    assert set(np.flatnonzero(decided.keep)) == set(np.argsort(-expected)[:10])


def test_score_columns_and_aggregation() -> None:
    pool = texts(4, 20)
    table = records(rows(pool))
    each = np.array([[alignment(text, t, 6) for t in TARGETS] for text in pool])
    for aggregate, expected in (
        ("mean", each.mean(axis=1)),
        ("max", each.max(axis=1)),
        ("top_m", np.sort(each, axis=1)[:, -3:].mean(axis=1)),
    ):
        stage = ZipFit(target=("t",), keep=5, aggregate=aggregate, top_m=3, per_target=True)
        found = score(stage, table, batch_size=6).table(["alignment", "best_target", "per_target", "c_x", "n_tokens"])
        assert found["alignment"].to_numpy() == pytest.approx(expected, abs=1e-12)
        assert found["best_target"].to_pylist() == [f"{k:032x}" for k in each.argmax(axis=1)]
        assert np.array(found["per_target"].to_pylist()) == pytest.approx(each, abs=1e-6)
        assert found["c_x"].to_pylist() == [gzip_length(text, 6) for text in pool]
        assert found["n_tokens"].to_pylist() == [len(words(text)) for text in pool]


def test_weights_of_target_sets() -> None:
    pool = texts(5, 15)
    sets = ({"path": "t", "weight": 3}, "other")
    decided = run(ZipFit(target=sets, keep=3, mode="zipfit"), records(rows(pool)))
    shares = [(TARGETS, 0.75), (texts(2, 5, 0.0), 0.25)]
    expected = [sum(share * np.mean([alignment(x, t, 6) for t in group]) for group, share in shares) for x in pool]
    assert decided.score == pytest.approx(np.array(expected), abs=1e-12)


@pytest.mark.parametrize("cascade", [False, True])
def test_a_weight_is_the_same_share_in_both_halves_of_the_score(cascade: bool) -> None:
    """As if a set's rows were repeated until they have that share of all target rows."""
    table = records(rows(texts(16, 60)))
    one, other = texts(17, 4, 1.0), texts(18, 2, 0.0)
    files = {"one": one, "other": other, "all": one * 3 + other * 2}
    sets = ({"path": "one", "weight": 3}, "other")
    for mode in ("debiased", "zipfit"):
        common = {"keep": 20, "mode": mode, "cascade": cascade, "laplace": 0.0}  # which weighs less the more rows
        weighted = run_with(ZipFit(target=sets, **common), table, files)
        repeated = run_with(ZipFit(target=("all",), **common), table, files)
        assert weighted.score == pytest.approx(repeated.score, abs=1e-9)
        assert weighted.keep.tolist() == repeated.keep.tolist()


@pytest.mark.parametrize("aggregate", ["max", "top_m"])
def test_weights_go_with_a_mean_only(aggregate: str) -> None:
    with pytest.raises(ValidationError, match=f"share in a mean: `aggregate: {aggregate}` takes none"):
        ZipFit(target=({"path": "t", "weight": 3}, "other"), keep=3, aggregate=aggregate)
    ZipFit(target=({"path": "t", "weight": 1}, "other"), keep=3, aggregate=aggregate)


def test_debiased_prefers_the_target_at_every_length() -> None:
    draw = random.Random(6)
    pool = [" ".join(draw.choices(CODE if k % 5 == 0 else WORDS, k=3 + k // 4)) + f" {k}" for k in range(400)]
    decided = run(ZipFit(target=("t",), keep=80), records(rows(pool)))
    assert decided.keep[::5].reshape(10, 8).sum(axis=1).min() >= 7  # in every tenth of the lengths
    assert all(item["exact"] and item["dsir"] is not None for item in details(decided))


def test_the_line_takes_length_out() -> None:
    draw = np.random.default_rng(0)
    length = draw.uniform(30, 600, 4_000)
    value = 10 + 7 * np.log(length) + draw.normal(0, 2, 4_000)
    line = fit_line(length, value)
    assert line == pytest.approx((10, 7, 2), rel=0.05)
    assert abs(np.corrcoef(length, value - debias.expected(line, length))[0, 1]) < 0.02
    assert fit_line(np.array([30.0, 30.0]), np.array([1.0, 1.0])) == (1, 0, 1)


def test_order_of_rows_and_batches_change_nothing() -> None:
    pool = texts(7, 60)
    stage = ZipFit(target=("t",), keep=0.3)
    one = run(stage, records(rows(pool)), batch_size=60)
    other = run(stage, records(rows(pool[::-1])), batch_size=7)
    assert one.keep.tolist() == other.keep.tolist()[::-1]
    assert one.score == pytest.approx(other.score[::-1], abs=1e-9)


def test_equal_scores_go_by_content_hash() -> None:
    pool = [f"{a}{b} 1" for a in "ab" for b in "xyz"]
    hashes = records(rows(pool))["content_hash"].to_pylist()
    keep = run(ZipFit(target=("other",), keep=2, mode="zipfit"), records(rows(pool))).keep
    scores = run(ZipFit(target=("other",), keep=2, mode="zipfit"), records(rows(pool))).score
    assert sorted(zip(-scores, hashes, strict=True))[:2] == sorted(
        (-s, h) for s, h, k in zip(scores, hashes, keep, strict=True) if k
    )


def test_quotas() -> None:
    table = records(rows(texts(8, 40)))
    assert run(ZipFit(target=("t",), keep=0.25), table).keep.sum() == 10
    assert run(ZipFit(target=("t",), keep=40), table).keep.all()
    too_many = run(ZipFit(target=("t",), keep=99), table)
    assert too_many.keep.all()
    assert "keep asks for 99 rows, but only 40" in too_many.warnings[0]
    pool = score(ZipFit(target=("t",), keep={"tokens": 200}), table)
    decided = ZipFit(target=("t",), keep={"tokens": 200}).decide(pool)
    spent = pool.table(["n_tokens"])["n_tokens"].to_numpy()[decided.keep].sum()
    assert 0 < spent <= 200
    assert not run(ZipFit(target=("t",), keep={"tokens": 1}), table).keep.any()


@pytest.mark.parametrize("mode", ["zipfit", "debiased"])
def test_odd_rows_and_targets(mode: str) -> None:
    pool: list[str | None] = [None, "", "a", *TARGETS, "long " * 30_000]
    decided = run(ZipFit(target=("t",), keep=5, mode=mode), records(rows(pool)))
    assert pa.array(decided.reason).to_pylist()[0] == "no text to compare"
    assert not decided.keep[0]
    assert decided.keep.sum() == 5
    nothing = run(ZipFit(target=("t",), keep=5, mode=mode), records(rows([None, None])))
    assert not nothing.keep.any()
    assert run(ZipFit(target=("huge",), keep=2, mode=mode), records(rows(["x y", "b", "c"]))).keep.sum() == 2
    with pytest.raises(RecipeError, match="no row with a text"):
        run(ZipFit(target=("t", "empty"), keep=5, mode=mode), records(rows(pool)))


def test_parameters_that_cannot_work() -> None:
    with pytest.raises(ValidationError, match="level 0 stores without compressing"):
        ZipFit(target=("t",), keep=5, level=0)
    for wrong in ({"keep": 0}, {"keep": 1.5}, {"keep": {"tokens": 0}}, {"target": ()}, {"level": 10}):
        with pytest.raises(ValidationError):
            ZipFit(**{"target": ("t",), "keep": 5, **wrong})


def test_without_kernel_and_with_another_zlib(monkeypatch: pytest.MonkeyPatch) -> None:
    ZipFit(target=("t",), keep=5).check()
    monkeypatch.setattr(stage_module, "native", lambda: None)
    monkeypatch.setattr(stage_module, "zlib_is_classic", lambda: False)
    with pytest.raises(RecipeError, match="kernel is not built"):
        ZipFit(target=("t",), keep=5).check()


def test_diversity_leaves_near_twins_out() -> None:
    draw = random.Random(9)
    base = [" ".join(draw.choices(CODE, k=60)) for _ in range(10)]
    pool = [text for one in base for text in (one, one + " x", one + " y")]
    plain = run(ZipFit(target=("t",), keep=10), records(rows(pool)))
    diverse = run(ZipFit(target=("t",), keep=10, max_similarity=0.8), records(rows(pool)))
    assert diverse.keep.reshape(10, 3).sum(axis=1).tolist() == [1] * 10
    assert plain.keep.reshape(10, 3).sum(axis=1).tolist() != [1] * 10


@pytest.mark.parametrize(("mode", "aggregate"), [("zipfit", "mean"), ("debiased", "mean"), ("zipfit", "max")])
def test_cascade_finds_what_exhaustive_scoring_finds(mode: str, aggregate: str) -> None:
    table = records(rows([*texts(10, 3_000, 0.1), None, ""]))
    common = {"target": ("t",), "keep": 60, "mode": mode, "aggregate": aggregate}
    exact = run(ZipFit(**common, cascade=False), table)
    quick = run(ZipFit(**common, cascade=True), table)
    assert (exact.keep & quick.keep).sum() >= 59
    found = [item for item, yes in zip(details(quick), quick.keep, strict=True) if yes]
    truth = [item for item, yes in zip(details(exact), quick.keep, strict=True) if yes]
    name = "gain" if mode == "debiased" else "alignment"
    assert all(item["exact"] for item in found)
    assert [item[name] for item in found] == [item[name] for item in truth]
    evaluated = sum(bool(item["exact"]) for item in details(quick))
    assert evaluated < 1_500
    assert f"{evaluated:,} of 3,002 rows scored exactly" in quick.warnings[0]


def test_cascade_when_everything_is_kept_or_little_is_there() -> None:
    small = records(rows([*texts(11, 12), None]))
    for keep in (3, 12, 50):
        decided = run(ZipFit(target=("t",), keep=keep, cascade=True, mode="zipfit"), small)
        assert decided.keep.sum() == min(keep, 12)
    assert not run(ZipFit(target=("t",), keep=3, cascade=True), records(rows([None]))).keep.any()


def test_auto_cascade_goes_by_the_size_of_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    table = records(rows(texts(12, 30)))
    assert not run(ZipFit(target=("t",), keep=3), table).warnings
    monkeypatch.setattr(stage_module, "CASCADE_FROM", 30)
    assert "cascade" in run(ZipFit(target=("t",), keep=3), table).warnings[0]


def spent(table: pa.Table, keep: np.ndarray) -> int:
    return sum(len(words(text)) for text in np.array(table["text"].to_pylist())[keep])


def evaluated(decided: Decisions) -> int:
    """Rows with an exact score, which the run's warning counts too."""
    count = sum(bool(item["exact"]) for item in details(decided))
    assert f"{count:,} of {len(decided.keep):,} rows scored exactly" in decided.warnings[0]
    return count


@pytest.mark.parametrize("mode", ["zipfit", "debiased"])
@pytest.mark.parametrize("budget", [1, 2_000, 10_000_000])
def test_a_cascade_fills_a_token_budget_with_the_best_rows(mode: str, budget: int) -> None:
    """Where the rows that fit are much shorter than the average one, it takes many more of them."""
    draw = random.Random(13)
    pool = [" ".join(draw.choices(WORDS if k % 3 == 0 else CODE, k=900 if k % 30 == 0 else 12)) for k in range(3_000)]
    target = [" ".join(draw.choices(CODE, k=12)) for _ in range(24)]
    table = records(rows(pool))
    common = {"target": ("t",), "keep": {"tokens": budget}, "mode": mode, "level": 1}
    exact = run_with(ZipFit(**common, cascade=False), table, {"t": target})
    quick = run_with(ZipFit(**common, cascade=True), table, {"t": target})
    assert quick.keep.tolist() == exact.keep.tolist()
    assert spent(table, quick.keep) == min(spent(table, np.ones(3_000, np.bool_)), 12 * (budget // 12))
    assert all(item["exact"] for item, yes in zip(details(quick), quick.keep, strict=True) if yes)
    assert evaluated(quick) < {1: 800, 2_000: 1_500, 10_000_000: 3_001}[budget]
    assert "estimated recall 1.0000" in quick.warnings[0]


def test_a_cascade_finds_as_many_dissimilar_rows_as_there_are() -> None:
    draw = random.Random(14)
    base = [" ".join(draw.choices(CODE, k=40)) for _ in range(120)]
    near = [f"{one} x{k}" for one in base[:60] for k in range(8)]
    table = records(rows([*base[60:], *near, *texts(15, 1_500, 0.0)]))
    for keep in (100, {"tokens": 4_500}):
        common = {"target": ("t",), "keep": keep, "mode": "zipfit", "max_similarity": 0.7}
        exact = run(ZipFit(**common, cascade=False), table)
        quick = run(ZipFit(**common, cascade=True), table)
        assert quick.keep.tolist() == exact.keep.tolist()
        assert all(item["exact"] for item, yes in zip(details(quick), quick.keep, strict=True) if yes)
        assert evaluated(quick) < 2_040


def test_dissimilar_rows_that_are_not_there_are_searched_for_everywhere() -> None:
    table = records(rows([f"def f(x): return x + 1 and then some more of the same {'!' * k}" for k in range(700)]))
    decided = run(ZipFit(target=("t",), keep=5, cascade=True, max_similarity=0.3), table)
    assert decided.keep.sum() < 5
    assert evaluated(decided) == 700
    assert f"only {decided.keep.sum()} can be kept" in decided.warnings[1]
