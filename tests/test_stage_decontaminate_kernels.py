"""The kernels of decontamination against the same thing spelled out."""

from __future__ import annotations

import unicodedata
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from decontam import items, run, runs, score, share, stage, words_of
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import records

from stages.decontaminate.code import code_spans, lex, renamed
from stages.decontaminate.fit import frequencies
from stages.decontaminate.grams import build, lookup
from stages.decontaminate.tokens import word_spans, words
from stages.dedup.texts import composed

TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60)


@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_composed_is_nfc(texts: list[str]) -> None:
    assert composed(pa.array(texts)).to_pylist() == [unicodedata.normalize("NFC", text) for text in texts]


@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_words_are_those_of_dedup(texts: list[str]) -> None:
    texts = [unicodedata.normalize("NFC", text) for text in texts]
    found = words(pa.array(texts))
    expected = [words_of(text) for text in texts]
    assert np.diff(found.ends).tolist() == [len(one) for one in expected]
    for row, one in enumerate(expected):
        numbers = np.arange(len(one))
        spans = word_spans(pa.array([texts[row]] * len(one), pa.string()), numbers, numbers)
        assert [texts[row][a:b].lower() for a, b in spans[:2].T] == one


def test_equal_runs_have_equal_hashes_wherever_they_stand() -> None:
    found = words(pa.array(["a b c d", "x a B, c! y", "b c"]))
    one = found.stream
    power = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        hashes = [one[start + 2] - one[start] * power * power for start in (1, 6, 9)]
    assert hashes[0] == hashes[1] == hashes[2]


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("for i in range(n): total += i", "for k in range(m): s += k", True),
        ("for i in range(n): total += i", "for k in range(m): s += s", False),
        ("for i in range(n): total += n", "for i in range(n): total += i", False),
        ("x.append(y)", "x.extend(y)", False),
        ("x = 'a'", 'x = "a"', True),
        ("x = 'a'", "x = 'b'", False),
        ("f'{x} {y}'", 'f"{long} {names}"', True),
        ("x = 1  # one", "x = 1", True),
        ("def f(x):\n  '''Doc.'''\n  return x", "def g(y):\n  return y", True),
        ("a // b", "a", False),
        ("  // note\na + b", "a + b", True),
        ("a /* b */ + c", "a + c", True),
        ("don't x", "dont x", False),
        ("x = 1", "x = 2", False),
    ],
)
def test_code_is_compared_regardless_of_names(left: str, right: str, same: bool) -> None:
    code = lex(pa.array([left, right]))
    sizes = np.diff(code.ends)
    hashes = [renamed(code.values, code.names, code.ends[k], sizes[k]) for k in (0, 1)]
    assert (hashes[0] == hashes[1]) == same


@given(st.text(alphabet="ab1 \n\"'#/*.(){}\\é", max_size=40))
def test_code_tokens_stand_where_they_are_said_to(text: str) -> None:
    count = int(lex(pa.array([text])).ends[1])
    numbers = np.arange(count)
    spans = code_spans(pa.array([text] * count, pa.string()), numbers, numbers)
    assert np.all(spans[0] < spans[1])
    assert np.all(spans[0, 1:] >= spans[1, :-1])
    assert all(not text[a:b].isspace() for a, b in spans[:2].T)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4), st.integers(0, 2)), max_size=40))
def test_frequencies(postings: list[tuple[int, int, int]]) -> None:
    columns = np.array(postings, dtype=np.int64).reshape(-1, 3)
    owners, files = columns[:, 1] * 3 + columns[:, 2], columns[:, 2]
    found = frequencies(columns[:, 0].astype(np.uint64), owners, files)
    texts = {(hashed, owner, file) for hashed, owner, file in postings}
    for (value, _, _), count in zip(postings, found, strict=True):
        per_file = Counter(file for hashed, _, file in texts if hashed == value)
        assert count == max(per_file.values())


@given(st.sets(st.integers(0, 2**64 - 1), max_size=50), st.integers(0, 2**64 - 1))
def test_lookup(values: set[int], other: int) -> None:
    hashes = np.array(sorted(values), dtype=np.uint64)
    grams = build(hashes, np.arange(len(hashes)), np.zeros(len(hashes), dtype=np.int64))
    for value in [*values, other]:
        at = lookup(np.uint64(value), grams.keys, grams.slots)
        assert (at >= 0) == (value in values)
        assert at < 0 or int(grams.keys[at]) == value


WORD = st.sampled_from(["alpha", "beta", "gamma", "delta", "1", "2", "+"])
SENTENCE = st.lists(WORD, min_size=8, max_size=40).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(st.lists(SENTENCE, min_size=1, max_size=4, unique=True), st.lists(SENTENCE, min_size=1, max_size=4))
def test_shares_against_brute_force(questions: list[str], texts: list[str]) -> None:
    it = stage(ngram=6, short_ngram=5, common_items=2)
    found = score(it, records([{"text": text} for text in texts]), items([{"prompt": one} for one in questions]))
    sized = {one: 5 if len(words_of(one)) < 12 else 6 for one in questions}
    common = {size: Counter(r for one in questions if sized[one] == size for r in runs(one, size)) for size in (5, 6)}
    lists = found.table(["matches"])["matches"].to_pylist()
    for text, matches in zip(texts, lists, strict=True):
        got = {match["item"]: match["share"] for match in matches if match["how"] == 0}
        for number, one in enumerate(questions):
            expected = share(one, text, sized[one], common[sized[one]], 2)
            if expected >= 0.2:
                assert got[number] == pytest.approx(expected)
            else:
                assert number not in got


def test_a_row_that_repeats_an_item_twenty_thousand_times() -> None:
    question = " ".join(f"word{n}" for n in range(30))
    decisions = run(stage(), records([{"text": f"{question} " * 20_000}]), items([{"prompt": question}]))
    assert decisions.reason[0] == "contaminated: question of items; item/0, 100% of its words"
