"""`dedup` on real public data with known copies."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pools import records, run

from stages.dedup import Dedup
from stages.dedup.shingles import ascending, shingle
from stages.dedup.sketch import Backend
from stages.dedup.texts import normalise
from stages.dedup.verify import Loaded, similarities


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().split("\n") if line]


def alpaca(path: Path) -> list[dict[str, Any]]:
    return [
        {
            "kind": "sft",
            "source": path.name,
            "prompt": row["instruction"] + ("\n" + row["input"] if row["input"] else ""),
            "completion": row["output"],
        }
        for row in rows_of(path)
    ]


@pytest.mark.parametrize("backend", ["one-permutation", "k-permutation", "datasketch"])
@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.95])
def test_planted_news_pairs_are_found_and_nothing_else(shared_data: Path, backend: Backend, threshold: float) -> None:
    """Real Jaccard similarity of the ten planted pairs is 0.96 to 0.97, that of any other pair below 0.18."""
    articles = rows_of(shared_data / "neardup" / "mccormick_articles_1000.jsonl.gz")
    truth = rows_of(shared_data / "neardup" / "mccormick_articles_1000_truth.jsonl.gz")
    decisions = run(Dedup(backend=backend, threshold=threshold), records([{"text": row["text"]} for row in articles]))
    assert decisions.related is not None
    assert decisions.score is not None
    dropped = np.flatnonzero(~decisions.keep)
    found = {frozenset((articles[k]["id"], articles[int(decisions.related[k])]["id"])) for k in dropped}
    assert found == {frozenset((pair["id_a"], pair["id_b"])) for pair in truth}
    assert decisions.score[dropped].min() > 0.955
    assert decisions.score[dropped].max() < 0.975


def test_alpaca_subsets_are_exact_copies_of_alpaca(shared_data: Path) -> None:
    folder = shared_data / "instruct"
    whole = alpaca(folder / "alpaca_52k_rows_00000_42147.jsonl.gz")
    subsets = [row for name in ("random_9k", "claude_t45") for row in alpaca(folder / f"alpagasus_{name}.jsonl.gz")]
    decisions = run(Dedup(mode="exact", keep="first"), records(whole + subsets), batch_size=10_000)
    assert decisions.related is not None
    assert decisions.keep[len(whole) :].sum() == 0
    assert (decisions.related[len(whole) :] < len(whole)).all()
    assert decisions.keep[: len(whole)].all()
    assert len(subsets) == 7474 + 4323
    near = run(Dedup(keep="first"), records(whole + subsets), batch_size=10_000)
    assert near.keep[len(whole) :].sum() == 0
    assert set(near.reason.to_pylist()[len(whole) :]) <= {"duplicate: exact", "duplicate: near"}  # type: ignore[union-attr]


def test_every_near_drop_among_code_forks_is_right_and_none_is_missed(shared_data: Path) -> None:
    """Against all pairs by brute force, `keep: first`, code tokens."""
    files = [row["content"] for row in rows_of(shared_data / "rawtext" / "code_lm_eval_2_forks.jsonl.gz")]
    decisions = run(Dedup(keep="first", shingles="code", on="code"), records([{"text": text} for text in files]))
    values, offsets = ascending(shingle(normalise(pa.array(files), True, True), "code", 5))
    sets = Loaded(values, np.stack([offsets[:-1], offsets[1:]], axis=1))
    kept: list[int] = []
    missed = 0
    for k in range(len(files)):
        twins = np.array(kept, dtype=np.int64)
        best = similarities(sets, twins, np.full(len(kept), k), "jaccard").max(initial=0.0)
        if decisions.keep[k]:
            missed += best >= 0.8
            kept.append(k)
        elif offsets[k] < offsets[k + 1]:
            assert best >= 0.8
    assert missed == 0
    assert len(files) - len(kept) > 200


def test_the_ladder_of_gpteacher(shared_data: Path) -> None:
    """Its author went 7,673 -> 5,959 -> 4,709 -> 3,487 -> 2,396 with a measure of his own; ours is real Jaccard."""
    rows = rows_of(shared_data / "instruct" / "gpteacher_toolformer_dedupe-only.jsonl.gz")
    values = [f"{row['instruction']}\n{row['input']}\n{row['response']}" for row in rows]
    table = records([{"text": value} for value in values])
    counts = []
    for threshold in (0.9, 0.8, 0.7, 0.6):
        decisions = run(Dedup(threshold=threshold, keep="first"), table, batch_size=4000)
        counts.append(int(decisions.keep.sum()))
        assert decisions.score is not None
        assert decisions.score[~decisions.keep].min() >= threshold
    assert len(rows) > counts[0] > counts[1] > counts[2] > counts[3]
    offsets = (found := ascending(shingle(normalise(pa.array(values), True, True), "word", 5))).offsets
    sets = Loaded(found.values, np.stack([offsets[:-1], offsets[1:]], axis=1))
    kept: list[int] = []
    for k in range(len(rows)):
        twins = np.array(kept, dtype=np.int64)
        if similarities(sets, twins, np.full(len(kept), k), "jaccard").max(initial=0.0) < 0.6:
            kept.append(k)
    assert len(kept) <= counts[3] < 1.01 * len(kept)
