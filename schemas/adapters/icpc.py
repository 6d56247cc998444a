"""ICPC / Kattis problem packages, as a row made of one or as the map of their files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import yaml

from schemas.adapters.base import (
    Adapter,
    Made,
    Row,
    has,
    identify,
    is_text,
    items,
    keeping_rest,
    made,
    mapping,
    missing,
    put,
    text,
    to_json,
    without,
    wrong_type,
)
from schemas.adapters.languages import language_name, language_of_path
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
        if not isinstance(code, str) or not code.strip() or language is None:
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


def _folder(row: Row) -> str | None:
    files = row.get("files")
    return "is a folder with a problem.yaml" if isinstance(files, Mapping) and "problem.yaml" in files else None


def _make_folder(row: Row) -> Made:
    """A package as `{"package": name, "files": {path in the package: text}}`."""
    files = {str(name): body for name, body in mapping(row, "files").items()}
    package = package_row(files)
    taken = _taken(package)
    draft, used = _make_package(package)
    left = {name: body for name, body in files.items() if name not in taken}
    meta = {**draft[0].get("meta", {}), **{key: value for key, value in package.items() if key not in used}}
    put(draft[0], meta={**meta, **({"files": left} if left else {})})
    identify(draft[0], row.get("package"))
    return made(draft[0], "files", *(["package"] if "source_id" in draft[0] else []))


def package_row(files: Mapping[str, Any]) -> dict[str, Any]:
    """The row of a package from its text files by path: tests, submissions, statements and validators gathered."""
    if not has(files, "problem.yaml"):
        missing(files, "problem.yaml")
    names = sorted(name for name in files if isinstance(files[name], str))
    return {
        "problem_yaml": files["problem.yaml"],
        "statement": {name: files[name] for name in names if _ANY_STATEMENT.search(name)},
        "tests": [_test_files(files, name) for name in names if name.startswith("data/") and name.endswith(".in")],
        "submissions": [_submission(files, name) for name in names if _is_submission(name)],
        "validators": {name: files[name] for name in names if "_validator" in name.partition("/")[0]},
        "meta_files": {name: files[name] for name in names if name in (".timelimit", "domjudge-problem.ini")},
    }


def _taken(package: Mapping[str, Any]) -> set[str]:
    """Names of the files whose text is in the row of a package."""
    tests, submissions = package["tests"], package["submissions"]
    return {
        "problem.yaml",
        *package["statement"],
        *package["validators"],
        *package["meta_files"],
        *(f"{test['path']}.in" for test in tests),
        *(f"{test['path']}.ans" for test in tests if "answer" in test),
        *(submission["path"] for submission in submissions),
    }


def _test_files(files: Mapping[str, Any], name: str) -> dict[str, str]:
    answer = files.get(f"{name[:-3]}.ans")
    test = {"path": name[:-3], "input": files[name]}
    return {**test, "answer": answer} if isinstance(answer, str) else test


def _is_submission(name: str) -> bool:
    """Single-file submissions only: a folder of files is kept, but is not a program we can run."""
    return name.startswith("submissions/") and name.count("/") == 2


def _submission(files: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {
        "path": name,
        "expected": name.split("/")[1],
        "language": language_of_path(name),
        "code": files[name],
    }


PACKAGE: Final = Adapter("icpc_package", "problem packages, one per row", _package, keeping_rest(_make_package))
FOLDER: Final = Adapter("problem_folder", "problem packages as a map of files", _folder, keeping_rest(_make_folder))
