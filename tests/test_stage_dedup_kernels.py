"""The kernels of `dedup` against plain Python and against datasketch."""

from __future__ import annotations

import unicodedata

import numpy as np
import pyarrow as pa
import pytest
import regex
from datasketch import MinHash, MinHashLSH
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.dedup.chars import LETTER, SPACE, tables
from stages.dedup.lsh import band_keys, best_bands, number_bits, pairs_of_band, unpack
from stages.dedup.shingles import UNITS, Sets, Unit, ascending, shingle
from stages.dedup.sketch import k_permutation, one_permutation, shingles_of, with_datasketch
from stages.dedup.texts import content_hashes, normalise, strings_of
from stages.dedup.verify import Loaded, load_sets, similarities

prose = st.text(st.sampled_from("ab cdÉé ß漢字ไทย+-.,!\n\t\u3000\u0301İΣς😀_9"), max_size=60)
anything = st.text(max_size=40)


def plain_normalise(text: str) -> str:
    """The documented meaning of `lowercase` and `whitespace`, one character at a time."""
    lowered = "".join(char.lower()[0] for char in unicodedata.normalize("NFC", text))
    return " ".join(word for word in regex.split(r"\s+", lowered) if word)


@given(st.lists(prose | anything, max_size=8))
@settings(max_examples=300, deadline=None)
def test_normalise_equals_plain_python(texts: list[str]) -> None:
    got = normalise(pa.array(texts, pa.string()), True, True)
    assert strings_of(got) == [plain_normalise(text) for text in texts]
    assert got.chars.tolist() == [len(plain_normalise(text)) for text in texts]


@given(st.lists(anything, max_size=8), st.integers(0, 8))
@settings(max_examples=100, deadline=None)
def test_nothing_but_nfc_when_switched_off_and_slices_read_right(texts: list[str], cut: int) -> None:
    got = normalise(pa.array(texts, pa.string()).slice(cut), False, False)
    assert strings_of(got) == [unicodedata.normalize("NFC", text) for text in texts[cut:]]


def test_content_hashes_are_equal_exactly_for_equal_texts() -> None:
    hashes = content_hashes(normalise(pa.array(["A  b", "a b ", "a c", "", None]), True, True)).to_pylist()
    assert len(hashes[0]) == 16
    assert hashes[0] == hashes[1] != hashes[2]
    assert hashes[3] == hashes[4]


def test_character_tables_agree_with_the_standard_library() -> None:
    classes, lower, composed = tables()
    for code in [*range(0x3000), *range(0x1F000, 0x1F100)]:
        char = chr(code)
        assert lower[code] == ord(char.lower()[0])
        assert (classes[code] == SPACE) == bool(char.isspace() and char not in "\x1c\x1d\x1e\x1f")
        if char.isalpha() and not 0xE00 <= code < 0x1100 and not 0x1780 <= code < 0x1800 and code < 0x2E80:
            assert classes[code] == LETTER, hex(code)
        assert not composed[code] or unicodedata.is_normalized("NFC", char)


def spans(sets: Sets) -> Loaded:
    return Loaded(sets.values, np.stack([sets.offsets[:-1], sets.offsets[1:]], axis=1))


@given(st.lists(prose | anything, max_size=6), st.sampled_from(UNITS), st.integers(1, 6))
@settings(max_examples=300, deadline=None)
def test_shingle_sets_equal_the_regular_expressions(texts: list[str], unit: Unit, size: int) -> None:
    """As many distinct shingles, and the same ones shared between any two texts."""
    normal = normalise(pa.array(texts, pa.string()), True, True)
    sets = ascending(shingle(normal, unit, size))
    plain = [set(shingles_of(text, unit, size)) for text in strings_of(normal)]
    assert sets.sizes().tolist() == [len(one) for one in plain]
    for a in range(len(plain)):
        for b in range(a):
            union = len(plain[a] | plain[b])
            expected = len(plain[a] & plain[b]) / union if union else 0.0
            assert similarities(spans(sets), np.array([a]), np.array([b]), "jaccard")[0] == expected


