"""The kernels of `dedup` against plain Python and against datasketch."""

from __future__ import annotations

import tempfile
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import regex
from datasketch import MinHash, MinHashLSH
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import room
from stages.dedup import arrays, kernels, verify
from stages.dedup.bands import unknown
from stages.dedup.chars import LETTER, SPACE, make_tables, tables
from stages.dedup.items import Desk
from stages.dedup.kernels import Bools, Hashes, Ints, pack, unpack
from stages.dedup.lsh import best_bands, number_bits, pairs_of_band
from stages.dedup.resolve import best_first, resolve
from stages.dedup.shingles import UNITS, Sets, Unit, ascending, shingle
from stages.dedup.sketch import k_permutation, one_permutation, shingles_of, with_datasketch
from stages.dedup.spool import Edges, Spool
from stages.dedup.texts import content_hashes, normalise, strings_of
from stages.dedup.verify import Loaded, Shingling, similarities, write_sets

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


SURE = [chr(code) for code in np.flatnonzero(tables().composed).tolist()]


@given(st.lists(st.one_of(st.sampled_from(SURE), st.sampled_from("aeo가각ᄀقاأকো")), max_size=12))
@settings(max_examples=2_000, deadline=None)
def test_texts_of_composed_characters_alone_are_in_normal_form(chars: list[str]) -> None:
    text = "".join(char for char in chars if tables().composed[ord(char)])
    assert unicodedata.is_normalized("NFC", text)


def test_what_composes_with_the_character_before_is_never_taken_for_composed() -> None:
    for code in range(0x110000):
        parts = unicodedata.decomposition(chr(code)).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            assert not tables().composed[int(parts[1], 16)], hex(code)
    for syllable in range(0xAC00, 0xD7A4):
        assert not any(tables().composed[ord(part)] for part in unicodedata.normalize("NFD", chr(syllable))[1:])


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


def all_pairs(keys: Hashes, fixed: int, served: Bools, large: Bools) -> tuple[Ints, Ints]:
    """The pairs of one band of as many documents as `served` has room for."""
    found = pairs_of_band(keys, number_bits(len(served)), fixed, served, large)
    return unpack(np.concatenate([np.empty(0, np.uint64), *found]))


def test_candidates_equal_those_of_datasketch() -> None:
    """Same signatures, bands and rows: the very same candidate pairs as `MinHashLSH`."""
    rng = np.random.default_rng(4)
    signatures = rng.integers(0, 3, size=(60, 32), dtype=np.uint32)
    lsh, queries = MinHashLSH(num_perm=32, params=(8, 4)), []
    for row, values in enumerate(signatures):
        minhash = MinHash(num_perm=32, hashvalues=values, scheme="affine32")
        queries += [(int(other), row) for other in lsh.query(minhash)]
        lsh.insert(row, minhash)
    hashes = kernels.band_keys(signatures, np.arange(60, dtype=np.int32), 8, 4, number_bits(60))
    ours = set()
    for band in hashes:
        better, worse = all_pairs(band, 0, np.zeros(60, np.bool_), np.zeros(60, np.bool_))
        ours |= set(zip(better.tolist(), worse.tolist(), strict=True))
    assert ours == set(queries)
    assert len(ours) > 50


def test_a_giant_bucket_costs_a_few_leaders_not_all_pairs() -> None:
    served, large = np.zeros(50_000, np.bool_), np.zeros(50_000, np.bool_)
    better, _ = all_pairs(np.arange(50_000, dtype=np.uint64), 0, served, large)
    assert large.all()
    assert len(better) < 9 * 50_000
    assert np.flatnonzero(served).tolist() == list(range(8))


@pytest.mark.parametrize(("count", "fixed"), [(10, 4), (10, 0), (10, 10), (10, 9), (200, 150), (200, 199), (200, 200)])
def test_documents_of_earlier_releases_never_meet_each_other(count: int, fixed: int) -> None:
    served, large = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
    better, worse = all_pairs(np.arange(count, dtype=np.uint64), fixed, served, large)
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


