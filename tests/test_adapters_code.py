"""Code problems: what counts as a test, the documented counts, and tests that arrive packed."""

from __future__ import annotations

import base64
import json
import pickle
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from adapter_data import load
from adapter_samples import packed
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.adapters import adapt, adapter, detect
from schemas.adapters.io_tests import read_tests, unpack
from schemas.adapters.test_source import split_tests
from schemas.errors import BadRow


def drafts_of(path: Path) -> Iterator[Any]:
    rows = load(path)
    primary = adapter(detect(rows[:50]).adapter)
    for row in rows:
        yield from adapt(row, primary)


def counts(path: Path) -> list[int]:
    return [len(draft.get("tests", [])) for draft in drafts_of(path)]


def test_mbpp_always_has_three_tests(shared_data: Path) -> None:
    assert counts(shared_data / "code/mbpp_001_600.jsonl.gz") == [3] * 600


def test_leetcode_counts(shared_data: Path) -> None:
    old = counts(shared_data / "code/leetcode_dataset_v0.2.0_train.jsonl.gz")
    assert (min(old), max(old), sum(count < 5 for count in old), len(old)) == (1, 5, 1844, 1890)
    new = counts(shared_data / "code/leetcode_dataset_v0.3.0_test_minus_v0.3.1.jsonl.gz")
    assert (min(new), max(new), sum(count < 5 for count in new), len(new)) == (2, 110, 104, 198)


def test_packages_with_samples_only(shared_data: Path) -> None:
    found = counts(shared_data / "code/icpc_packages_misc_mzuenni.jsonl.gz")
    assert (sum(count < 5 for count in found), len(found)) == (11, 17)


def test_problems_without_tests_or_solution_stay_records(shared_data: Path) -> None:
    found = list(drafts_of(shared_data / "code/reflexion_leetcode_hard_296.jsonl.gz"))
    assert len(found) == 296
    assert not any("tests" in draft or "solutions" in draft for draft in found)
    without_reference = list(drafts_of(shared_data / "code/deepseek_leetcode_contest_180.jsonl.gz"))
    assert not any("solutions" in draft for draft in without_reference)
    script = list(drafts_of(shared_data / "code/mbxp_javascript.jsonl.gz"))
    assert sum("solutions" not in draft for draft in script) == 18


def test_counts_agree_with_what_was_run(shared_data: Path) -> None:
    """The measured verdicts say for each problem how many tests were run."""
    ran: dict[str, dict[str, int]] = {}
    for verdict in load(shared_data / "oracle/verdicts_py311.jsonl.gz"):
        name = str(verdict["id"]).partition(":")[0].partition("/submissions/")[0]
        ran.setdefault(verdict["file"], {})[name] = verdict["n_tests"]
    for file, wanted in ran.items():
        found = {draft.get("source_id"): len(draft.get("tests", [])) for draft in drafts_of(shared_data / file)}
        assert {name: found[name] for name in wanted} == wanted


def test_claimed_verdicts(shared_data: Path) -> None:
    claims = [
        solution["verdict"]
        for draft in drafts_of(shared_data / "traces/reflexion_humaneval_mbpp_gpt4.jsonl.gz")
        if (solution := draft.get("solutions", [{}])[-1]).get("verdict")
    ]
    solved = [row["is_solved"] for row in load(shared_data / "traces/reflexion_humaneval_mbpp_gpt4.jsonl.gz")]
    assert sum(solved) == 456
    assert claims.count("wrong_answer") <= solved.count(False)


def test_rewards(shared_data: Path) -> None:
    def total(name: str) -> float:
        return sum(draft["reward"] == 1.0 for draft in drafts_of(shared_data / name))

    assert total("traces/tau_bench_gpt4o_airline_part1.jsonl.gz") == 66
    assert total("traces/mint_gpt35_codellama34b.jsonl.gz") == 187
    assert total("traces/fireact_hotpotqa_trajs_part1.jsonl.gz") == 264
    assert total("traces/deepseek_pcmb_traces_part1.jsonl.gz") == 248
    marked = list(drafts_of(shared_data / "targets/gsm8k_model_solutions_part1.jsonl.gz"))
    assert sum(draft["reward"] for draft in marked if "6b_finetuning" in draft["meta"]) == 146
    assert sum(draft["reward"] for draft in marked if "175b_verification" in draft["meta"]) == 371


