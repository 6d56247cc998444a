"""The `dsir` stage: n-grams and weights against plain Python, decisions against their definition."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import records
from pydantic import ValidationError
from zipfit_targets import run as run_with
from zipfit_targets import score as score_with

from schemas.errors import RecipeError
from stages.contract import Decisions
from stages.dsir import ngrams
from stages.dsir.ngrams import ngram_column, word_counts
from stages.dsir.stage import Dsir
from stages.dsir.weights import weighted_counts
from stages.zipfit.ranking import tie_breaker

CODE = ["def f(x): return x + 1", "for i in range(10): print(i)", "def g(n): return n * 2"]
PROSE = ["The cat sat on the mat.", "It was a dark and stormy night.", "She sold sea shells by the sea shore."]


FILES: dict[str, list[str | None]] = {
    "t": list(CODE),
    "none": ["", None],
    "prose": [*PROSE, None],
    "both": CODE + PROSE,
    "more code": CODE * 3 + PROSE,
    "code twice": CODE * 2,
    "line": CODE[:1],
    "line as often": CODE[:1] * 3 + PROSE,
}


def run(stage: Dsir, table: pa.Table, batch_size: int = 1000) -> Decisions:
    return run_with(stage, table, FILES, batch_size)


def plain_counts(text: str, buckets: int) -> np.ndarray:
    """Features as `data-selection` 1.0.3 defines them."""
    out = np.zeros(buckets, np.int64)
    tokens = regex.findall(r"\w+|[^\w\s]+", text.lower())
    for gram in [*tokens, *(" ".join(pair) for pair in pairwise(tokens))]:
        out[int(hashlib.sha256(gram.encode("utf-8")).hexdigest(), 16) % buckets] += 1
    return out


TEXTS = st.text(max_size=90) | st.text("aZz_09 .,-\t\x00\x1c\x7f") | st.text("aZ_ .,é漢\xa0\x85İ\x1c")


@given(st.lists(TEXTS, max_size=5), st.sampled_from([1, 97, 10_000, 65_536]))
@settings(max_examples=300, deadline=None)
def test_ngrams_equal_plain_python(texts: list[str], buckets: int) -> None:
    column, sizes = ngram_column(texts, buckets)
    assert sizes.to_pylist() == [len(regex.findall(r"\w+|[^\w\s]+", text.lower())) for text in texts]
    assert word_counts(texts).equals(sizes)
    for text, row in zip(texts, column.to_pylist(), strict=True):
        assert np.array_equal(np.bincount(np.array(row, np.int64), minlength=buckets), plain_counts(text, buckets))


def test_every_two_ascii_characters_make_the_words_of_the_expression() -> None:
    """The kernel's own notion of words is for ASCII."""
    texts = [chr(a) + chr(b) + "x" for a in range(128) for b in range(128)]
    assert word_counts(texts).to_pylist() == [len(regex.findall(r"\w+|[^\w\s]+", text)) for text in texts]


def test_long_words_and_the_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["x" * size for size in (54, 55, 56, 63, 64, 65, 119, 120, 1000)] + ["a b", "", "é漢😀 " * 40, "\ud800 x"]
    compiled = ngram_column(texts)
    monkeypatch.setattr(ngrams, "native", lambda: None)
    plain = ngram_column(texts)
    assert [sorted(row) for row in compiled[0].to_pylist()] == [sorted(row) for row in plain[0].to_pylist()]
    assert compiled[1].equals(plain[1])
    assert compiled[1].equals(word_counts(texts))


def plain_weights(texts: list[str], targets: list[str], laplace: float) -> np.ndarray:
    rows = np.array([plain_counts(text, 10_000) for text in texts])
    target, raw = sum(plain_counts(text, 10_000) for text in targets) + laplace, rows.sum(axis=0) + laplace
    return rows @ (np.log(target / target.sum() + 1e-8) - np.log(raw / raw.sum() + 1e-8))


@pytest.mark.parametrize("laplace", [0.0, 0.1])
def test_weights_follow_the_formula(laplace: float) -> None:
    table = records([{"text": text} for text in CODE + PROSE])
    decided = run(Dsir(target=("t",), keep=3, choose="top", laplace=laplace), table, batch_size=2)
    assert decided.score == pytest.approx(plain_weights(CODE + PROSE, CODE, laplace), abs=1e-6)
    assert decided.keep.tolist() == [True] * 3 + [False] * 3
    mean = run(Dsir(target=("t",), keep=3, normalise="per_token", laplace=laplace), table)
    grams = [plain_counts(text, 10_000).sum() for text in CODE + PROSE]
    assert mean.score == pytest.approx(decided.score / np.array(grams), abs=1e-6)


