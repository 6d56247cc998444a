"""`select: ifd` with a small real model: the losses are those of the formula, and decide."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from makes import alpaca_rows, run_here, tree, write_jsonl, write_recipe
from small_models import TEMPLATE, save_llama

from pipelines.demo.teacher import serving
from stages.reflect.selecting import Measure, measure
from stages.reflect.turns import Pair, Turn
from stages.student.models import Student, load
from stages.student.turns import GUESS


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llama(tmp_path_factory.mktemp("model"), context=4096)


def loss(student: Student, context: str, target: str) -> float:
    """Mean negative log-likelihood by the textbook: one sequence, shifted by one, the target's tokens only."""
    before = student.tokenizer(context, add_special_tokens=False)["input_ids"]
    wanted = student.tokenizer(target, add_special_tokens=False)["input_ids"]
    ids = torch.tensor([[*(before or [student.start]), *wanted]])
    with torch.inference_mode():
        logs = student.model(ids).logits[0].log_softmax(-1)
    first = ids.shape[1] - len(wanted)
    return float(-sum(logs[at - 1, ids[0, at]] for at in range(first, ids.shape[1])) / len(wanted))


def test_losses_are_those_of_the_formula(folder: Path) -> None:
    student = load(str(folder), device="cpu")
    found = measure(student, Turn(Pair("Why tides?", "The moon pulls."), "Be brief.", (("user", "Hi"),)))
    assert isinstance(found, Measure)
    forward = "Be brief.\n\n### Instruction:\nHi\n\n### Instruction:\nWhy tides?\n\n### Response:\n"
    backward = f"### Instruction:\n{GUESS.format(response='The moon pulls.')}\n\n### Response:\n"
    wanted = [
        loss(student, forward, "The moon pulls."), loss(student, "", "The moon pulls."),
        loss(student, backward, "Why tides?"), loss(student, "", "Why tides?"),
    ]  # fmt: skip
    assert list(found[:4]) == pytest.approx(wanted, abs=1e-4)
    assert found[4:] == (15, 10)  # one token per byte


def test_what_cannot_be_measured_says_so(tmp_path: Path) -> None:
    student = load(str(save_llama(tmp_path, TEMPLATE, context=300)), device="cpu")
    assert measure(student, Turn(Pair("Why?", "x" * 400))) == "too long for the student"
    assert measure(student, Turn(Pair("Why? " * 80, "Because."))) == "too long for the student"
    refused = measure(student, Turn(Pair("Why?", "Because."), system="Be brief."))
    assert refused == "the student's chat template refuses the turns"


def test_a_run_that_selects_obeys_the_rule(folder: Path, tmp_path: Path) -> None:
    """Every decision follows from the stored losses, and a run from the journal stores the same ones."""
    write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(20, seed=2))
    stage = {"model": "rules", "select": "ifd", "student": str(folder)}
    with serving() as url:
        asking = write_recipe(tmp_path, stages=[{"reflect": {**stage, "endpoint": url}}])
        run_here(asking, tmp_path / "a", tmp_path / "s")
    replay = {**stage, "replay": str(tmp_path / "s/journals/reflect")}
    run_here(write_recipe(tmp_path, stages=[{"reflect": replay}]), tmp_path / "b", tmp_path / "t")
    assert tree(tmp_path / "a/lineage/rewrites") == tree(tmp_path / "b/lineage/rewrites")
    assert decided(tmp_path / "a") == decided(tmp_path / "b")
    assert tree(tmp_path / "a/data") == tree(tmp_path / "b/data")
    rows = pq.read_table(tmp_path / "s/scores").to_pylist()
    assert len(rows) == 20
    assert sum(map(taken, rows)) > 3
    details = [json.loads(row["detail"]) for row in decided(tmp_path / "a")]
    assert sum("losses" in detail for detail in details) == sum(bool(row["losses"]) for row in rows)


def decided(out: Path) -> list[dict[str, Any]]:
    rows = pq.read_table(out / "lineage/decisions").to_pylist()
    return [row for row in rows if row["stage"] == "reflect"]


def taken(row: dict[str, Any]) -> bool:
    """Whether a row was rewritten, after checking that its losses say so."""
    found = {each["of"]: each for each in row["losses"]}
    ifd = {name: each["answer"] - each["answer_alone"] for name, each in found.items()}
    back = {name: each["instruction"] - each["instruction_alone"] for name, each in found.items()}
    branch = "original"
    if "instruction" in found:
        assert (row["instruction_status"] == "accepted") == (ifd["instruction"] > ifd["original"])
        branch = "instruction" if row["instruction_status"] == "accepted" else branch
    if "response" in found:
        assert (row["response_status"] == "accepted") == (back["response"] < back[branch])
        branch = "response" if row["response_status"] == "accepted" else branch
    good = branch != "original" and ifd[branch] < 0 and back[branch] < 0
    assert (row["rewrite_status"] == "rewritten") == good
    return branch != "original"
