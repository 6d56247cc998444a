"""Corpora for `bench/dedup.py`: real documents, texts with known similarities, edited text at any scale, extremes."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
REAL = (
    ("rawtext/code_llamafactory_4_forks", ("content",)),
    ("rawtext/code_lm_eval_2_forks", ("content",)),
    ("rawtext/code_thealgorithms_python", ("content",)),
    ("rawtext/c4_demo", ("text",)),
    ("neardup/mccormick_articles_1000", ("text",)),
    ("rawtext/toy_pile", ("contents",)),
    ("instruct/alpaca_eval_gpt4_preferences", ("instruction", "output_1")),
    ("instruct/gpteacher_codegen", ("instruction", "input", "response")),
    ("instruct/dolly_3k_part1", ("instruction", "input", "output")),
    ("targets/math_test_part1", ("problem", "solution")),
    ("instruct/alpaca_52k_rows_00000_42147", ("instruction", "input", "output")),
)
_BLOCK = 20_000
_LETTERS = str.maketrans("0123456789", "abcdefghij")  # some tools take all numbers for one


def real(count: int = 20_000) -> list[str]:
    """Prose, instructions, code and four forks of one code base, shuffled: 24.7 MB."""
    texts = []
    for name, fields in REAL:
        with gzip.open(DATA / f"{name}.jsonl.gz", "rt", encoding="utf-8", newline="\n") as lines:
            rows = map(json.loads, lines)
            texts += ["\n".join(row[field] for field in fields if row.get(field)) for row in rows]
    texts = texts[:count]
    random.Random(0).shuffle(texts)
    return texts


def known(pairs: int = 5_000, length: int = 200) -> list[str]:
    """Pairs of texts of unique words whose similarity (Jaccard, runs of five words) is spread over 0.5 to 0.95."""
    rng, texts = np.random.default_rng(0), []
    for pair in range(pairs):
        words = [f"w{pair}x{k}".translate(_LETTERS) for k in range(length)]
        union_share = rng.uniform(0.5, 0.95)
        changed = round((length - 4) * (1 - union_share) / (1 + union_share) / 5)
        other = list(words)
        for at in rng.choice(np.arange(5, length - 5), size=max(changed, 1), replace=False):
            other[at] = f"c{pair}x{at}".translate(_LETTERS)
        texts += [" ".join(words), " ".join(other)]
    random.Random(1).shuffle(texts)
    return texts


def edited(count: int) -> Iterator[list[str]]:
    """Blocks of documents of about 0.7 kB cut from real text; 30% are copies of earlier ones with 0 to 6% new words."""
    words = np.array([word for text in real() for word in text.split() if len(word) < 30])
    rng, originals = np.random.default_rng(0), list[np.ndarray]()
    for start in range(0, count, _BLOCK):
        block = []
        for _ in range(min(_BLOCK, count - start)):
            copy = bool(originals) and rng.random() < 0.3
            at, length = rng.integers(0, len(words) - 200), rng.integers(60, 170)
            text = originals[rng.integers(0, len(originals))].copy() if copy else words[at : at + length].copy()
            share = rng.choice([0, 0.004, 0.01, 0.03, 0.06]) if copy else 0.25  # windows of one text overlap
            changed = np.flatnonzero(rng.random(len(text)) < share)
            text[changed] = words[rng.integers(0, len(words), len(changed))]
            if not copy and len(originals) < 300_000:
                originals.append(text)
            block.append(" ".join(text))
        yield block


def extremes(count: int) -> dict[str, Iterator[list[str]]]:
    """Corpora that break tools: near-identical rows, one row of 100 MB, rows without a word, stop words only."""
    stop = ["the", "of", "and", "to", "in", "is", "that", "it", "was", "for", "on", "with", "as", "be", "at", "by"]
    base = " ".join(f"word{k}" for k in range(110))
    rng = np.random.default_rng(0)
    return {
        "near-identical": _blocks(f"{base} {k}" for k in range(count)),
        "one row of 100 MB": iter([[" ".join(real())[:1_000_000] * 100, *real(1_000)]]),
        "no words": _blocks("." * (1 + k % 1000) for k in range(count)),  # rows without any text end in quarantine
        "stop words": _blocks(" ".join(rng.choice(stop, 100)) for _ in range(count // 10)),
    }


def _blocks(texts: Iterator[str]) -> Iterator[list[str]]:
    block: list[str] = []
    for text in texts:
        block.append(text)
        if len(block) == _BLOCK:
            yield block
            block = []
    if block:
        yield block


def write(path: Path, blocks: Iterator[list[str]]) -> Path:
    """Write blocks of texts as a Parquet file with the columns `row` and `text`."""
    schema, start = pa.schema([("row", pa.int64()), ("text", pa.string())]), 0
    with pq.ParquetWriter(path, schema) as writer:
        for block in blocks:
            writer.write_table(pa.table({"row": np.arange(start, start + len(block)), "text": block}, schema))
            start += len(block)
    return path
