"""The outcome reward and the signatures that trainers expect."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from jobs.reward import CodeReward, compute_score, hardest, last_block, record_of, trl_reward
from stages.sandbox import Limits

DOUBLE = {"tests": [{"input": f"{n}\n", "output": f"{2 * n}\n"} for n in range(3)], "test_type": "stdio"}
RIGHT = "Think.\n```python\nprint('draft')\n```\nBetter:\n```python\nprint(2 * int(input()))\n```\nDone."
WRONG = "```python\nprint(2 * int(input()))\n```\nNo:\n```python\nprint(3 * int(input()))\n```"
BARE = "print(2 * int(input()))"


@pytest.fixture(scope="module")
def reward() -> Iterator[CodeReward]:
    with CodeReward(workers=2, limits=Limits(cpu_s=2)) as ready:
        yield ready


def test_the_last_fenced_block_counts(reward: CodeReward) -> None:
    assert reward.score(DOUBLE, RIGHT) == 1.0
    assert reward.score(DOUBLE, WRONG) == 0.0


def test_no_block_no_reward(reward: CodeReward) -> None:
    assert reward.score(DOUBLE, BARE) == 0.0
    assert reward.score(DOUBLE, "") == 0.0
    assert reward.score(DOUBLE, f"```python\n{BARE}") == 0.0  # never closed: cut off in the middle
    assert reward.score(DOUBLE, f"```java\n{BARE}\n```") == 0.0


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a\n```py\nx = 1\n```\n", ("x = 1\n", "python")),
        ("~~~\ny\n~~~", ("y\n", "")),
        ("````md\n```python\nz\n```\n````", ("```python\nz\n```\n", "md")),
        ("```python\r\nx\r\n```\r\n".replace("\r\n", "\n"), ("x\n", "python")),
        ("inline ```x``` only", None),
    ],
)
def test_blocks(text: str, found: tuple[str, str] | None) -> None:
    assert last_block(text) == found


def test_no_partial_credit_and_no_tests_no_reward(reward: CodeReward) -> None:
    assert reward.score(DOUBLE, "```python\nprint(0)\n```") == 0.0
    assert reward.score({"tests": [], "test_type": "stdio"}, RIGHT) == 0.0


def test_only_the_longest_inputs_are_used(reward: CodeReward) -> None:
    tests = [{"input": "1" * n, "output": "x"} for n in range(1, 41)]
    chosen = hardest({"tests": tests}, 15)["tests"]
    assert [len(test["input"]) for test in chosen] == list(range(26, 41))
    only_short_fails = {"tests": [{"input": "1" * n, "output": str(n if n > 5 else -1)} for n in range(1, 31)]}
    assert reward.score({**only_short_fails, "test_type": "stdio"}, "```\nprint(len(input()))\n```") == 1.0


def test_batched_and_async(reward: CodeReward) -> None:
    records, completions = [DOUBLE] * 4, [RIGHT, WRONG, BARE, RIGHT]
    assert reward.score_batch(records, completions) == [1.0, 0.0, 0.0, 1.0]
    assert asyncio.run(reward.score_async(records, completions)) == [1.0, 0.0, 0.0, 1.0]


def test_trl_signature(reward: CodeReward) -> None:
    function = trl_reward(reward)
    chat: list[Any] = [[{"role": "assistant", "content": RIGHT}], [{"role": "assistant", "content": WRONG}]]
    columns = {"tests": [DOUBLE["tests"]] * 2, "test_type": ["stdio"] * 2, "entry_point": [None] * 2}
    got = function(prompts=["p", "p"], completions=chat, completion_ids=[[1], [2]], trainer_state=None, **columns)
    assert got == [1.0, 0.0]
    truths = [json.dumps({"inputs": ["2\n"], "outputs": ["4\n"]})] * 2
    assert function(prompts=["p"] * 2, completions=[RIGHT, WRONG], ground_truth=truths) == [1.0, 0.0]


def test_verl_signature() -> None:
    calls = json.dumps({"inputs": [[1], [2]], "outputs": [2, 4], "fn_name": "f"})
    good = "```python\ndef f(x):\n    return 2 * x\n```"
    assert compute_score("deepcoder", good, calls) == 1.0
    assert compute_score("deepcoder", good.replace("2 *", "3 *"), calls) == 0.0
    assert compute_score(data_source="x", solution_str=RIGHT, ground_truth=json.dumps(DOUBLE), extra_info={}) == 1.0
    pairs = json.dumps([{"input": "3\n", "output": "6\n"}])
    assert compute_score("x", RIGHT, pairs, {"index": 1}) == 1.0


ADD = "```python\ndef add(a, b):\n    return a + b\n```"
SUM = "```python\ninput()\nprint(sum(map(int, input().split())))\n```"
JOIN = "```python\ndef add(a, b):\n    return f'{a}{b}'\n```"
LCB = [{"input": "1\n2", "output": "3", "testtype": "functional", "metadata": {"func_name": "add"}}]


@pytest.mark.parametrize(
    ("truth", "extra", "right", "wrong"),
    [
        (LCB, {"entry_point": "add"}, ADD, ADD.replace("+", "-")),
        (LCB, None, ADD, ADD.replace("+", "-")),
        ([{**LCB[0], "metadata": '{"func_name": "add"}'}], None, ADD, ADD.replace("+", "-")),
        ([{**LCB[0], "metadata": {}}], {"entry_point": "add"}, ADD, ADD.replace("+", "-")),
        ({"inputs": [[1, 2]], "outputs": [[3]], "fn_name": "add"}, None, ADD, ADD.replace("+", "-")),
        ({"inputs": ["[1, 2]"], "outputs": ["3"], "fn_name": "add"}, None, ADD, ADD.replace("+", "-")),
        ({"inputs": [[1, 2]], "outputs": ["12"], "fn_name": "add"}, None, JOIN, ADD),  # a text, not a number
        ({"inputs": [["2", "1 2"]], "outputs": [["3"]]}, None, SUM, SUM.replace("sum", "max")),
    ],
)
def test_plain_test_data(reward: CodeReward, truth: Any, extra: Any, right: str, wrong: str) -> None:
    for ground_truth in (truth, json.dumps(truth)):
        record = record_of(ground_truth, extra)
        assert (reward.score(record, right), reward.score(record, wrong)) == (1.0, 0.0)


def test_a_row_that_tells_its_own_rules_wraps_no_results(reward: CodeReward) -> None:
    """A function whose every result is a list of one: our exports name the judge, be it null."""
    truth = {"inputs": [[1, 2]], "outputs": [[3]], "fn_name": "add"}
    assert reward.score(record_of(truth, {"judge": None}), ADD) == 0.0
    assert reward.score(record_of(truth, {"judge": None}), ADD.replace("a + b", "[a + b]")) == 1.0
    mixed = {"inputs": [[1, 2], [3, 4]], "outputs": [[3], [7, 7]], "fn_name": "add"}
    assert "judge" not in record_of(mixed)
