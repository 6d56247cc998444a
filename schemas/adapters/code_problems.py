"""Function-call problems checked by test source: HumanEval and its kin, MBPP, MBPP+, LeetCode, KodCode, CRUXEval."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from schemas.adapters.base import (
    Adapter,
    Made,
    Row,
    first_key,
    has,
    identify,
    is_text,
    items,
    keeping_rest,
    made,
    number,
    optional_text,
    put,
    text,
    to_json,
    wrong_type,
)
from schemas.adapters.languages import language_name
from schemas.adapters.test_source import split_tests
from schemas.errors import BadRow
from schemas.record import Draft, Solution, Test

REFERENCES: Final = ("canonical_solution", "cannonical_solution", "reference_solution")
IDS: Final = ("task_id", "question_id", "problem_id", "name", "id", "uid")


def problem(prompt: str, language: str | None = "python") -> Draft:
    """An empty code problem. BadRow without a statement."""
    if not prompt.strip():
        raise BadRow("missing_content", "the problem statement is empty", "prompt")
    return put({"kind": "code", "prompt": prompt}, language=language)


def add_source_tests(draft: Draft, source: str) -> Draft:
    """Set tests, test_code and test_type from test source; a draft without tests where there is none."""
    if not source.strip():
        return draft
    tests = split_tests(source, draft.get("language"))
    return put(draft, tests=tests, test_code=source, test_type="pytest")


def whole_program(prompt: str, solution: str, entry_point: str | None) -> str:
    """The program that a solution stands for: itself where it defines the entry point, else the prompt it continues.

    Code that starts indented goes on where the prompt stopped, whatever it defines on its way.
    """
    name = (entry_point or "").rpartition(".")[2]
    goes_on = solution.lstrip("\n")[:1] in (" ", "\t")
    if (
        name
        and not goes_on
        and re.search(rf"^\s*(?:async\s+)?(?:def|class|function|const|let|var)\s+{re.escape(name)}\b", solution, re.M)
    ):
        return solution
    return prompt + solution


def solution_of(code: str, language: str | None, verdict: str | None) -> list[Solution]:
    """One solution, or none where the code is empty."""
    if not code.strip():
        return []
    made: Solution = {"code": code}
    if language:
        made["language"] = language
    if verdict:
        made["verdict"] = verdict
    return [made]


def take_id(draft: Draft, row: Row, *names: str) -> tuple[str, ...]:
    """Set source_id from the first of `names`; returns the key it used up."""
    key = first_key(row, *(names or IDS))
    if key is None:
        return ()
    identify(draft, row[key])
    return (key,) if "source_id" in draft else ()


def _humaneval(row: Row) -> str | None:
    if is_text(row, "prompt", "test") and (
        has(row, "entry_point") or first_key(row, *REFERENCES) or has(row, "task_id")
    ):
        return "has 'prompt' and test source in 'test'"
    return None


def _make_humaneval(row: Row) -> Made:
    prompt, entry = text(row, "prompt"), optional_text(row, "entry_point")
    language = language_name(optional_text(row, "language")) or "python"
    draft = add_source_tests(problem(prompt, language), text(row, "test"))
    used = ["prompt", "test", "entry_point", *take_id(draft, row)]
    used += ["language"] if row.get("language") == language else []
    reference_key = first_key(row, *REFERENCES)
    solutions: list[Solution] = []
    if reference_key:
        used.append(reference_key)
        solutions = solution_of(whole_program(prompt, text(row, reference_key), entry), language, "accepted")
        solutions = solutions if text(row, reference_key).strip() else []
    if is_text(row, "solution") and isinstance(row.get("is_solved"), bool):
        verdict = "accepted" if row["is_solved"] else "wrong_answer"
        solutions += _attempt(prompt, row["solution"], entry, language, verdict)
        used.append("solution")
    return made(put(draft, entry_point=entry or None, solutions=solutions), *used)


def _attempt(prompt: str, code: str, entry: str | None, language: str, verdict: str) -> list[Solution]:
    return solution_of(whole_program(prompt, code, entry), language, verdict) if code.strip() else []


def _attempts(row: Row) -> str | None:
    if is_text(row, "prompt", "test", "solution") and isinstance(row.get("is_solved"), bool):
        return "has 'test', a model's 'solution' and 'is_solved'"
    return None


def _prompts(row: Row) -> str | None:
    key = first_key(row, *REFERENCES)
    return f"has 'prompt' and '{key}', no tests" if key and is_text(row, "prompt", key) and "test" not in row else None


def _make_prompts(row: Row) -> Made:
    """A benchmark's prompts with their solutions: nothing to run, so pairs, not problems."""
    prompt, key = text(row, "prompt"), first_key(row, *REFERENCES) or REFERENCES[0]
    draft: Draft = {"kind": "sft", "prompt": prompt, "completion": text(row, key)}
    return made(draft, "prompt", key, *take_id(draft, row))


def _leetcode(row: Row) -> str | None:
    if is_text(row, "query", "completion", "test", "entry_point"):
        return "has 'query', 'completion', 'test' and 'entry_point'"
    return None


def _make_leetcode(row: Row) -> Made:
    """LeetCodeDataset: `query` is the statement, `prompt` the imports that tests and solution share."""
    preamble = optional_text(row, "prompt") or ""
    draft = add_source_tests(problem(text(row, "query")), text(row, "test"))
    program = f"{preamble}\n\n{text(row, 'completion')}" if preamble else text(row, "completion")
    put(
        draft,
        completion=optional_text(row, "response"),
        entry_point=text(row, "entry_point"),
        solutions=solution_of(program, "python", "accepted"),
        judge=to_json({"preamble": preamble}) if preamble else None,
    )
    return made(draft, "query", "prompt", "completion", "response", "test", "entry_point", *take_id(draft, row))


