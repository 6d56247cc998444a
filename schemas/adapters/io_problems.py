"""Competition problems with input/output tests: TACO, APPS, CodeContests, LiveCodeBench, PrimeIntellect, DeepCoder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from schemas.adapters.base import (
    Adapter,
    Made,
    Row,
    first_key,
    is_text,
    keeping_rest,
    made,
    mapping,
    optional_text,
    put,
    text,
    to_json,
    value_of,
    without,
)
from schemas.adapters.code_problems import IDS, problem, solution_of, take_id
from schemas.adapters.io_tests import Tests, add_io_tests, decoded, read_tests, unpack
from schemas.adapters.languages import language_name
from schemas.errors import BadRow
from schemas.record import Draft, Solution

_STATEMENTS: Final = ("question", "problem", "prompt", "description", "problem_statement", "problem_description")
_TESTS: Final = ("input_output", "tests", "test_cases")
_SOLUTIONS: Final = ("solutions", "solution", "gold_standard_solution", "canonical_solution", "reference_solution")
_FENCE: Final = re.compile(r"^\s*```(?P<language>[\w+#-]*)[ \t]*\r?\n(?P<code>.*?)\n?```\s*$", re.S)
_SECONDS: Final = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(?:s|sec|seconds?)?\s*$")


def unfenced(source: str) -> tuple[str, str | None]:
    """(code, language) of a program in a Markdown fence; the text itself where there is none."""
    match = _FENCE.match(source)
    return (match["code"], language_name(match["language"])) if match else (source, None)


def _looks_like_tests(value: Any) -> bool:
    return isinstance(value, Mapping | list) or (isinstance(value, str) and value.lstrip()[:1] in ("[", "{"))


def _io(row: Row) -> str | None:
    tests, statement = first_key(row, *_TESTS), first_key(row, *_STATEMENTS)
    if tests and statement and isinstance(row[statement], str) and _looks_like_tests(row[tests]):
        return f"has '{statement}' and test data in '{tests}'"
    return None


def _make_io(row: Row) -> Made:
    statement, tests_key = first_key(row, *_STATEMENTS) or "question", first_key(row, *_TESTS) or "tests"
    found = read_tests(decoded(row.get(tests_key), tests_key), tests_key)
    draft = add_io_tests(problem(text(row, statement)), found)
    used = [statement, tests_key, *take_id(draft, row, *IDS, "problem_name", "hash", "slug")]
    solutions_key = first_key(row, *_SOLUTIONS)
    if solutions_key:
        put(draft, solutions=_references(row[solutions_key], solutions_key))
        used.append(solutions_key)
    judge = _limits(row)
    if found.test_type == "functional" and tests_key == "input_output":
        judge["output_may_be_wrapped"] = True  # TACO and APPS put a call's result into a list of one, or do not
    if starter := optional_text(row, "starter_code"):
        judge["starter_code"] = starter
        used.append("starter_code")
    return made(_with_rest(put(draft, judge=to_json(judge) if judge else None), tests_key, found), *used)


def _with_rest(draft: Draft, key: str, found: Tests) -> Draft:
    return put(draft, meta={**draft.get("meta", {}), key: found.rest}) if found.rest else draft


def _limits(row: Row) -> dict[str, Any]:
    """Judge limits from the fields that TACO has; the fields themselves stay in meta as they were written."""
    written = row.get("time_limit")
    match = _SECONDS.match(str(written)) if isinstance(written, str | int | float) else None
    return {"time_limit_s": float(match[1])} if match else {}


def _references(value: Any, field: str) -> list[Solution]:
    """Accepted solutions: one text, a list of them, or such a list as JSON text or Python literal; empty ones go."""
    if isinstance(value, str) and value.lstrip()[:1] == "[":
        value = decoded(value, field)
    sources = [value] if isinstance(value, str) else value
    if not isinstance(sources, list | tuple) or not all(isinstance(source, str) for source in sources):
        raise BadRow("wrong_type", f"'{field}' is not source text or a list of it", field)
    pairs = [unfenced(source) for source in sources]
    return [each for code, language in pairs for each in solution_of(code, language or "python", "accepted")]


def _lcb(row: Row) -> str | None:
    return (
        "has 'question_content' and 'public_test_cases'"
        if is_text(row, "question_content", "public_test_cases")
        else None
    )


def _make_lcb(row: Row) -> Made:
    """LiveCodeBench. Private tests are JSON, or packed: base64, zlib and a pickle of text that is never run."""
    draft = problem(text(row, "question_content"))
    public = read_tests(decoded(value_of(row, "public_test_cases"), "public_test_cases"), "public_test_cases")
    private = _private(row)
    rest = {"public_test_cases": public.rest, "private_test_cases": private.rest}
    kind = public.test_type if public.tests else private.test_type
    if private.tests and private.test_type != kind:
        raise BadRow("bad_tests", f"public tests are {kind}, private ones {private.test_type}", "private_test_cases")
    name = public.entry_point or private.entry_point or _func_name(row)
    add_io_tests(draft, Tests(public.tests + private.tests, kind, name, None))
    put(draft, meta={key: value for key, value in rest.items() if value})
    used = ["question_content", "public_test_cases", "private_test_cases", *take_id(draft, row)]
    if starter := optional_text(row, "starter_code"):
        put(draft, judge=to_json({"starter_code": starter}))
        used.append("starter_code")
    return made(draft, *used)


def _private(row: Row) -> Tests:
    value = row.get("private_test_cases")
    if isinstance(value, str) and value and value.lstrip()[:1] not in ("[", "{"):
        return read_tests(unpack(value, "private_test_cases"), "private_test_cases")
    return read_tests(decoded(value, "private_test_cases") if value != "" else None, "private_test_cases")


def _func_name(row: Row) -> str | None:
    """The function under test; `metadata` itself stays in meta."""
    try:
        metadata = decoded(row.get("metadata"), "metadata")
    except BadRow:
        return None
    name = metadata.get("func_name") if isinstance(metadata, Mapping) else None
    return name if isinstance(name, str) and name else None


def _prime(row: Row) -> str | None:
    if is_text(row, "prompt") and row.get("verification_info") and "gold_standard_solution" in row:
        return "has 'verification_info' and 'gold_standard_solution'"
    return None


def _make_prime(row: Row) -> Made:
    """PrimeIntellect SYNTHETIC-1: test cases sit in `verification_info`, with the language."""
    field = "verification_info"
    info = mapping({field: decoded(value_of(row, field), field)}, field)
    found = read_tests(info.get("test_cases"), field)
    draft = add_io_tests(problem(text(row, "prompt"), language_name(info.get("language")) or "python"), found)
    gold = row.get("gold_standard_solution")
    put(draft, solutions=_references(gold, "gold_standard_solution") if gold is not None else None)
    left = without(info, "test_cases") | ({"test_cases": found.rest} if found.rest else {})
    id_used = take_id(draft, row, "problem_id", "task_id", "in_source_id")
    return made(put(draft, meta={field: left} if left else None), "prompt", field, "gold_standard_solution", *id_used)


_SPLITS: Final = ("public_tests", "private_tests", "generated_tests")
_CODECONTESTS: Final = {0: None, 1: "python2", 2: "cpp", 3: "python", 4: "java"}
_CLAIMS: Final = (("solutions", "accepted"), ("incorrect_solutions", "wrong_answer"))


def _contests(row: Row) -> str | None:
    return (
        "has 'description' and 'public_tests'"
        if is_text(row, "description") and isinstance(row.get("public_tests"), Mapping)
        else None
    )


def _make_contests(row: Row) -> Made:
    """CodeContests: three sets of tests as columns, right and wrong solutions with the language as a number."""
    draft = problem(text(row, "description"), None)
    splits = [(key, read_tests(row[key], key)) for key in _SPLITS if row.get(key) is not None]
    tests = [{"name": f"{key}/{index}", **test} for key, found in splits for index, test in enumerate(found.tests)]
    put(draft, tests=tests, test_type="stdio" if tests else None)
    solutions = [each for key, verdict in _CLAIMS for each in _programs(row.get(key), key, verdict)]
    left = {key: _beside(row.get(key)) for key, _ in _CLAIMS} | {key: found.rest for key, found in splits}
    put(draft, meta={key: rest for key, rest in left.items() if rest})
    limit = row.get("time_limit")
    seconds = limit.get("seconds") if isinstance(limit, Mapping) else None
    judge = {"time_limit_s": float(seconds)} if isinstance(seconds, int | float) else {}
    put(draft, solutions=solutions, judge=to_json(judge) if judge else None)
    used = ["description", *(key for key, _ in splits), *(key for key, _ in _CLAIMS)]
    return made(draft, *used, *take_id(draft, row))


def _beside(value: Any) -> dict[str, Any]:
    return without(value, "solution", "language") if isinstance(value, Mapping) else {}


def _programs(value: Any, field: str, verdict: str) -> list[Solution]:
    if value is None:
        return []
    codes, languages = (value.get("solution"), value.get("language")) if isinstance(value, Mapping) else (None, None)
    if not isinstance(codes, list | tuple) or not isinstance(languages, list | tuple) or len(codes) != len(languages):
        raise BadRow("wrong_type", f"'{field}' has no lists 'solution' and 'language' of one length", field)
    if not all(isinstance(each, str) or each in tuple(_CODECONTESTS) for each in languages):
        raise BadRow("wrong_type", f"'{field}.language' is not 0 to {max(_CODECONTESTS)}, or a name", field)
    named = [language_name(each) if isinstance(each, str) else _CODECONTESTS[each] for each in languages]
    return [
        each for code, language in zip(codes, named, strict=True) for each in solution_of(str(code), language, verdict)
    ]


IO_PROBLEM: Final = Adapter("io_problem", "TACO, APPS, DeepCoder: statement and test data", _io, keeping_rest(_make_io))
LIVECODEBENCH: Final = Adapter("livecodebench", "LiveCodeBench", _lcb, keeping_rest(_make_lcb))
PRIMEINTELLECT: Final = Adapter("primeintellect", "PrimeIntellect code tasks", _prime, keeping_rest(_make_prime))
CODE_CONTESTS: Final = Adapter("code_contests", "DeepMind CodeContests", _contests, keeping_rest(_make_contests))