@dataclass
class SetsView:
    """A view whose rows are sets."""

    sets: list[list[int]]

    def __len__(self) -> int:
        return len(self.sets)

    def read(self, rows: Ints) -> pa.Table:
        return pa.table({"set": pa.array([self.sets[row] for row in rows], pa.list_(pa.uint64()))})


def sets_of(batch: pa.RecordBatch) -> Sets:
    return Sets(batch["set"].flatten().to_numpy(), batch["set"].offsets.to_numpy().astype(np.int64))


@given(st.lists(st.lists(st.integers(0, 99), min_size=1), min_size=1, max_size=20), st.integers(1, 30))
@settings(deadline=None)
def test_sets_are_written_end_to_end_in_this_process_or_in_a_file(sets: list[list[int]], fetched: int) -> None:
    wanted = np.arange(0, len(sets), 2)
    sizes = np.array([len(sets[row]) for row in wanted], np.int32)
    expected = [value for row in wanted for value in sets[row]] * 2
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify, "FETCHED", fetched)
        for desk in (Desk(None), Desk(Path(folder))):
            values, piece = desk.empty(len(expected) + 5, np.uint64), (SetsView(sets), wanted, sizes)
            write_sets(Shingling((piece, piece), sets_of, values, 5))
            assert values.open()[5:].tolist() == expected
            values.drop()
        assert not list(Path(folder).iterdir())


@given(st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)))
def test_similarities_are_those_of_sets(better: set[int], worse: set[int]) -> None:
    values = np.array([*sorted(better), *sorted(worse)], dtype=np.uint64)
    loaded = Loaded(values, np.array([[0, len(better)], [len(better), len(values)]]))
    one, other = np.array([0]), np.array([1])
    common, union = len(better & worse), len(better | worse)
    assert similarities(loaded, one, other, "jaccard")[0] == (common / union if union else 0)
    assert similarities(loaded, one, other, "containment")[0] == (common / len(worse) if worse else 0)


# --- compiled and interpreted ---------------------------------------------------------------------------------------


@given(st.lists(prose | anything, max_size=8), st.sampled_from(UNITS), st.integers(1, 6), st.booleans())
@settings(max_examples=60, deadline=None)
def test_compiled_text_kernels_equal_those_of_numba(texts: list[str], unit: Unit, size: int, whitespace: bool) -> None:
    def everything() -> list[list[int]]:
        normal = normalise(pa.array(texts, pa.string()), True, whitespace)
        sets = shingle(normal, unit, size)
        raw = sets.values.tolist()
        sets = ascending(sets)
        sketches = [sketch(sets, 16, 3).ravel().tolist() for sketch in (one_permutation, k_permutation)]
        return [*(array.tolist() for array in normal), raw, sets.values.tolist(), sets.offsets.tolist(), *sketches]

    found = everything()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "native", lambda: None)
        assert everything() == found


@given(st.integers(0, 2**32), st.integers(2, 90), st.integers(0, 90))
@settings(max_examples=40, deadline=None)
def test_compiled_pair_kernels_equal_those_of_numba(seed: int, n: int, fixed: int) -> None:
    rng = np.random.default_rng(seed)
    signatures = rng.integers(0, 2, size=(n, 12), dtype=np.uint32)
    numbers = rng.permutation(n).astype(np.int32)
    numbers[rng.random(n) < 0.1] = -1
    sets = [np.unique(rng.integers(0, 20, size=rng.integers(0, 12), dtype=np.uint64)) for _ in range(n)]
    sizes = np.array([len(one) for one in sets], np.int32)
    starts, values = np.cumsum(sizes, dtype=np.int64) - sizes, np.concatenate(sets)

    def everything() -> list[list[float]]:
        keys = kernels.band_keys(signatures, numbers, 3, 4, number_bits(n))
        served, large = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
        better, worse = all_pairs(keys[0].copy(), fixed, served, large)
        pairs = np.unique(pack(better, worse))
        alike = [kernels.similarities(values, starts, sizes, pairs, contained) for contained in (False, True)]
        edges = Edges(1000)
        for part in np.array_split(np.arange(len(pairs)), 3):
            keys_of = pack(unpack(pairs[part])[1], unpack(pairs[part])[0])
            order = np.argsort(keys_of)
            edges.add([(keys_of[order], alike[0][part][order])])
        resolved = resolve(edges, n, 0.5)
        return [
            array.ravel().tolist()
            for array in (keys, served, large, pairs, *alike, *resolved, kernels.components(pairs, n))
        ]

    found = everything()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "native", lambda: None)
        assert everything() == found


