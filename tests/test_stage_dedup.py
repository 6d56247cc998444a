"""The `dedup` stage: what it drops, for whom, and that nothing but content and rank matters."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from datasketch import MinHash, MinHashLSH
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pools import records, run, score
from pydantic import ValidationError

from schemas import room
from stages.contract import Decisions
from stages.dedup import Dedup, lsh, near, resolve, spool, verify
from stages.dedup.lazy import LazyStrings
from stages.dedup.sketch import Backend, shingles_of

BACKENDS: tuple[Backend, ...] = ("one-permutation", "k-permutation", "datasketch")
INIT = spool.Spool.__init__
EVERY_PAIR = {"bands": 128, "rows": 1}
"""With a band per hash a pair of similarity 0.3 is missed once in 10^20 times: LSH drops out of the picture."""


def texts(*values: str | None, **columns: list[Any]) -> pa.Table:
    rows = [{"text": value} for value in values]
    for name, column in columns.items():
        rows = [{**row, name: value} for row, value in zip(rows, column, strict=True)]
    return records(rows)


def outcome(decisions: Decisions) -> list[tuple[bool, str, int]]:
    assert decisions.related is not None
    assert isinstance(decisions.reason, LazyStrings)
    return list(zip(decisions.keep.tolist(), decisions.reason.to_pylist(), decisions.related.tolist(), strict=True))


def words(start: int, stop: int) -> str:
    return " ".join(f"w{k}" for k in range(start, stop))


# --- exact copies ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["exact", "near"])
def test_exact_copies_differ_in_case_and_white_space_only(mode: str) -> None:
    table = texts("Hello  World", "hello world\n", "hello worlds", "héllo", "he\u0301llo")
    decisions = run(Dedup.model_validate({"mode": mode}), table)
    assert outcome(decisions) == [
        (True, "kept: survivor of 2", -1),
        (False, "duplicate: exact", 0),
        (True, "kept: unique", -1),
        (True, "kept: survivor of 2", -1),
        (False, "duplicate: exact", 3),
    ]
    assert decisions.score is not None
    assert decisions.score[1] == 1.0
    assert np.isnan(decisions.score[2])


def test_case_and_white_space_count_when_asked() -> None:
    table = texts("a b", "A b", "a  b")
    assert run(Dedup(mode="exact", lowercase=False, whitespace=False), table).keep.all()
    assert run(Dedup(mode="exact", lowercase=False), table).keep.tolist() == [True, True, False]
    assert run(Dedup(mode="exact", whitespace=False), table).keep.tolist() == [True, False, True]


def test_empty_texts_are_exact_copies_never_near_ones_and_nothing_is_no_copy() -> None:
    decisions = run(Dedup(), texts("", "   ", None, None, "...", "!!!"))
    assert outcome(decisions) == [
        (True, "kept: survivor of 2", -1),
        (False, "duplicate: exact", 0),
        (True, "kept: nothing to compare", -1),
        (True, "kept: nothing to compare", -1),
        (True, "kept: unique", -1),
        (True, "kept: unique", -1),
    ]


def test_two_schemas_of_one_conversation_are_exact_copies() -> None:
    chat = [{"role": "user", "content": "P"}, {"role": "assistant", "content": "C"}]
    table = records([{"kind": "sft", "messages": chat}, {"kind": "sft", "prompt": "P", "completion": "C"}])
    assert run(Dedup(), table).keep.tolist() == [True, False]
    assert run(Dedup(on="prompt"), table).keep.tolist() == [True, False]


def test_on_decides_what_is_compared() -> None:
    table = records([{"prompt": "same", "completion": "one"}, {"prompt": "same", "completion": "two"}])
    assert run(Dedup(mode="exact", on="prompt"), table).keep.tolist() == [True, False]
    assert run(Dedup(mode="exact", on="response"), table).keep.all()


# --- near copies ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_near_copy_names_its_twin(backend: Backend) -> None:
    table = texts(words(0, 100), words(200, 300), words(0, 99) + " x", words(400, 500))
    decisions = run(Dedup(backend=backend), table)
    assert outcome(decisions) == [
        (True, "kept: survivor of 2", -1),
        (True, "kept: unique", -1),
        (False, "duplicate: near", 0),
        (True, "kept: unique", -1),
    ]
    assert decisions.score is not None
    assert decisions.score[2] == 95 / 97
    assert isinstance(decisions.detail, LazyStrings)
    survivor, _, copy, unique = (json.loads(text) if text else None for text in decisions.detail.to_pylist())
    assert copy == {"cluster": "0" * 32, "size": 2, "similarity": round(95 / 97, 6), "kind": "near"}
    assert survivor == {"cluster": "0" * 32, "size": 2, "similarity": 1, "kind": "survivor"}
    assert unique is None


@pytest.mark.parametrize(("threshold", "kept"), [(0.97, 1), (95 / 97, 1), (0.98, 2)])
def test_threshold_is_the_real_jaccard_similarity(threshold: float, kept: int) -> None:
    table = texts(words(0, 100), words(0, 99) + " x")
    assert run(Dedup(threshold=threshold, **EVERY_PAIR), table).keep.sum() == kept


def test_a_chain_keeps_both_of_its_ends() -> None:
    """A ~ B ~ C with A and C apart: B goes, as a copy of the better one; transitive closure would drop C."""
    a, b, c = words(0, 60), words(6, 66), words(12, 72)
    table = texts(a, b, c, source=["s1", "s2", "s3"])
    stage = Dedup(threshold=0.75, keep="source_priority", priority=("s1", "s3"), **EVERY_PAIR)
    assert outcome(run(stage, table)) == [
        (True, "kept: survivor of 2", -1),
        (False, "duplicate: near", 0),
        (True, "kept: unique", -1),
    ]
    middle_first = Dedup(threshold=0.75, keep="source_priority", priority=("s2",), **EVERY_PAIR)
    assert outcome(run(middle_first, table)) == [
        (False, "duplicate: near", 1),
        (True, "kept: survivor of 3", -1),
        (False, "duplicate: near", 1),
    ]


def test_exact_copies_of_a_dropped_row_name_the_kept_twin() -> None:
    long, short = words(0, 100), words(0, 98)
    decisions = run(Dedup(), texts(short, short.upper(), long))
    assert outcome(decisions) == [
        (False, "duplicate: near", 2),
        (False, "duplicate: near", 2),
        (True, "kept: survivor of 3", -1),
    ]


def test_short_texts_are_compared_whole() -> None:
    table = texts("Yes, please", "yes please!", "yes please not", "2 + 2", "2 - 2")
    assert run(Dedup(), table).keep.tolist() == [True, False, True, True, True]


def test_characters_suit_languages_without_spaces_and_code_tokens_suit_code() -> None:
    chinese = "機械学習は人工知能の一分野であり、データから規則を学ぶ。" * 2
    assert run(Dedup(shingles="char"), texts(chinese, chinese[:-1] + "！")).keep.sum() == 1
    assert run(Dedup(), texts(chinese, chinese[:-1] + "！")).keep.sum() == 1
    code = "def f(x):\n    return [x[i] for i in range(len(x))]\n"
    other = code.replace("[", "(").replace("]", ")")
    assert run(Dedup(shingles="code"), texts(code, other)).keep.sum() == 2
    assert run(Dedup(shingles="word"), texts(code, other)).keep.sum() == 1


# --- against brute force --------------------------------------------------------------------------------------------


def brute_force(values: list[str], size: int, threshold: float) -> tuple[list[bool], list[float]]:
    """The documented rule in plain Python for `keep: first`: kept flags, and each drop's similarity to its twin."""
    sets = [frozenset(shingles_of(value, "word", size)) for value in values]
    keep: list[bool] = []
    best: list[float] = []
    for k, one in enumerate(sets):
        first = values.index(values[k])
        if first < k and not keep[first]:  # an exact copy of a dropped text is dropped with it, for the same twin
            keep.append(False)
            best.append(best[first])
            continue
        twins = [
            1.0 if values[k] == values[j] else len(one & sets[j]) / len(one | sets[j])
            for j in range(k)
            if keep[j] and (values[k] == values[j] or (one and sets[j]))
        ]
        found = max(twins, default=0.0)
        keep.append(found < threshold)
        best.append(found)
    return keep, best


