"""ICPC / Kattis problem packages, one per row."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import yaml

from schemas.adapters.base import (
    Adapter,
    Made,
    Row,
    identify,
    is_text,
    items,
    keeping_rest,
    made,
    mapping,
    put,
    text,
    to_json,
    without,
    wrong_type,
)
from schemas.adapters.languages import language_name
from schemas.errors import BadRow
from schemas.record import Draft, Solution, Test

_VERDICTS: Final = {
    "accepted": "accepted",
    "slow_accepted": "accepted",
    "wrong_answer": "wrong_answer",
    "time_limit_exceeded": "time_limit",
    "run_time_error": "runtime_error",
    "runtime_error": "runtime_error",
}
_STATEMENT: Final = re.compile(r"(?:^|/)(?:problem_statement|statement)/problem(?:\.en)?\.(?:tex|md)$")
_ANY_STATEMENT: Final = re.compile(r"(?:^|/)(?:problem_statement|statement)/problem[^/]*\.(?:tex|md)$")
_TIME_LIMIT: Final = re.compile(r"""timelimit\s*=\s*['"]?([\d.]+)""")
_TOLERANCE: Final = re.compile(r"float_(?:(absolute|relative)_)?tolerance\s+(\S+)")


def _package(row: Row) -> str | None:
    if is_text(row, "problem_yaml") and isinstance(row.get("tests"), list) and isinstance(row.get("submissions"), list):
        return "has 'problem_yaml', 'tests' and 'submissions'"
    return None


def _make_package(row: Row) -> Made:
    """Which statement is the problem's is chosen by name; slides and solution notes stay in meta."""
    statements = mapping(row, "statement")
    chosen = _statement({name: body for name, body in statements.items() if isinstance(body, str)})
    if chosen is None or not statements[chosen].strip():
        raise BadRow("missing_content", "no problem statement", "statement")
    draft: Draft = {"kind": "code", "prompt": statements[chosen]}
    tests, tests_left = _tests(items(row, "tests"))
    solutions, submissions_left = _solutions(items(row, "submissions"))
    put(draft, tests=tests, test_type="stdio" if tests else None, solutions=solutions, judge=to_json(_judge(row)))
    left = {"statement": without(statements, chosen), "tests": tests_left, "submissions": submissions_left}
    put(draft, meta={key: value for key, value in left.items() if value})
    identify(draft, row.get("package"))
    used = ["statement", "tests", "submissions", *(["package"] if "source_id" in draft else []), "validators"]
    return made(draft, *used)


def _statement(statements: Mapping[str, str]) -> str | None:
    english = [name for name in statements if _STATEMENT.search(name)]
    return min(english or [name for name in statements if _ANY_STATEMENT.search(name)], default=None)


def _tests(raws: list[Any]) -> tuple[list[Test], list[Any]]:
    tests: list[Test] = []
    rests: list[Any] = []
    for raw in raws:
        if not isinstance(raw, Mapping):
            raise wrong_type("tests", raw, "a list of objects")
        test: Test = {"name": raw["path"]} if is_text(raw, "path") else {}
        for column, key in (("input", "input"), ("output", "answer"), ("file", "file")):
            if isinstance(raw.get(key), str):
                test[column] = raw[key]  # type: ignore[literal-required]
        tests.append(test)
        taken = [key for key in ("path", "input", "answer", "file") if is_text(raw, key)]
        named = str(raw.get("group", "")) in test.get("name", "")
        rests.append(without(raw, *taken, *(["group"] if named else [])))
    return tests, rests if any(rests) else []


def _solutions(raws: list[Any]) -> tuple[list[Solution], list[Any]]:
    """Programs with the verdict their folder claims; verdicts we have no name for stay as they are."""
    solutions: list[Solution] = []
    rests: list[Any] = []
    for raw in raws:
        if not isinstance(raw, Mapping):
            raise wrong_type("submissions", raw, "a list of objects")
        code, language = raw.get("code"), language_name(raw.get("language"))
        beside_others = str(raw.get("path") or "").count("/") > 2  # one file of a program of several
        if not isinstance(code, str) or not code.strip() or language is None or beside_others:
            rests.append(dict(raw))
            continue
        claimed = str(raw.get("expected") or "")
        solutions.append({"code": code, "language": language})
        if claimed:
            solutions[-1]["verdict"] = _VERDICTS.get(claimed, claimed)
        rests.append(without(raw, "code"))
    return solutions, rests


def _judge(row: Row) -> dict[str, Any]:
    """What decides: limits, how outputs are compared, whether the judge talks back, and the sources that do it."""
    settings = _settings(text(row, "problem_yaml"))
    limits = settings.get("limits") if isinstance(settings.get("limits"), dict) else {}
    flags = str(settings.get("validator_flags") or "")
    validation = str(settings.get("validation") or "default")
    judge: dict[str, Any] = {
        "validation": validation,
        "interactive": "interactive" in f"{validation} {settings.get('type') or ''}",
        "time_limit_s": _time_limit(row, limits or {}),
        "memory_mb": (limits or {}).get("memory"),
        "output_mb": (limits or {}).get("output"),
        "validator_flags": flags or None,
        "validators": row.get("validators") or None,
    }
    for which, value in _TOLERANCE.findall(flags):
        judge[f"float_{which}_tolerance" if which else "float_tolerance"] = _float(value)
    judge.update(dict.fromkeys([flag for flag in ("case_sensitive", "space_change_sensitive") if flag in flags], True))
    return {key: value for key, value in judge.items() if value is not None}


def _settings(source: str) -> dict[str, Any]:
    try:
        settings = yaml.safe_load(source)
    except yaml.YAMLError as error:
        raise BadRow("bad_package", "problem.yaml is no YAML", "problem_yaml") from error
    return settings if isinstance(settings, dict) else {}


def _time_limit(row: Row, limits: Mapping[str, Any]) -> float | None:
    if isinstance(limits.get("time_limit"), int | float):
        return float(limits["time_limit"])
    files = row.get("meta_files") if isinstance(row.get("meta_files"), Mapping) else {}
    written = {name: body for name, body in (files or {}).items() if isinstance(body, str)}
    if ".timelimit" in written:
        return _float(written[".timelimit"])
    match = _TIME_LIMIT.search(written.get("domjudge-problem.ini", ""))
    return _float(match[1]) if match else None


def _float(written: str) -> float | None:
    try:
        return float(written.strip())
    except ValueError:
        return None


PACKAGE: Final = Adapter("icpc_package", "problem packages, one per row", _package, keeping_rest(_make_package))