@pytest.mark.parametrize("normalise", ["sum", "per_token"])
@pytest.mark.parametrize(
    ("sets", "file"),
    [
        (["t", "prose"], "both"),
        ([{"path": "t", "weight": 3}, "prose"], "more code"),
        ([{"path": "t", "weight": 0.75}, {"path": "prose", "weight": 0.25}], "more code"),
        ([{"path": "code twice", "weight": 3}, "prose"], "more code"),  # whatever its number of rows
        (["line", "prose"], "line as often"),
        ([{"path": "line", "weight": 7}], "line"),
    ],
)
def test_a_weight_is_the_share_of_a_set_in_the_target(normalise: str, sets: list[object], file: str) -> None:
    """As if its rows were repeated until they have that share of all target rows."""
    table = records([{"text": text} for text in CODE + PROSE])
    weighted = run(Dsir(target=sets, keep=3, choose="top", normalise=normalise), table)
    repeated = run(Dsir(target=(file,), keep=3, choose="top", normalise=normalise), table)
    assert weighted.score == pytest.approx(repeated.score, abs=1e-9)
    assert weighted.keep.tolist() == repeated.keep.tolist()


def test_rows_of_equal_weight_count_exactly_once() -> None:
    column, _ = ngram_column(CODE * 49)
    expected = sum(plain_counts(text, 10_000) for text in CODE * 49)
    assert weighted_counts(column, np.full(147, 1 / 147), 10_000).tolist() == expected.tolist()


def test_draws_follow_the_seed_and_not_the_order() -> None:
    rows = [{"text": f"{text} {k}"} for k in range(40) for text in CODE + PROSE]
    stage = Dsir(target=("t",), keep=0.25)

    def kept(stage: Dsir, order: list[dict[str, str]]) -> set[str]:
        keep = run(stage, records(order)).keep
        return {row["text"] for row, yes in zip(order, keep, strict=True) if yes}

    assert kept(stage, rows) == kept(stage, rows[::-1])
    assert len(kept(stage, rows)) == 60
    assert kept(stage, rows) != kept(Dsir(target=("t",), keep=0.25, seed=1), rows)


def test_a_draw_takes_rows_in_proportion_to_their_weight() -> None:
    noise = Dsir(target=("t",), keep=1)._noise(np.arange(200_000, dtype=np.uint64))
    assert noise.mean() == pytest.approx(0.5772, abs=0.01)  # Euler's constant
    assert noise.var() == pytest.approx(np.pi**2 / 6, abs=0.03)


def test_odd_rows() -> None:
    table = records([{"text": "a b c"}, {"text": ""}, {"text": None}, {"text": "a"}])
    decided = run(Dsir(target=("t",), keep=9, min_words=2), table)
    assert decided.keep.tolist() == [True, False, False, False]
    assert list(pa.array(decided.reason).to_pylist())[1:] == [
        "fewer than 2 words",
        "no text to compare",
        "fewer than 2 words",
    ]
    assert "only 1 can be kept" in decided.warnings[0]
    with pytest.raises(RecipeError, match="no row with a text"):
        run(Dsir(target=("none",), keep=1), table)
    assert len(run(Dsir(target=("t",), keep=1), table.slice(0, 0)).keep) == 0


def test_tokens_as_budget() -> None:
    table = records([{"text": text} for text in CODE + PROSE])
    stage = Dsir(target=("t",), keep={"tokens": 30}, choose="top")
    pool = score_with(stage, table, FILES)
    tokens = pool.table(["n_tokens"])["n_tokens"].to_numpy()
    keep = stage.decide(pool).keep
    assert 0 < tokens[keep].sum() <= 30


def test_contradictory_parameters() -> None:
    with pytest.raises(ValidationError, match="gumbel"):
        Dsir(target=("t",), keep=1, choose="gumbel", normalise="per_token")
    with pytest.raises(ValidationError):
        Dsir(target=(), keep=1)


def test_tie_breakers_are_the_leading_digits() -> None:
    hashes = ["00ff00ff00ff00ffaaaaaaaaaaaaaaaa", "0123456789abcdef0000000000000000", "f" * 32]
    column = pa.array(["x" * 32, *hashes])[1:]
    assert tie_breaker(column).tolist() == [int(text[:16], 16) for text in hashes]
    assert len(tie_breaker(column[:0])) == 0
