"""What the shapes of code problems share: the prompt, the tests as data, the reference solutions."""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

from pipelines.formats.base import Record
from schemas.errors import BadRow
from stages.verify.problem import Kind, problem

TOLD_BY: Final = (
    "kind", "prompt", "messages", "language", "tests", "test_code", "test_type", "entry_point", "solutions", "judge",
)  # fmt: skip
"""The columns that these functions look at."""
_OWN_RULES: Final = (
    "float_tolerance", "float_absolute_tolerance", "float_relative_tolerance", "interactive", "space_change_sensitive",
)  # fmt: skip


class Tests(NamedTuple):
    """The tests of a problem. `pairs` are input and output as the record has them, each pair once."""

    kind: Kind
    pairs: list[tuple[str, str]]
    entry: str
    judge: dict[str, Any]


def tests_of(record: Record) -> Tests:
    """The tests as verification sees them, in the record's order. BadRow where there are none."""
    if record["kind"] != "code":
        raise BadRow("not_a_code_problem", f"a record of kind '{record['kind']}'")
    found = problem(record)
    if found.kind == "none":
        raise BadRow("no_tests", "no test that can be run")
    usable = {(check.input, check.output) for check in found.checks}
    given = [(test.get("input") or "", test.get("output") or "") for test in record["tests"] or ()]
    judge = dict(found.judge)
    if found.kind == "source" and found.preamble:
        judge["preamble"] = found.preamble  # what tests need of a prompt that is code; trainers do not pass prompts on
    return Tests(found.kind, [pair for pair in dict.fromkeys(given) if pair in usable], found.entry, judge)


def data_tests(record: Record) -> Tests:
    """Tests of a Python problem that a grader which only compares can run. BadRow for anything else."""
    tests = tests_of(record)
    if tests.kind == "reference":
        raise BadRow("reference_tests", "right values are what the reference returns, they are not written down")
    if tests.kind not in ("stdio", "functional"):
        raise BadRow("source_tests", "the tests are source, not input and output")
    if (record["language"] or "python") != "python":
        raise BadRow("other_language", f"the problem is for {record['language']}")
    judge = tests.judge
    if judge.get("validation", "default") != "default" or any(judge.get(name) for name in _OWN_RULES):
        raise BadRow("judge_rules", "the problem's judge has rules of its own")
    if judge.get("output_may_be_wrapped") and any(_wrapped(wanted) for _, wanted in tests.pairs):
        raise BadRow("wrapped_outputs", "a right value may lie in a list of one, and the grader would not take it out")
    return tests


def _wrapped(written: str) -> bool:
    value = result(written)
    return isinstance(value, list) and len(value) == 1


def arguments(written: str) -> list[Any] | dict[str, Any]:
    """The arguments of a call: a list, or a dict of named ones. Text that is no JSON is one value per line."""
    try:
        value = json.loads(written)
    except json.JSONDecodeError:
        value = [result(line) for line in written.split("\n") if line.strip()]
    except (ValueError, RecursionError) as error:
        raise BadRow("unwritable", f"a test's input cannot be read again: {error}", "tests") from error
    return value if isinstance(value, list | dict) else [value]


def result(written: str) -> Any:
    """The value that a call should return; text that is no JSON stands for itself."""
    try:
        return json.loads(written)
    except json.JSONDecodeError:
        return written
    except (ValueError, RecursionError) as error:
        raise BadRow("unwritable", f"a test's output cannot be read again: {error}", "tests") from error


def lines(written: str) -> str:
    """The arguments of a call as LiveCodeBench writes them: one JSON value per line. BadRow for named ones."""
    values = arguments(written)
    if isinstance(values, dict):
        raise BadRow("named_arguments", "a test names its arguments")
    if not values:
        raise BadRow("no_arguments", "a test calls without arguments")
    return "\n".join(json.dumps(value, ensure_ascii=False) for value in values)


def statement(record: Record, tests: Tests | None = None) -> str:
    """The problem for the model: the prompt, with the starter code and the function's name if it tells neither."""
    prompt = record["prompt"]
    if prompt is None or not prompt.strip():
        raise BadRow("no_prompt", "no problem statement")
    text = str(prompt)
    if tests is None:
        return text
    starter = tests.judge.get("starter_code")
    if isinstance(starter, str) and starter.strip() and starter.strip() not in text:
        text = f"{text.rstrip()}\n\nUse this starter code:\n```python\n{starter.rstrip()}\n```"
    name = tests.entry.rpartition(".")[2]
    if tests.kind != "stdio" and name and name not in text:
        text = f"{text.rstrip()}\n\nThe function must be called `{name}`."
    return text


def references(record: Record) -> list[str]:
    """The solutions that their source does not call wrong, fenced."""
    kept = [each for each in record["solutions"] or () if each["code"] and each["verdict"] in (None, "accepted")]
    return [f"```{each['language'] or record['language'] or ''}\n{each['code']}\n```" for each in kept]