@pytest.mark.parametrize(
    ("unit", "text", "expected"),
    [
        ("word", "it's 2 + 2, ok?", ["it", "s", "2", "+", "2", "ok"]),
        ("word", "東京 tower", ["東", "京", "tower"]),
        ("word", "naïve_x1 ...", ["naïve_x1"]),
        ("code", "f(x)=a[1]", ["f", "(", "x", ")", "=", "a", "[", "1", "]"]),
        ("char", "a b", ["a", " ", "b"]),
        ("word", "... !", []),
    ],
)
def test_tokens(unit: Unit, text: str, expected: list[str]) -> None:
    assert [shingle.decode() for shingle in shingles_of(text, unit, 1)] == expected
    assert shingle(normalise(pa.array([text]), True, True), unit, 1).sizes()[0] == len(set(expected))


def random_pair(rng: np.random.Generator, union: int, common: int) -> Sets:
    elements = rng.integers(0, 2**64, size=union, dtype=np.uint64)
    half = common + (union - common) // 2
    left, right = elements[:half], np.concatenate([elements[:common], elements[half:]])
    values = np.concatenate([np.sort(left), np.sort(right)])
    return Sets(values, np.array([0, len(left), union + common]))


@pytest.mark.parametrize("sketch", [one_permutation, k_permutation])
@pytest.mark.parametrize(("union", "common"), [(5, 4), (10, 8), (60, 30), (400, 320)])
def test_agreement_estimates_jaccard(sketch: object, union: int, common: int) -> None:
    """Unbiased, and no more spread than 128 independent hashes, for small sets too."""
    rng, wanted = np.random.default_rng(union), common / union
    assert callable(sketch)
    seen = [np.mean(np.equal(*sketch(random_pair(rng, union, common), 128, seed))) for seed in range(300)]
    spread = (wanted * (1 - wanted) / 128) ** 0.5
    assert abs(np.mean(seen) - wanted) < 4 * spread / 300**0.5
    assert np.std(seen) < 1.15 * spread


def test_k_permutation_equals_datasketch_value_for_value() -> None:
    rng = np.random.default_rng(1)
    sets = Sets(np.sort(rng.integers(0, 2**64, size=50, dtype=np.uint64)), np.array([0, 20, 50]))
    ours = k_permutation(sets, 64, 7)
    for row in range(2):
        theirs = MinHash(num_perm=64, seed=7, hashfunc=lambda value: value)
        theirs.update_batch([int(v) & 0xFFFFFFFF for v in sets.values[sets.offsets[row] : sets.offsets[row + 1]]])
        assert ours[row].tolist() == theirs.hashvalues.tolist()


def test_datasketch_backend_equals_datasketch_fed_by_hand() -> None:
    texts = normalise(pa.array(["one two three four five six", "a b", ""]), True, True)
    ours = with_datasketch(texts, "word", 5, 32, 3)
    first = [b"one\x1ftwo\x1fthree\x1ffour\x1ffive", b"two\x1fthree\x1ffour\x1ffive\x1fsix"]
    for row, shingles in enumerate((first, [b"a\x1fb"], [])):
        theirs = MinHash(num_perm=32, seed=3)
        theirs.update_batch(shingles)
        assert ours[row].tolist() == theirs.hashvalues.tolist()


def test_seeds_make_other_sketches() -> None:
    pair = random_pair(np.random.default_rng(0), 40, 20)
    for sketch in (one_permutation, k_permutation):
        assert sketch(pair, 64, 0).tolist() == sketch(pair, 64, 0).tolist() != sketch(pair, 64, 1).tolist()