def test_the_stored_tables_are_those_of_these_versions_of_unicode() -> None:
    """Newer versions know more characters; those that both know are the same."""
    stored, made = tables(), make_tables()
    known = np.array([unicodedata.category(chr(code)) != "Cn" for code in range(0x110000)])
    for one, other in zip(stored, made, strict=True):
        assert np.mean(one[known] == other[known]) > 0.999
        assert np.array_equal(one[:0x500], other[:0x500])


# --- spools ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.lists(st.integers(0, 2**64 - 1), max_size=5), max_size=8), st.integers(0, 100))
@settings(deadline=None)
def test_a_spool_gives_back_what_was_put_in(parts: list[list[int]], memory: int) -> None:
    spool = Spool(memory)
    for part in parts:
        spool.append(np.array(part, np.uint64))
    everything = [value for part in parts for value in part]
    assert len(spool) == len(everything)
    assert spool.all().tolist() == everything
    assert [value for block in spool.blocks() for value in block.tolist()] == everything
    spool.close()
    assert len(spool) == 0


@pytest.mark.parametrize("memory", [0, 1000])
def test_edges_are_runs_and_known_pairs_are_left_out(memory: int) -> None:
    edges = Edges(memory)
    assert unknown(pack(np.array([5]), np.array([1])), edges.keys, edges.bounds).tolist() == [5 << 32 | 1]
    edges.add([(pack(np.array([5]), np.array([1])), np.array([0.5])), (pack(np.array([7]), np.array([2])), np.ones(1))])
    edges.add([(pack(np.array([6]), np.array([0])), np.array([0.7]))])
    pairs = pack(np.array([5, 6, 9, 7]), np.array([1, 0, 2, 1]))
    assert unpack(unknown(pairs, edges.keys, edges.bounds))[0].tolist() == [9, 7]
    assert edges.bounds.tolist() == [0, 2, 3]
    assert edges.similarity.tolist() == [0.5, 1.0, 0.7]


# --- order ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(width=16), max_size=40), st.integers(0, 40))
def test_rows_are_ordered_by_key_and_then_as_they_come(keys: list[float], fixed: int) -> None:
    fixed = min(fixed, len(keys))
    for array in (np.array(keys), np.nan_to_num(np.array(keys), posinf=2**31 - 1, neginf=-(2**31)).astype(np.int32)):
        expected = [*np.argsort(array[:fixed], kind="stable"), *(fixed + np.argsort(array[fixed:], kind="stable"))]
        assert best_first(array, fixed, len(keys)).tolist() == expected


@given(st.lists(st.booleans(), min_size=1, max_size=70))
def test_arrays_worked_on_in_slices_are_those_of_numpy(marks: list[bool]) -> None:
    marked, numbers = np.array(marks), np.random.default_rng(0).permutation(len(marks)).astype(np.int32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "SLICE", 8)
        assert arrays.unpacked(arrays.packed(marked), len(marks)).tolist() == marks
        assert arrays.where(len(marks), lambda part: marked[part]).tolist() == np.flatnonzero(marked).tolist()
        assert arrays.taken(marked, numbers).tolist() == marked[numbers].tolist()
        assert arrays.index_of(numbers, len(marks)).tolist() == np.argsort(numbers).tolist()
        assert (
            arrays.counts(numbers // 2, len(marks)).tolist() == np.bincount(numbers // 2, minlength=len(marks)).tolist()
        )
