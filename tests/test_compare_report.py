"""What follows from a comparison's figures: intervals, corrected tests, recommendations, tables and the drawing."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from io import StringIO
from math import isnan
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from rich.console import Console
from scipy import stats

from reports.compare import judge
from reports.compare_stats import holm, interval, paired
from reports.compare_view import markdown, plot, render

Numbers = st.lists(st.floats(-5, 5), min_size=2, max_size=12)


@given(Numbers, st.integers(0, 2**32 - 1))
def test_paired_intervals_are_scipys(first: list[float], seed: int) -> None:
    second = (np.array(first) + np.random.default_rng(seed).normal(size=len(first))).tolist()
    theirs = stats.ttest_rel(first, second)
    band = theirs.confidence_interval(0.95)
    mine = paired(dict(enumerate(first)), dict(enumerate(second)))
    assert mine.mean == pytest.approx(np.mean(np.array(first) - second))
    assert (mine.low, mine.high, mine.p) == pytest.approx((band.low, band.high, theirs.pvalue), rel=1e-6, abs=1e-9)


def test_intervals_of_few_values() -> None:
    assert isnan(interval([1.0]).low)
    assert isnan(interval([1.0]).p)
    same = interval([2.0, 2.0, 2.0])
    assert (same.low, same.high, same.p) == (2.0, 2.0, 0.0)
    assert interval([0.0, 0.0]).p == 1.0
    # Student's t of two degrees of freedom: 4.302653 standard errors.
    assert interval([1.0, 2.0, 3.0]).high == pytest.approx(2 + 4.302653 / 3**0.5, abs=1e-5)


def test_only_seeds_of_both_are_paired() -> None:
    assert paired({0: 1.0, 1: 5.0}, {1: 3.0, 2: 9.0}).mean == 2.0
    with pytest.raises(ValueError, match="no seed"):
        paired({0: 1.0}, {1: 1.0})


def test_holm() -> None:
    # R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert found == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert holm({"a": 0.8, "b": 0.9}) == pytest.approx({"a": 1.0, "b": 1.0})
    assert isnan(holm({"a": 0.01, "b": float("nan")})["b"])


@given(st.dictionaries(st.text(min_size=1), st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_helps_and_keeps_the_order(values: dict[str, float]) -> None:
    found = holm(values)
    assert all(values[name] <= found[name] <= 1 for name in values)
    order = sorted(values, key=lambda name: values[name])
    assert [found[name] for name in order] == sorted(found.values())
    assume(len(values) == 1)
    assert found == pytest.approx(values)


def raw(
    losses: dict[str, list[float]], other: dict[str, list[float]] | None = None, **seconds: float
) -> dict[str, Any]:
    """Figures as `compare` gives them, from losses per selector and seed."""
    selection = {
        "target": None, "seed": None, "rows": 10, "tokens": 500, "mean_tokens": 50.0, "passes": 2.0, "distinct": 0.9,
        "clusters": 3.0, "sources": {"rows": 10}, "scored": 10, "known": 0,
    }  # fmt: skip
    return {
        "selectors": list(losses), "seeds": len(losses["random"]), "train": {"tokens": 1_000},
        "pool": {"rows": 100, "repeating_held_out": 0, "sources": {"rows": 100}},
        "targets": {"maths": {"rows": 40, "held_out": 20}}, "others": {"web": {"rows": 9, "held_out": 9}},
        "model": {"given": None, "parameters": 5, "loss": {"maths": 4.0, "web": 4.0}},
        "selections": [{**selection, "selector": name, "seconds": seconds.get(name, 1.0)} for name in losses],
        "trainings": [
            {"selector": name, "target": "maths", "seed": seed, "loss": {"maths": loss, "web": web}}
            for name in losses
            for seed, (loss, web) in enumerate(zip(losses[name], (other or losses)[name], strict=True))
        ],
        "overlap": {"maths": {name: dict.fromkeys(losses, 1.0) for name in losses}},
    }  # fmt: skip


RANDOM = [3.00, 3.02, 2.98, 3.01, 2.99]


def moved(by: float, jitter: float = 0.002) -> list[float]:
    """Random's losses moved, not by quite the same at every seed."""
    return [loss + by + jitter * sign for loss, sign in zip(RANDOM, (1, -1, 1, -1, 0), strict=True)]


def verdict(losses: dict[str, list[float]], **keys: Any) -> tuple[str | None, str]:
    (found,) = judge(raw(losses, **keys)).verdicts
    return found.best, found.recommendation


