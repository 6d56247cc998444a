"""Code problems in the shapes of RL trainers: through the real loader, and scored or read back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from adapter_data import load
from datasets import load_dataset
from formats_rows import (
    ALPACA,
    FUNCTIONAL,
    MATHS,
    PROBLEMS,
    REFERENCE,
    SOURCE,
    STDIO,
    TEXT,
    canonical,
    fenced,
    read,
    table,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.reward import CodeReward, compute_score, record_of, trl_reward
from pipelines.files import table_writer
from pipelines.formats import FORMATS, Shaped
from stages.sandbox import Limits
from stages.verify.problem import problem

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def reward() -> Iterator[CodeReward]:
    with CodeReward(workers=1, limits=Limits(cpu_s=2)) as ready:
        yield ready


def loaded(shaped: Shaped, folder: Path) -> list[Any]:
    """The rows as `datasets` gives them."""
    with table_writer(folder / "rows.parquet", shaped.table.schema) as writer:
        writer.write(shaped.table)
    found = load_dataset("parquet", data_files=str(folder / "rows.parquet"), split="train", cache_dir=str(folder / "c"))
    assert not any("null" in str(kind) for kind in found.features.values())
    return list(found)


def test_every_format_gives_its_schema() -> None:
    records = table([*(row for row, _, _ in PROBLEMS.values()), ALPACA, MATHS, TEXT])
    for shape in FORMATS.values():
        shaped = shape(records)
        assert shaped.table.schema == shape.schema
        assert shaped.table.num_rows + len(shaped.untold) == records.num_rows
        assert shape(records.slice(0, 0)).table.schema == shape.schema


@pytest.mark.parametrize("name", PROBLEMS)
def test_verl_row_is_scored(name: str, tmp_path: Path) -> None:
    row, right, wrong = PROBLEMS[name]
    (got,) = loaded(FORMATS["verl"](table([row]), "validation", 7), tmp_path)
    assert got["prompt"][0]["role"] == "user"
    assert (got["data_source"], got["ability"], got["reward_model"]["style"]) == ("made", "code", "rule")
    assert (got["extra_info"]["split"], got["extra_info"]["index"], got["extra_info"]["record_id"]) == (
        "validation",
        7,
        "r0",
    )
    truth = got["reward_model"]["ground_truth"]
    assert compute_score(got["data_source"], fenced(right), truth, got["extra_info"]) == 1.0
    assert compute_score(got["data_source"], fenced(wrong), truth, got["extra_info"]) == 0.0


@pytest.mark.parametrize("name", PROBLEMS)
def test_trl_row_is_scored(name: str, tmp_path: Path, reward: CodeReward) -> None:
    row, right, wrong = PROBLEMS[name]
    (got,) = loaded(FORMATS["trl"](table([row])), tmp_path)
    assert bool(got["solutions"]) is (name == "reference")  # only there does the reward need them
    # GRPOTrainer passes every column but `prompt`, a list with one value per completion
    columns = {key: [value, value] for key, value in got.items() if key != "prompt"}
    answers = [[{"role": "assistant", "content": fenced(code)}] for code in (right, wrong)]
    assert trl_reward(reward)(prompts=[got["prompt"]] * 2, completions=answers, **columns) == [1.0, 0.0]


@pytest.mark.parametrize("shape", ["rllm", "open-r1"])
@pytest.mark.parametrize("name", ["stdio", "functional"])
def test_round_trip_by_our_own_adapters(shape: str, name: str, tmp_path: Path, reward: CodeReward) -> None:
    row, right, wrong = PROBLEMS[name]
    (got,) = loaded(FORMATS[shape](table([row])), tmp_path)
    before, after = read(row), read(got)
    assert problem(after).kind == name
    assert [json.loads(t["input"]) if name == "functional" else t["input"] for t in after["tests"]] == [
        json.loads(t["input"]) if name == "functional" else t["input"] for t in before["tests"]
    ]
    assert [t["output"] for t in after["tests"]] == [t["output"] for t in before["tests"]]
    assert after.get("entry_point") == before.get("entry_point")
    assert after.get("solutions") == before.get("solutions")
    assert reward.score(after, fenced(right)) == 1.0
    assert reward.score(after, fenced(wrong)) == 0.0


def test_rllm_columns() -> None:
    got = FORMATS["rllm"](table([STDIO, FUNCTIONAL])).table.to_pylist()
    tests = [json.loads(row["tests"]) for row in got]
    assert tests[0][1] == {"input": "1\n", "output": "2\n", "testtype": "stdin", "metadata": {"func_name": None}}
    assert tests[1][2] == {
        "input": '["1", "2"]\n""',
        "output": '"12"',
        "testtype": "functional",
        "fn_name": "join",
        "metadata": {"func_name": "join"},
    }
    assert got[1]["problem"] == FUNCTIONAL["question_content"]
    assert got[1]["starter_code"] == FUNCTIONAL["starter_code"]
    assert [row["metadata"]["func_name"] for row in got] == [None, "join"]
    assert got[0]["solutions"] == ["```python\nprint(2 * int(input()))\n\n```"]


def test_open_r1_columns() -> None:
    got = FORMATS["open-r1"](table([STDIO, FUNCTIONAL])).table.to_pylist()
    infos = [row["verification_info"] for row in got]
    assert [info["language"] for info in infos] == ["python", "python"]
    assert infos[0]["test_cases"][0] == {"fn_name": None, "input": "0\n", "output": "0\n", "type": "stdin_stdout"}
    assert (infos[1]["test_cases"][0]["fn_name"], infos[1]["test_cases"][0]["type"]) == ("join", "function_call")
    assert got[1]["problem_id"] == "join-1"


def test_the_model_is_told_what_to_write() -> None:
    told = [
        row["prompt"][0]["content"] for row in FORMATS["verl"](table([STDIO, FUNCTIONAL, REFERENCE])).table.to_pylist()
    ]
    assert told[0] == STDIO["question"]
    assert "```python\nclass Solution:\n    def join(self, words, by):\n```" in told[1]
    assert told[2] == REFERENCE["prompt"]
    unnamed = {**REFERENCE, "prompt": "Square a number."}
    (named,) = FORMATS["trl"](table([unnamed])).table.to_pylist()
    assert named["prompt"][0]["content"] == "Square a number.\n\nThe function must be called `f`."


def test_answers_are_ground_truth_too() -> None:
    (got,) = FORMATS["verl"](table([MATHS])).table.to_pylist()
    assert got["reward_model"] == {"style": "rule", "ground_truth": "4"}
    assert (got["ability"], got["prompt"]) == ("reasoning", [{"role": "user", "content": "2+2?"}])
    assert FORMATS["trl"](table([MATHS])).table.to_pylist()[0]["answer"] == "4"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("code/humaneval.jsonl.gz", {"verl": 164, "trl": 164, "rllm": 0, "open-r1": 0}),
        ("code/mbpp_plus_v0.1.0_ids_le_600.jsonl.gz", {"verl": 288, "trl": 288, "rllm": 0, "open-r1": 0}),
        ("code/sandboxfusion_code_eval_code_contests.jsonl.gz", {"verl": 20, "trl": 20, "rllm": 20, "open-r1": 20}),
        ("code/quixbugs_python.jsonl.gz", {"verl": 29, "trl": 29, "rllm": 24, "open-r1": 24}),
    ],
)
def test_real_problems(name: str, told: dict[str, int], shared_data: Path) -> None:
    records = table(load(shared_data / name))
    rows = {shape: FORMATS[shape](records).table.to_pylist() for shape in told}
    assert {shape: len(made) for shape, made in rows.items()} == told
    for before, row in zip(records.to_pylist(), rows["verl"], strict=True):
        extra = row["extra_info"]
        after, wanted = problem(record_of(row["reward_model"]["ground_truth"], extra)), problem(before)
        assert (after.kind, after.entry if wanted.kind != "stdio" else wanted.entry) == (wanted.kind, wanted.entry)
        if wanted.kind in ("source", "reference"):
            assert (after.test_code, after.preamble) == (wanted.test_code, wanted.preamble)
        read_as = _parsed if wanted.kind == "functional" else str
        assert {(read_as(check.input), read_as(check.output)) for check in after.checks} == {
            (read_as(check.input), read_as(check.output)) for check in wanted.checks
        }


def _parsed(text: str) -> str:
    """JSON in one spelling."""
    return json.dumps(json.loads(text))


def _changed(judge: dict[str, Any] | None = None, **columns: Any) -> dict[str, Any]:
    record = table([STDIO]).to_pylist()[0]
    return {**record, **columns, "judge": json.dumps(judge) if judge else None}


def _called(tests: list[dict[str, str]], judge: dict[str, Any] | None = None) -> dict[str, Any]:
    return _changed(judge, test_type="functional", entry_point="f", tests=tests)


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        (table([SOURCE]).to_pylist()[0], "source_tests"),
        (table([REFERENCE]).to_pylist()[0], "reference_tests"),
        (table([ALPACA]).to_pylist()[0], "not_a_code_problem"),
        (_changed(tests=[]), "no_tests"),
        (_changed(tests=[{"file": "secret/1.in"}]), "no_tests"),
        (_changed(language="cpp"), "other_language"),
        (_changed({"validation": "custom"}), "judge_rules"),
        (_changed({"float_tolerance": 1e-4}), "judge_rules"),
        (_changed(prompt=" "), "no_prompt"),
        (_called([{"input": '{"x": 1}', "output": "1"}]), "named_arguments"),
        (_called([{"input": "[]", "output": "1"}]), "no_arguments"),
        (_called([{"input": "[1]", "output": "9" * 5000}]), "unwritable"),
        (
            _called([{"input": "[1]", "output": "[1]"}], {"output_may_be_wrapped": True}),
            "wrapped_outputs",
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("shape", ["rllm", "open-r1"])
def test_what_a_comparing_grader_cannot_check_is_named(shape: str, record: dict[str, Any], kind: str) -> None:
    shaped = FORMATS[shape](canonical([record]))
    assert shaped.table.num_rows == 0
    assert [(one.record_id, one.kind) for one in shaped.untold] == [("r0", kind)]


def test_raw_text_is_nothing_to_check() -> None:
    for name in ("verl", "trl"):
        assert [one.kind for one in FORMATS[name](table([TEXT, ALPACA])).untold] == ["nothing_to_check"] * 2


def test_equal_tests_once_and_in_order() -> None:
    pairs = [("1", "a"), ("22", "b"), ("1", "a"), ("333", "c")]
    record = _changed(tests=[{"input": given, "output": wanted} for given, wanted in pairs])
    (got,) = FORMATS["verl"](canonical([record])).table.to_pylist()
    assert json.loads(got["reward_model"]["ground_truth"]) == {"inputs": ["1", "22", "333"], "outputs": ["a", "b", "c"]}


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.lists(_VALUES, max_size=3), _VALUES), min_size=1, max_size=4))
def test_any_call_reaches_the_reward_unchanged(calls: list[tuple[list[Any], Any]]) -> None:
    tests = [{"input": json.dumps(given), "output": json.dumps(wanted)} for given, wanted in calls]
    record = _called(tests)
    (got,) = FORMATS["verl"](canonical([record])).table.to_pylist()
    before, after = problem(record), problem(record_of(got["reward_model"]["ground_truth"], got["extra_info"]))
    assert (after.kind, after.entry) == (before.kind, before.entry)
    assert [(check.input, check.output) for check in after.checks] == [(c.input, c.output) for c in before.checks]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=9), st.text(max_size=9)), min_size=1, max_size=4, unique=True))
def test_any_text_reaches_the_reward_unchanged(pairs: list[tuple[str, str]]) -> None:
    record = _changed(tests=[{"input": given, "output": wanted} for given, wanted in pairs])
    (got,) = FORMATS["verl"](canonical([record])).table.to_pylist()
    after = problem(record_of(got["reward_model"]["ground_truth"], got["extra_info"]))
    assert {(check.input, check.output) for check in after.checks} == set(pairs)
    (row,) = FORMATS["rllm"](canonical([record])).table.to_pylist()
    assert [(test["input"], test["output"]) for test in read(row)["tests"]] == pairs