def _mbpp(row: Row) -> str | None:
    if isinstance(row.get("test_list"), list) and first_key(row, "text", "prompt"):
        return "has a statement and asserts in 'test_list'"
    return None


def _make_mbpp(row: Row) -> Made:
    asserts = items(row, "test_list")
    if not all(isinstance(check, str) for check in asserts):
        raise BadRow("wrong_type", "'test_list' is not a list of asserts", "test_list")
    statement_key = first_key(row, "text", "prompt") or "text"
    setup_key = first_key(row, "test_setup_code", "test_imports")
    setup = _lines(row, setup_key) if setup_key else ""
    tests: list[Test] = [{"name": f"assert {index}", "code": check} for index, check in enumerate(asserts, 1)]
    draft = problem(text(row, statement_key))
    if tests:
        put(draft, tests=tests, test_code="\n".join([setup] * bool(setup) + asserts), test_type="pytest")
    put(draft, solutions=solution_of(optional_text(row, "code") or "", "python", "accepted"))
    used = [statement_key, "test_list", "code", *take_id(draft, row), *([setup_key] if setup_key and tests else [])]
    return made(draft, *used)


def _lines(row: Row, key: str) -> str:
    value = row[key]
    if isinstance(value, list | tuple) and all(isinstance(line, str) for line in value):
        return "\n".join(value)
    return text(row, key)


def _mbpp_plus(row: Row) -> str | None:
    if has(row, "base_input", "plus_input") and is_text(row, "prompt", "canonical_solution"):
        return "has 'base_input' and 'plus_input'"
    return None


def _make_mbpp_plus(row: Row) -> Made:
    """EvalPlus: expected outputs are not stored but are what the reference returns for the inputs in `judge`."""
    prompt, entry, inputs = text(row, "prompt"), text(row, "entry_point"), [*items(row, "base_input")]
    draft = add_source_tests(problem(prompt), optional_text(row, "assertion") or "")
    judge: dict[str, Any] = {"inputs": inputs + items(row, "plus_input"), "expected": "reference"}
    if (tolerance := row.get("atol")) is not None:
        if number(tolerance) is None:
            raise wrong_type("atol", tolerance, "a number")
        judge["float_tolerance"] = tolerance
    if (contract := optional_text(row, "contract")) is not None:
        judge["contract"] = contract
    program = whole_program(prompt, text(row, "canonical_solution"), entry)
    put(draft, judge=to_json(judge), entry_point=entry, solutions=solution_of(program, "python", "accepted"))
    names = ("prompt", "entry_point", "canonical_solution", "base_input", "plus_input", "atol", "contract", "assertion")
    return made(draft, *names, *take_id(draft, row))


def _kodcode(row: Row) -> str | None:
    if is_text(row, "question", "solution", "test"):
        return "has 'question', 'solution' and test source in 'test'"
    return None


def _make_kodcode(row: Row) -> Made:
    draft = add_source_tests(problem(text(row, "question")), text(row, "test"))
    put(draft, solutions=solution_of(text(row, "solution"), "python", "accepted"), entry_point=_declared(row))
    return made(draft, "question", "solution", "test", *take_id(draft, row))


def _declared(row: Row) -> str | None:
    """KodCode names the function under test in `test_info[0].function_name`; the field itself stays in meta."""
    info = row.get("test_info")
    first = info[0] if isinstance(info, Sequence) and info and not isinstance(info, str) else None
    name = first.get("function_name") if isinstance(first, dict) else None
    return name if isinstance(name, str) else None


def _cruxeval(row: Row) -> str | None:
    if is_text(row, "code", "input", "output") and re.search(r"^def f\(", row["code"], re.M):
        return "has a function f in 'code' with its 'input' and 'output'"
    return None


def _make_cruxeval(row: Row) -> Made:
    code, given, wanted = text(row, "code"), text(row, "input"), text(row, "output")
    check = f"assert f({given}) == {wanted}"
    tests: list[Test] = [{"name": "assert 1", "code": check}]
    draft = put(problem(code), tests=tests, test_code=check, test_type="pytest", entry_point="f", answer=wanted)
    put(draft, solutions=solution_of(code, "python", "accepted"))
    return made(draft, "code", "input", "output", *take_id(draft, row))


HUMANEVAL: Final = Adapter("humaneval", "prompt, test source, reference", _humaneval, keeping_rest(_make_humaneval))
ATTEMPTS: Final = Adapter("solved_problem", "problems with a judged attempt", _attempts, keeping_rest(_make_humaneval))
PROMPTS: Final = Adapter("problem_prompt", "prompts with solutions, no tests", _prompts, keeping_rest(_make_prompts))
LEETCODE: Final = Adapter("leetcode", "LeetCodeDataset", _leetcode, keeping_rest(_make_leetcode))
MBPP: Final = Adapter("mbpp", "MBPP: statement, code, list of asserts", _mbpp, keeping_rest(_make_mbpp))
MBPP_PLUS: Final = Adapter("mbpp_plus", "EvalPlus MBPP+", _mbpp_plus, keeping_rest(_make_mbpp_plus))
KODCODE: Final = Adapter("kodcode", "KodCode: question, solution, pytest source", _kodcode, keeping_rest(_make_kodcode))
CRUXEVAL: Final = Adapter(
    "cruxeval", "CRUXEval: a function, one input, one output", _cruxeval, keeping_rest(_make_cruxeval)
)
