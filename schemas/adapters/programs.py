"""Programs beside a prompt: sampled completions, repairs and rewrites, other languages."""

from __future__ import annotations

import re
from typing import Any, Final

from schemas.adapters.base import (
    Adapter,
    Made,
    Row,
    has,
    is_text,
    items,
    keeping_rest,
    made,
    mapping,
    missing,
    optional_text,
    put,
    text,
    to_json,
    wrong_type,
)
from schemas.adapters.code_problems import add_source_tests, problem, solution_of, take_id
from schemas.adapters.io_problems import unfenced
from schemas.adapters.languages import language_name
from schemas.errors import BadRow
from schemas.record import Draft, Solution, Test

_NUMBERED: Final = re.compile(r"^[A-Za-z]+_\d+_")


def _multipl_e(row: Row) -> str | None:
    return (
        "has 'prompt', 'tests' source, 'language'"
        if is_text(row, "prompt", "tests", "language") and "name" in row
        else None
    )


def _make_multipl_e(row: Row) -> Made:
    """MultiPL-E: tests in the problem's own language; a model's solution has no verdict."""
    language = language_name(text(row, "language"))
    draft = add_source_tests(problem(text(row, "prompt"), language), text(row, "tests"))
    code, _ = unfenced(optional_text(row, "gpt_solution") or "")
    name = _NUMBERED.sub("", text(row, "name"))
    put(draft, entry_point=name, solutions=solution_of(code, language, None))
    used = ["prompt", "tests", "gpt_solution", *take_id(draft, row, "name")]
    return made(draft, *used, *(["language"] if row.get("language") == language else []))


def _sampled(row: Row) -> str | None:
    if is_text(row, "prompt") and isinstance(row.get("samples"), list) and "def " in row["prompt"]:
        return "has 'prompt' code and sampled completions in 'samples'"
    return None


def _make_sampled(row: Row) -> Made:
    prompt = text(row, "prompt")
    samples = items(row, "samples")
    if not all(isinstance(sample, str) for sample in samples):
        raise wrong_type("samples", samples, "a list of text")
    solutions: list[Solution] = [{"code": prompt + sample, "language": "python"} for sample in samples]
    return made(put(problem(prompt), solutions=solutions), "prompt", "samples")


def _rewrite(row: Row) -> str | None:
    if is_text(row, "input", "target") and has(row, "problem_id", "language"):
        return "has a program in 'input' and its rewrite in 'target'"
    return None


def _make_rewrite(row: Row) -> Made:
    """PIE: a slow program and the faster one its author wrote next."""
    language = language_name(row.get("language"))
    draft: Draft = {"kind": "sft", "prompt": text(row, "input"), "completion": text(row, "target")}
    put(draft, language=language, source_id=_joined_id(row))
    return made(draft, "input", "target", *(["language"] if row.get("language") == language else []))


def _joined_id(row: Row) -> str | None:
    """Two submissions name a pair; they stay in meta too, under their own keys."""
    parts = [row.get("submission_id_v0"), row.get("submission_id_v1")]
    return "#".join(str(part) for part in parts) if all(parts) else None


def _quixbugs(row: Row) -> str | None:
    return "has 'buggy_program' and 'correct_program'" if is_text(row, "buggy_program", "correct_program") else None


def _make_quixbugs(row: Row) -> Made:
    """QuixBugs: repair a program. Tests as data where there are, else the pytest source."""
    draft = problem(text(row, "buggy_program"))
    solutions = solution_of(text(row, "correct_program"), "python", "accepted")
    solutions += solution_of(text(row, "buggy_program"), "python", "wrong_answer")
    put(draft, solutions=solutions, entry_point=optional_text(row, "name"))
    used = ["buggy_program", "correct_program", "name", "json_testcases", *take_id(draft, row)]
    if row.get("json_testcases") not in (None, []):
        put(draft, tests=[_call(case) for case in items(row, "json_testcases")], test_type="functional")
    elif (source := optional_text(row, "python_test")) is not None:
        add_source_tests(draft, source)
        used.append("python_test")
    return made(draft, *used)


def _call(case: Any) -> Test:
    if not isinstance(case, list | tuple) or len(case) != 2:
        raise BadRow("bad_tests", "a test in 'json_testcases' is no [arguments, result]", "json_testcases")
    arguments, result = case
    return {"input": to_json(arguments if isinstance(arguments, list) else [arguments]), "output": to_json(result)}


def _exercism(row: Row) -> str | None:
    config = row.get("config")
    if isinstance(row.get("files"), dict) and isinstance(config, dict) and isinstance(config.get("files"), dict):
        return "has 'files' and a 'config' that says which is solution, test and example"
    return None


def _make_exercism(row: Row) -> Made:
    """Exercism: `judge` says into which file a solution goes and holds the test files beside it."""
    everything, roles = mapping(row, "files"), mapping(mapping(row, "config"), "files")
    files: dict[str, str] = {name: body for name, body in everything.items() if isinstance(body, str)}
    instructions = [name for name in files if name.startswith(".docs/") and name.endswith(".md")]
    order = sorted(instructions, key=lambda name: ("introduction" not in name, "append" in name, name))
    if not order:
        missing(everything, ".docs/instructions.md")
    draft = problem("\n\n".join(files[name] for name in order))
    tests = [name for name in _named(roles, "test") if name in files]
    examples = [name for name in _named(roles, "example") if name in files]
    suites = [name for name in tests if name.endswith("_test.py")] or tests  # the others only help them
    add_source_tests(draft, "\n\n".join(files[name] for name in suites))
    solutions = [each for name in examples for each in solution_of(files[name], "python", "accepted")]
    helpers = [name for name in files if name.endswith(".py") and not name.startswith(".")]
    beside = {name: files[name] for name in (*tests, *helpers) if name not in _named(roles, "solution")}
    judge = {"solution_files": _named(roles, "solution"), "files": beside}
    put(draft, solutions=solutions, judge=to_json(judge))
    left = {name: body for name, body in everything.items() if name not in {*order, *tests, *examples}}
    return made(put(draft, meta={"files": left}), "files", *take_id(draft, row, "slug"))


def _named(roles: dict[str, Any], role: str) -> list[str]:
    names = roles.get(role)
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


MULTIPL_E: Final = Adapter("multipl_e", "MultiPL-E translations", _multipl_e, keeping_rest(_make_multipl_e))
SAMPLED: Final = Adapter("sampled_programs", "prompts with sampled programs", _sampled, keeping_rest(_make_sampled))
REWRITE: Final = Adapter("program_rewrite", "PIE: slow and fast programs", _rewrite, keeping_rest(_make_rewrite))
QUIXBUGS: Final = Adapter("quixbugs", "QuixBugs: buggy and correct programs", _quixbugs, keeping_rest(_make_quixbugs))
EXERCISM: Final = Adapter("exercism", "Exercism exercises as a map of files", _exercism, keeping_rest(_make_exercism))