def codes(source: str, language: str | None = "python") -> list[str]:
    return [test["code"] for test in split_tests(source, language)]


def test_asserts_carry_what_leads_up_to_them() -> None:
    source = "s = S()\nx = 1\nassert s.f(x) == 1\nx = 2\nassert s.f(x) == 1\n"
    assert codes(source) == ["s = S()\nx = 1\nassert s.f(x) == 1", "x = 2\nassert s.f(x) == 1"]


def test_helpers_are_not_tests_and_loops_are_one() -> None:
    source = (
        "import math\n"
        "def close(a, b):\n    assert a == b\n"
        "def check(candidate):\n"
        "    for i in range(9):\n        assert candidate(i) == i\n        assert candidate(i) >= i\n"
        "    with open('x') as f:\n        assert f\n"
        "    try:\n        assert candidate(1)\n    except ValueError:\n        assert False\n"
    )
    assert codes(source) == [
        "for i in range(9):\n    assert candidate(i) == i\n    assert candidate(i) >= i",
        "assert f",
        "assert candidate(1)",
        "assert False",
    ]


def test_methods_and_functions_count_one_each() -> None:
    source = (
        "import unittest\nclass T(unittest.TestCase):\n    def setUp(self): ...\n"
        "    @skip\n    def test_a(self):\n        self.assertEqual(1, 1)\n        self.assertTrue(1)\n"
        "    def test_b(self): ...\n"
        "def test_c():\n    assert f()\n"
    )
    found = split_tests(source, "python")
    assert [test["name"] for test in found] == ["T.test_a", "T.test_b", "test_c"]
    assert found[0]["code"].startswith("@skip\ndef test_a")


def test_a_table_of_inputs_is_one_test_per_pair() -> None:
    source = (
        "def check(candidate):\n    inputs = [[1], [2], [3]]\n    results = [2, 3, 4]\n"
        "    for i, (inp, exp) in enumerate(zip(inputs, results)):\n        assertion(candidate(*inp), exp, 0)\n"
    )
    assert codes(source) == ["[1] -> 2", "[2] -> 3", "[3] -> 4"]


@pytest.mark.parametrize(
    ("source", "language", "wanted"),
    [
        ("assert f(1) == 1\nprint 'python 2'\nassert f(2)", "python", 2),
        ("const assert = require('assert');\nassert.equal(f(), 1);\nassert(f());", "javascript", 2),
        ("if(!same(x, 1)){\n  throw 'one'\n}\nif(!same(y, 1)){\n  throw 'one'\n}", "javascript", 2),
        ("#include <assert.h>\nint main() {\n  assert(f() == 1);\n  static_assert(true);\n}", "cpp", 2),
        ("#[test]\nfn t() {\n    assert_eq!(f(), 1);\n    assert!(g());\n}", "rust", 2),
        ("", "python", 0),
        ("x = 1", "python", 0),
        ("assert (" + "(" * 5000, "python", 1),
    ],
)
def test_counts_in_other_sources(source: str, language: str, wanted: int) -> None:
    found = codes(source, language)
    assert len(found) == wanted
    assert len(set(found)) == wanted


@settings(max_examples=200, deadline=None)
@given(source=st.text(max_size=60), language=st.sampled_from(["python", "cpp", None]))
def test_any_source_is_split(source: str, language: str | None) -> None:
    assert all(test["code"] for test in split_tests(source, language))


@settings(max_examples=100, deadline=None)
@given(values=st.lists(st.integers(), max_size=8), line=st.sampled_from(["\n", "\r\n", "\r"]))
def test_as_many_asserts_as_were_written(values: list[int], line: str) -> None:
    lines = [
        "text = 'a\u2028b'",
        "def check(candidate):",
        *(f"    assert candidate({value})" for value in values),
        "    pass",
    ]
    assert len(codes(line.join(lines))) == len(values)


CASES = [{"input": "1\n", "output": "2\n", "testtype": "stdin"}]