def test_candidates_equal_those_of_datasketch() -> None:
    """Same signatures, bands and rows: the very same candidate pairs as `MinHashLSH`."""
    rng = np.random.default_rng(4)
    signatures = rng.integers(0, 3, size=(60, 32), dtype=np.uint32)
    lsh, queries = MinHashLSH(num_perm=32, params=(8, 4)), []
    for row, values in enumerate(signatures):
        minhash = MinHash(num_perm=32, hashvalues=values, scheme="affine32")
        queries += [(int(other), row) for other in lsh.query(minhash)]
        lsh.insert(row, minhash)
    hashes = np.zeros((8, 60), dtype=np.uint64)
    band_keys(signatures, 0, hashes, np.arange(60), 4, number_bits(60))
    ours = set()
    for band in hashes:
        better, worse = unpack(pairs_of_band(band, 0, np.zeros(60, np.bool_), np.zeros(60, np.bool_)))
        ours |= set(zip(better.tolist(), worse.tolist(), strict=True))
    assert ours == set(queries)
    assert len(ours) > 50


def test_a_giant_bucket_costs_a_few_leaders_not_all_pairs() -> None:
    served, large = np.zeros(50_000, np.bool_), np.zeros(50_000, np.bool_)
    pairs = pairs_of_band(np.arange(50_000, dtype=np.uint64), 0, served, large)
    assert large.all()
    assert len(pairs) < 9 * 50_000
    assert np.flatnonzero(served).tolist() == list(range(8))


@pytest.mark.parametrize(("count", "fixed"), [(10, 4), (10, 0), (10, 10), (10, 9), (200, 150), (200, 199), (200, 200)])
def test_documents_of_earlier_releases_never_meet_each_other(count: int, fixed: int) -> None:
    served, large = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
    better, worse = unpack(pairs_of_band(np.arange(count, dtype=np.uint64), fixed, served, large))
    assert (worse >= fixed).all()
    assert (better < worse).all()
    if count <= 32:
        assert len(worse) == sum(range(fixed, count))
    else:
        assert len(worse) == min(8, fixed) * (count - fixed)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9, 0.95])
def test_bands_find_nearly_all_pairs_at_the_threshold(threshold: float) -> None:
    bands, rows = best_bands(threshold, 128)
    assert bands * rows <= 128
    assert 1 - (1 - threshold**rows) ** bands >= 0.98
    theirs = MinHashLSH(threshold=threshold, num_perm=128)
    for similarity in np.linspace(threshold, 1, 20):
        assert (1 - similarity**rows) ** bands <= (1 - similarity**theirs.r) ** theirs.b + 1e-12


@given(st.lists(st.lists(st.integers(0, 99), unique=True, min_size=1), min_size=1, max_size=20))
@settings(deadline=None)
def test_sets_are_loaded_whole_in_memory_or_not(sets: list[list[int]]) -> None:
    arrays = [np.sort(np.array(one, dtype=np.uint64)) for one in sets]
    sizes = np.array([len(one) for one in sets], dtype=np.int32)
    documents = np.arange(len(sets))[::-1] * 2  # pool rows: every other one, the last first
    wanted = np.arange(len(sets))[: max(1, len(sets) // 2)][::-1]

    def load(rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Sets:
        assert (np.diff(rows) > 0).all()
        found = [arrays[len(sets) - 1 - row // 2] for row in rows]
        return Sets(np.concatenate(found), np.cumsum([0, *map(len, found)]))

    for memory in (0, 1 << 20):
        loaded = load_sets(wanted, documents, sizes, load, memory)
        for document in wanted:
            first, last = loaded.spans[document]
            assert loaded.values[first:last].tolist() == arrays[document].tolist()


@given(st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)))
def test_similarities_are_those_of_sets(better: set[int], worse: set[int]) -> None:
    values = np.array([*sorted(better), *sorted(worse)], dtype=np.uint64)
    loaded = Loaded(values, np.array([[0, len(better)], [len(better), len(values)]]))
    one, other = np.array([0]), np.array([1])
    common, union = len(better & worse), len(better | worse)
    assert similarities(loaded, one, other, "jaccard")[0] == (common / union if union else 0)
    assert similarities(loaded, one, other, "containment")[0] == (common / len(worse) if worse else 0)