corpus = st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=12).map(" ".join), max_size=25)


@example(["a b", "a b c d", "a c d", "a b c d"], 1, 0.3, "one-permutation")
@given(corpus, st.integers(1, 3), st.sampled_from([0.3, 0.5, 0.8, 1.0]), st.sampled_from(BACKENDS))
@settings(max_examples=120, deadline=None)
def test_equals_brute_force_when_every_pair_is_compared(
    values: list[str], size: int, threshold: float, backend: Backend
) -> None:
    stage = Dedup(threshold=threshold, shingle_size=size, keep="first", backend=backend, **EVERY_PAIR)
    decisions = run(stage, texts(*values), batch_size=7)
    keep, best = brute_force(values, size, threshold)
    assert decisions.keep.tolist() == keep
    assert decisions.score is not None
    assert decisions.score[~decisions.keep].tolist() == [b for b, kept in zip(best, keep, strict=True) if not kept]


def edited_corpus(seed: int, families: int, copies: int, length: int = 60) -> list[str]:
    """Families of texts, each copy with a random share of its words replaced: similarities from 0.3 to 1."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(families):
        base = rng.integers(0, 50_000, size=length)
        for _ in range(copies):
            changed = np.where(rng.random(length) < rng.uniform(0, 0.03), rng.integers(0, 50_000, size=length), base)
            out.append(" ".join(f"t{k}" for k in changed))
    return out


def near_pairs(values: list[str], threshold: float) -> set[int]:
    """Odd rows that brute force finds as similar as that to the row before, but not equal to it."""
    sets = [frozenset(shingles_of(value, "word", 5)) for value in values]
    odd = [k for k in range(1, len(values), 2) if sets[k] != sets[k - 1]]
    return {k for k in odd if len(sets[k] & sets[k - 1]) / len(sets[k] | sets[k - 1]) >= threshold}


def datasketch_recall(values: list[str], alike: set[int], seed: int, bands: int, rows: int) -> float:
    lsh, found = MinHashLSH(num_perm=128, params=(bands, rows)), set()
    for k, value in enumerate(values):
        (one,) = MinHash.bulk([list(shingles_of(value, "word", 5))], num_perm=128, seed=seed)
        found |= {k} if lsh.query(one) else set()
        lsh.insert(k, one)
    return len(found & alike) / len(alike)


@pytest.mark.parametrize("backend", BACKENDS)
def test_precision_is_one_and_recall_not_below_datasketch(backend: Backend) -> None:
    """At datasketch's own choice of bands and rows, averaged over seeds; the default choice finds nearly all."""
    values = edited_corpus(5, families=500, copies=2)
    alike = near_pairs(values, 0.8)
    equal = {k for k in range(1, len(values), 2) if values[k] == values[k - 1]}
    ours = []
    for seed in range(4):
        decisions = run(Dedup(keep="first", backend=backend, seed=seed, bands=9, rows=13), texts(*values))
        dropped = set(np.flatnonzero(~decisions.keep).tolist())
        assert equal <= dropped <= equal | alike
        ours.append(len(dropped & alike) / len(alike))
    theirs = [datasketch_recall(values, alike, seed, 9, 13) for seed in (1, 2, 3)]
    assert 0.5 < np.mean(theirs) < 0.8
    assert np.mean(ours) > np.mean(theirs) - 0.05  # two standard errors
    default = run(Dedup(keep="first", backend=backend), texts(*values))
    assert len(alike & set(np.flatnonzero(~default.keep).tolist())) > 0.95 * len(alike)