def test_the_lowest_sure_loss_is_recommended() -> None:
    best, text = verdict({"random": RANDOM, "zipfit": moved(-0.10), "dsir": moved(-0.05), "ifd": moved(0.04)})
    assert best == "zipfit"
    assert text == (
        "maths: use `zipfit`: -0.100 nats per token against random (95% interval -0.102 to -0.098). "
        "Surely worse than random: `ifd`."
    )


def test_random_wins_where_nothing_is_surely_better() -> None:
    best, text = verdict({"random": RANDOM, "quad": [2.90, 3.10, 2.95, 3.03, 2.96], "length": moved(0.2)})
    assert best == "random"
    assert text.startswith("maths: random is not beaten, so take random rows.")
    assert "lowest loss of the others is that of `quad`: -0.012 nats" in text
    assert text.endswith("Surely worse than random: `length`.")


def test_many_rivals_need_more_than_a_lucky_one() -> None:
    lucky = [2.97, 3.0, 2.96, 3.0, 2.95]  # p = 0.012 alone
    assert verdict({"random": RANDOM, "a": lucky})[0] == "a"
    noise = {name: [loss + 0.1 * (at % 2) - 0.04 for at, loss in enumerate(RANDOM)] for name in "bcdef"}
    assert verdict({"random": RANDOM, "a": lucky, **noise})[0] == "random"


def test_ties_and_their_price() -> None:
    losses = {"random": RANDOM, "quad": moved(-0.100, 0.004), "zipfit": moved(-0.099, -0.004)}
    best, text = verdict(losses, quad=300.0, zipfit=2.0)
    assert best == "quad"
    assert "Not told apart from it: `zipfit`. Of these, `zipfit` took 2.0 s, not 5 min." in text


def test_what_it_costs_elsewhere_is_said() -> None:
    losses = {"random": RANDOM, "dsir": moved(-0.1)}
    assert (
        "It is worse than random on web (+0.300)." in verdict(losses, other={"random": RANDOM, "dsir": moved(0.3)})[1]
    )


def test_one_seed_recommends_nothing() -> None:
    best, text = verdict({"random": [3.0], "dsir": [2.0]})
    assert best is None
    assert "one seed says nothing" in text


def test_several_targets_are_summed_up() -> None:
    figures = raw({"random": RANDOM, "zipfit": moved(-0.10), "ifd": [3.0, 3.1, 2.9, 3.2, 2.8]})
    assert "on the target itself" not in markdown(judge(figures))
    figures["targets"] |= {"web": {"rows": 9, "held_out": 4}}
    figures["others"] = {}
    figures["trainings"] += [{**one, "target": "web"} for one in figures["trainings"]]
    figures["overlap"] |= {"web": figures["overlap"]["maths"]}
    page = markdown(judge(figures))
    assert "| selector | maths | web |" in page
    assert "| random | 3.000 ± 0.020 | 3.000 ± 0.020 |" in page
    assert "| zipfit | -0.100 ± 0.002 * | -0.100 ± 0.002 * |" in page
    # Differences 0, 0.08, -0.08, 0.19, -0.19: 2.7764 x sqrt(0.085 / 4) / sqrt(5).
    assert page.count("000 ± 0.181 |") >= 2


def test_tables_drawing_and_json() -> None:
    found = judge(raw({"random": RANDOM, "zipfit": moved(-0.10), "<b>": [3.0, 3.1, 2.9, 3.2, 2.8]}))
    assert [line.selector for line in found.verdicts[0].lines] == ["zipfit", "random", "<b>"]
    page = markdown(found)
    assert "| zipfit | 2.900 ± " in page
    assert "3.000 ± 0.020 |  |" in page  # random has no difference from itself
    drawing = ElementTree.fromstring(plot(found))
    texts = [node.text for node in drawing.iter("{http://www.w3.org/2000/svg}text")]
    assert {"zipfit", "<b>", "maths: random 3.000 nats per token"} <= set(texts)
    console = Console(width=200, file=StringIO())
    console.print(render(found))
    assert "zipfit" in console.file.getvalue()  # type: ignore[attr-defined]
    lone = judge(raw({"random": [3.0], "dsir": [2.0]}))
    assert lone.to_dict()["verdicts"][0]["lines"][0]["loss"]["low"] is None
    assert "dsir" in plot(lone)