def test_packed_tests_are_read() -> None:
    assert unpack(packed(CASES), "f") == CASES
    plain = base64.b64encode(zlib.compress(json.dumps(CASES).encode())).decode()
    assert unpack(plain, "f") == CASES
    nested = base64.b64encode(zlib.compress(pickle.dumps({"input_output": json.dumps({"inputs": []})}))).decode()
    assert unpack(nested, "f") == {"inputs": []}


class Evil:
    """Its pickle runs a command when it is loaded."""

    def __reduce__(self) -> Any:
        return (print, ("loaded",))


def test_a_pickle_that_would_run_code_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    bad = base64.b64encode(zlib.compress(pickle.dumps(["[]", Evil()]))).decode()
    with pytest.raises(BadRow, match="pickle of more than text") as caught:
        unpack(bad, "private_test_cases")
    assert caught.value.kind == "unsafe_tests"
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "junk", ["", "eJ", "not base64!", "AAAA", base64.b64encode(zlib.compress(b"\x80\x04.")).decode()]
)
def test_junk_instead_of_packed_tests_is_refused(junk: str) -> None:
    with pytest.raises(BadRow):
        unpack(junk, "f")


@pytest.mark.parametrize(
    ("value", "kind", "tests"),
    [
        ({"inputs": ["1"], "outputs": ["2"]}, "stdio", [{"input": "1", "output": "2"}]),
        ({"inputs": [["1", "2"]], "outputs": ["3"]}, "stdio", [{"input": "1\n2", "output": "3"}]),
        (
            {"inputs": [[1, "a"]], "outputs": [True], "fn_name": "f"},
            "functional",
            [{"input": '[1,"a"]', "output": "true"}],
        ),
        (["assert f(1)", "assert f(2)"], "pytest", [{"code": "assert f(1)"}, {"code": "assert f(2)"}]),
        ([{"input_file": "1.in", "output_file": "1.out"}], "stdio", [{"file": "1.in"}]),
        (
            [{"input": '"a"\n[1]', "output": "null", "testtype": "functional"}],
            "functional",
            [{"input": '["a",[1]]', "output": "null"}],
        ),
        (
            [{"type": "function_call", "fn_name": "f", "input": [1], "output": "words"}],
            "functional",
            [{"input": "[1]", "output": '"words"'}],
        ),
        ([], "stdio", []),
        (None, "stdio", []),
    ],
)
def test_shapes_of_tests(value: Any, kind: str, tests: list[Any]) -> None:
    found = read_tests(value, "tests")
    assert (found.test_type, found.tests) == (kind, tests)


@pytest.mark.parametrize(
    "value",
    [
        {"inputs": ["1", "2"], "outputs": ["1"]},
        {"in": ["1"]},
        [{"neither": 1}],
        ["assert f()", {"input": "1", "output": "1"}],
        [{"input": "1", "output": "1", "fn_name": "f"}, {"input": "1", "output": "1", "fn_name": "g"}],
        7,
        [7],
    ],
)
def test_what_is_no_tests(value: Any) -> None:
    with pytest.raises(BadRow):
        read_tests(value, "tests")


@settings(max_examples=100, deadline=None)
@given(pairs=st.lists(st.tuples(st.text(), st.text()), max_size=5), literal=st.booleans())
def test_taco_tests_survive_their_encoding(pairs: list[tuple[str, str]], literal: bool) -> None:
    """The same tests as JSON text and as a Python literal."""
    data = {"inputs": [given for given, _ in pairs], "outputs": [wanted for _, wanted in pairs]}
    row = {"question": "q", "input_output": repr(data) if literal else orjson.dumps(data).decode()}
    (draft,) = adapt(row, adapter("io_problem"))
    assert [(test["input"], test["output"]) for test in draft.get("tests", [])] == pairs


def test_a_body_that_reuses_the_name_of_its_function_still_continues_the_prompt() -> None:
    row = {
        "task_id": "js/1", "prompt": "function choose(n, k) {\n", "entry_point": "choose", "language": "javascript",
        "canonical_solution": "  let choose = 1;\n  return choose;\n}\n", "test": "if (choose(1, 1) !== 1) throw 'no'",
    }  # fmt: skip
    (draft,) = adapt(row, adapter("humaneval"))
    assert draft["solutions"][0]["code"] == row["prompt"] + row["canonical_solution"]