# --- independence ---------------------------------------------------------------------------------------------------


@given(st.randoms(use_true_random=False), st.sampled_from([1, 3, 17, 1000]))
@settings(max_examples=25, deadline=None)
def test_same_answer_whatever_the_order_and_the_batch_size(random: Any, batch_size: int) -> None:
    values = edited_corpus(11, families=12, copies=6, length=40)
    quality = list(range(len(values)))
    stage = Dedup(keep="best(judge.score)", threshold=0.6)

    def kept(order: list[int], size: int) -> set[tuple[int, int]]:
        table = texts(*(values[k] for k in order))
        earlier = {"judge.score": pa.array([quality[k] for k in order])}
        decisions = run(stage, table, size, earlier)
        assert decisions.related is not None
        return {(order[k], order[twin] if twin >= 0 else -1) for k, twin in enumerate(decisions.related.tolist())}

    shuffled = quality.copy()
    random.shuffle(shuffled)
    assert kept(shuffled, batch_size) == kept(quality, 1000)


def test_same_answer_whatever_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    table = texts(*edited_corpus(3, families=20, copies=12))
    expected = outcome(run(Dedup(threshold=0.6), table))
    monkeypatch.setattr(verify, "FETCHED", 100)
    monkeypatch.setattr(lsh, "PIECE", 10)
    monkeypatch.setattr(near, "TASK", 1000)
    monkeypatch.setattr(near, "RUN", 50)
    monkeypatch.setattr(room, "SLICE", 16)
    assert outcome(run(Dedup(threshold=0.6, memory_mb=1), table, batch_size=30)) == expected
    monkeypatch.setattr(near, "_PER_PAIR", 1 << 16)
    monkeypatch.setattr(resolve, "_PER_ROW", 1 << 16)
    monkeypatch.setattr(spool.Spool, "__init__", lambda self, memory: INIT(self, 0))
    monkeypatch.setattr(room, "LARGE", 0)
    assert outcome(run(Dedup(threshold=0.6, memory_mb=1), table)) == expected
    assert sum(not keep for keep, _, _ in expected) > 100


