"""Sampling: seeded, by content, whatever the order."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from pools import records, run
from pydantic import ValidationError

from stages.sample import Sample


def rows(n: int, sources: int = 1) -> list[dict[str, Any]]:
    return [{"text": f"t{k // 2 if k % 3 else k}", "source": f"s{k % sources}"} for k in range(n)]


def kept(stage: Sample, some: list[dict[str, Any]], batch_size: int = 100) -> list[dict[str, Any]]:
    keep = run(stage, records(some), batch_size).keep
    return [row for row, chosen in zip(some, keep, strict=True) if chosen]


@pytest.mark.parametrize(("keep", "number"), [(0.25, 250), (1.0, 1000), (0.0001, 0), (10, 10), (5000, 1000), (1, 1)])
def test_share_and_number(keep: float, number: int) -> None:
    assert len(kept(Sample(keep=keep), rows(1000))) == number


def test_order_and_batches_do_not_matter() -> None:
    some = rows(500)
    shuffled = [some[k] for k in np.random.default_rng(0).permutation(500)]
    first = Counter(row["text"] for row in kept(Sample(keep=0.3), some))
    assert first == Counter(row["text"] for row in kept(Sample(keep=0.3), shuffled, 7))


def test_equal_rows_are_drawn_apart() -> None:
    assert len(kept(Sample(keep=0.5), [{"text": "same"}] * 400)) == 200
    mixed = [{"text": "same"}] * 400 + [{"text": f"{k}"} for k in range(400)]
    share = sum(row["text"] == "same" for row in kept(Sample(keep=0.5), mixed))
    assert 150 < share < 250


def test_seed_changes_the_sample() -> None:
    assert kept(Sample(keep=50), rows(500)) == kept(Sample(keep=50, seed=0), rows(500))
    assert kept(Sample(keep=50), rows(500)) != kept(Sample(keep=50, seed=1), rows(500))


def test_more_rows_change_few_choices() -> None:
    some = [{"text": f"{k}"} for k in range(1000)]
    before, after = kept(Sample(keep=0.5), some[:950]), kept(Sample(keep=0.5), some)
    lost = {row["text"] for row in before} - {row["text"] for row in after}
    assert len(lost) < 40


@pytest.mark.parametrize(("keep", "each"), [(0.1, 20), (30, 30)])
def test_per_source(keep: float, each: int) -> None:
    counts = Counter(row["source"] for row in kept(Sample(keep=keep, per="source"), rows(1000, sources=5)))
    assert counts == {f"s{k}": each for k in range(5)}


def test_reasons_and_empty_pool() -> None:
    decisions = run(Sample(keep=1), records(rows(2)))
    assert sorted(decisions.reason.to_pylist()) == ["kept: sampled", "not sampled"]  # type: ignore[union-attr]
    assert len(run(Sample(keep=1), records([])).keep) == 0


@pytest.mark.parametrize("bad", [0, 0.0, -1, 1.5, "half", None, True])
def test_wrong_amounts_are_refused(bad: object) -> None:
    with pytest.raises(ValidationError):
        Sample.model_validate({"keep": bad})
