"""The compiled kernel against Python's zlib, byte for byte of length."""

from __future__ import annotations

import gzip
import json
import random
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.zipfit import kernel
from stages.zipfit.kernel import gzip_lengths, overlap, zlib_is_classic
from stages.zipfit.native import native
from stages.zipfit.packed import pack, pack_strings

pytestmark = [
    pytest.mark.skipif(native() is None, reason="the compiled kernel was not built"),
    pytest.mark.skipif(not zlib_is_classic(), reason="this Python's zlib is not the classic one"),
]

WORDS = (
    "def",
    "return",
    "the",
    "for",
    "x",
    "in",
    "range(n):",
    "print",
    "answer",
    "漢字",
    "仮名",
    "😀",
    "é",
    "(",
    ")",
    "=",
    "+",
    "\n",
    "\t",
)
small = st.binary(max_size=300) | st.text(max_size=120).map(str.encode)
repetitive = st.builds(lambda unit, n: unit * n, st.binary(min_size=1, max_size=9), st.integers(0, 400))
prose = st.lists(st.sampled_from(WORDS), max_size=200).map(lambda words: " ".join(words).encode())
texts = st.lists(small | repetitive | prose, min_size=1, max_size=4)


def assert_equal_to_zlib(xs: list[bytes], ts: list[bytes], level: int) -> int:
    """Compare every length; returns the number of pairs."""

    def reference(data: bytes) -> int:
        return len(zlib.compress(data, level, 31))

    found = gzip_lengths(pack(xs), pack(ts), level)
    assert found.texts.tolist() == [reference(x) for x in xs]
    assert found.targets.tolist() == [reference(t) for t in ts]
    assert found.pairs.tolist() == [[reference(x + t) for t in ts] for x in xs]
    return len(xs) * len(ts)


@given(texts, texts, st.integers(1, 9))
@settings(max_examples=300, deadline=None)
def test_short_texts_at_every_level(xs: list[bytes], ts: list[bytes], level: int) -> None:
    assert_equal_to_zlib(xs, ts, level)


def long_text(draw: random.Random, most: int) -> bytes:
    """Random, skewed, repetitive, or made of copies from up to 40 kB back, which is beyond the window."""
    size = int(10 ** draw.uniform(0, np.log10(most)))
    kind = draw.randrange(6)
    if kind == 0:
        return draw.randbytes(size)
    if kind == 1:
        return (draw.randbytes(draw.randint(1, 300)) * (size + 1))[:size]
    if kind == 2:
        return " ".join(draw.choices(WORDS, k=size // 4 + 1)).encode()[:size]
    if kind == 3:
        return bytes(min(255, int(draw.expovariate(0.3))) for _ in range(size))
    if kind == 4:
        return bytes(size)
    out = bytearray()
    while len(out) < size:
        back = draw.randint(1, min(len(out), 40_000)) if out and draw.random() < 0.7 else 0
        out += out[-back:][: draw.randint(3, 300)] if back else draw.randbytes(draw.randint(1, 20))
    return bytes(out[:size])


@pytest.mark.parametrize("seed", range(12))
def test_long_texts_beyond_block_and_window(seed: int) -> None:
    draw = random.Random(seed)
    xs = [long_text(draw, 200_000) for _ in range(2)]
    ts = [long_text(draw, 200_000), xs[0][-draw.randint(1, 400) :] + long_text(draw, 3_000)]
    for level in (1, 6, 9, draw.randint(2, 8)):
        assert_equal_to_zlib(xs, ts, level)


@pytest.mark.parametrize("size", [16_382, 16_383, 16_384, 32_506, 32_768, 65_274, 65_275, 65_536, 131_072])
def test_edges_of_block_and_window(size: int) -> None:
    draw = random.Random(size)
    noise, words = draw.randbytes(size), " ".join(draw.choices(WORDS, k=size)).encode()[:size]
    for level in (1, 6, 9):
        assert_equal_to_zlib([noise, words, b""], [b"", b"a", words[:700], noise[:40]], level)


def test_code_lengths_that_exceed_their_limits() -> None:
    steps, a, b = [], 1, 1
    for symbol in range(19):  # Fibonacci frequencies make the deepest tree
        steps.append(bytes([symbol * 7]) * a)
        a, b = b, a + b
    text = bytearray(b"".join(steps))
    random.Random(0).shuffle(text)
    for level in (1, 6, 9):
        assert_equal_to_zlib([bytes(text), bytes(text[:9_000])], [bytes(text[:500]), b"abc"], level)


def test_threads_and_parts_change_nothing() -> None:
    draw = random.Random(1)
    xs, ts = pack([long_text(draw, 2_000) for _ in range(200)]), pack([long_text(draw, 800) for _ in range(7)])
    alone, together = gzip_lengths(xs, ts, 6, threads=1), gzip_lengths(xs, ts, 6, threads=3)
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))
    assert np.array_equal(gzip_lengths(xs.part(50, 60), ts, 6).pairs, alone.pairs[50:60])
    assert np.array_equal(gzip_lengths(xs.take(np.array([9, 3])), ts, 6).pairs, alone.pairs[[9, 3]])


def test_nothing_to_do() -> None:
    empty, one = pack([]), pack([b"x"])
    assert gzip_lengths(empty, one, 6).pairs.shape == (0, 1)
    assert gzip_lengths(one, empty, 6).texts.tolist() == [len(zlib.compress(b"x", 6, 31))]


def test_without_the_kernel_the_answers_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    xs, ts = pack_strings(["def f(x):\n    return x", "", "漢字 😀", "a" * 500]), pack_strings(["return x + 1", "漢字"])
    compiled = [*gzip_lengths(xs, ts, 9), overlap(xs, ts), overlap(pack([]), ts), overlap(xs, pack([]))]
    monkeypatch.setattr(kernel, "native", lambda: None)
    plain = [*gzip_lengths(xs, ts, 9), overlap(xs, ts), overlap(pack([]), ts), overlap(xs, pack([]))]
    for one, other in zip(compiled, plain, strict=True):
        assert np.array_equal(one, other)


@given(texts, texts)
@settings(max_examples=50, deadline=None)
def test_overlap_equals_plain_numpy(xs: list[bytes], ts: list[bytes]) -> None:
    assert np.array_equal(overlap(pack(xs), pack(ts)), kernel._overlap_numpy(pack(xs), pack(ts)))


def _column(path: Path, *names: str) -> list[bytes]:
    with gzip.open(path, "rb") as handle:
        rows = [json.loads(line) for line in handle.read().split(b"\n") if line]
    return ["\n".join(row[name] for name in names).encode("utf-8", "surrogatepass") for row in rows]


def test_real_texts(shared_data: Path) -> None:
    targets = _column(shared_data / "targets" / "humaneval_prompts.jsonl.gz", "prompt", "canonical_solution")
    maths = _column(shared_data / "targets" / "proofnet_valid.jsonl.gz", "nl_statement", "nl_proof")
    chinese = _column(shared_data / "instruct" / "alpaca_chinese_part00.jsonl.gz", "instruction", "output")
    for level in (1, 6, 9):
        assert_equal_to_zlib([*maths[:10], *chinese[:10]], targets[::4], level)