def test_large_buckets_lose_nothing() -> None:
    """A band of one value of a few puts unrelated families into one bucket: leaders must still find every copy."""
    values = edited_corpus(8, families=40, copies=5, length=30)
    table = texts(*(f"shared start of all of these texts {value}" for value in values))
    stage = Dedup(threshold=0.5, keep="first", **EVERY_PAIR)
    keep, _ = brute_force([f"shared start of all of these texts {value}" for value in values], 5, 0.5)
    assert run(stage, table).keep.tolist() == keep


# --- survivors ------------------------------------------------------------------------------------------------------

LONG, SHORT = words(0, 100), words(0, 98)


@pytest.mark.parametrize(
    ("rule", "survivor"),
    [
        ({"keep": "longest"}, 2),
        ({"keep": "first"}, 0),
        ({"keep": "best(judge.score)"}, 1),
        ({"keep": "source_priority", "priority": ["s3", "s1"]}, 3),
        ({"keep": "source_priority", "priority": ["absent", "s2"]}, 1),
    ],
)
def test_survivor_rules(rule: dict[str, Any], survivor: int) -> None:
    table = texts(SHORT, SHORT, LONG, SHORT, source=["s1", "s2", "s1", "s3"])
    decisions = run(Dedup.model_validate(rule), table, earlier={"judge.score": pa.array([0.1, 0.9, None, 0.5])})
    assert np.flatnonzero(decisions.keep).tolist() == [survivor]
    assert decisions.related is not None
    assert set(decisions.related.tolist()) == {-1, survivor}


def test_rows_without_a_score_are_the_last_choice() -> None:
    decisions = run(Dedup(keep="best(a.b)"), texts("x", "x"), earlier={"a.b": pa.array([None, -5.0])})
    assert decisions.keep.tolist() == [False, True]


# --- size -----------------------------------------------------------------------------------------------------------


def test_twenty_thousand_copies_are_quick() -> None:
    run(Dedup(), texts("warm up the kernels"))
    started = time.process_time()
    decisions = run(Dedup(), texts(*[words(0, 50)] * 20_000), batch_size=5000)
    assert decisions.keep.sum() == 1
    assert time.process_time() - started < 5


def test_twenty_thousand_near_copies_are_quick_and_read_few_texts() -> None:
    table = texts(*(f"{words(0, 120)} {k}" for k in range(20_000)))
    pool = score(Dedup(), table, batch_size=5000)
    started = time.process_time()
    decisions = Dedup().decide(pool)
    assert decisions.keep.sum() == 1
    assert time.process_time() - started < 10
    assert pool.fetched < 3 * 20_000


@pytest.mark.parametrize("values", [[], ["one"], [None], [""]])
@pytest.mark.parametrize("mode", ["near", "exact"])
def test_hardly_any_rows(values: list[str | None], mode: str) -> None:
    assert run(Dedup.model_validate({"mode": mode}), texts(*values)).keep.tolist() == [True] * len(values)


# --- warnings and parameters ----------------------------------------------------------------------------------------


def test_warnings_name_the_source_and_the_cluster() -> None:
    rows = [{"text": f"{k}", "source": "good"} for k in range(1000)] + [{"text": "z", "source": "bad"}] * 200
    warnings = run(Dedup(), records(rows)).warnings
    assert len(warnings) == 2
    assert warnings[0] == "source 'bad' loses 199 of 200 rows (100%) as duplicates"
    assert warnings[1].startswith("one cluster holds 200 of 1,200 rows (16.7%), kept: ")


def test_small_pools_make_no_noise() -> None:
    assert run(Dedup(), texts(*["z"] * 99)).warnings == ()


@pytest.mark.parametrize(
    "change",
    [
        {"threshold": 0.5},
        {"keep": "first"},
        {"bands": 4, "rows": 2},
        {"keep": "source_priority", "priority": ["a"]},
    ],
)
def test_what_only_decides_rescores_nothing(change: dict[str, Any]) -> None:
    assert Dedup.model_validate(change).scoring() == Dedup().scoring()


@pytest.mark.parametrize(
    "change",
    [
        {"on": "prompt"},
        {"shingle_size": 3},
        {"num_hashes": 64},
        {"seed": 1},
        {"lowercase": False},
        {"backend": "datasketch"},
    ],
)
def test_what_signatures_depend_on_rescores(change: dict[str, Any]) -> None:
    assert Dedup.model_validate(change).scoring() != Dedup().scoring()


@pytest.mark.parametrize(
    "bad",
    [
        {"threshold": 0},
        {"threshold": 1.1},
        {"keep": "best"},
        {"keep": "best(x)"},
        {"keep": "source_priority"},
        {"priority": ["a"]},
        {"bands": 4},
        {"bands": 100, "rows": 2},
        {"shingles": "sentence"},
        {"mode": "fuzzy"},
    ],
)
def test_wrong_parameters_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Dedup.model_validate(bad)
