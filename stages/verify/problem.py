"""A problem as verification sees it: read once from the columns of a canonical record."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from stages.sandbox import Limits

from .compare import TOLERANCE, Rules

Kind = Literal["stdio", "functional", "source", "reference", "none"]
_INVALID: Final = ("data/bad/", "data/invalid")  # inputs that a package's validators must refuse: no tests
_KEPT: Final = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
# What a test does inside the program's own process; such a test cannot be run apart from it.
_INSIDE: Final = re.compile(
    r"\bmock\b|\bpatch\b|\bcapsys\b|\bcapfd\b|\bmonkeypatch\b|\bsys\.std(?:out|in|err)\b|\bredirect_std|\bStringIO\b"
    r"|__code__|\binspect\.|\bgetsource\b|\bseed\("
    r"|\basync\b|\bawait\b|\basyncio\b|pytest_asyncio|IsolatedAsyncioTestCase"  # a coroutine does not travel
)


@dataclass(frozen=True)
class Check:
    """One test given as data."""

    name: str
    input: str
    output: str


@dataclass(frozen=True)
class Program:
    """One solution: its place in the record, source, language, and what its source claims about it."""

    index: int
    code: str
    language: str
    claim: str | None


@dataclass(frozen=True)
class Problem:
    """Everything that verification needs."""

    kind: Kind
    checks: tuple[Check, ...]
    n_tests: int
    n_distinct: int
    test_code: str
    entry: str
    preamble: str
    judge: Mapping[str, Any]
    language: str
    prompt: str
    programs: tuple[Program, ...]

    @property
    def inside(self) -> bool:
        """Whether the tests must run in the program's own process."""
        return bool(_INSIDE.search(self.test_code))

    @property
    def own(self) -> frozenset[str]:
        """Names that the problem asks for: the entry point, else what the reference defines."""
        head = re.split(r"[.(]", self.entry)[0]
        if head:
            return frozenset({head})
        return frozenset(_defined(self.references[0].code)) if self.references else frozenset()

    @property
    def modules(self) -> dict[str, str]:
        """Modules that the tests bring along, by name."""
        files = self.judge.get("files")
        named = files.items() if isinstance(files, Mapping) else ()
        return {
            name.rpartition("/")[2].removesuffix(".py"): text
            for name, text in named
            if name.endswith(".py") and isinstance(text, str) and text.strip() not in self.test_code
        }

    @property
    def references(self) -> tuple[Program, ...]:
        """Solutions that are not meant to be wrong."""
        return tuple(program for program in self.programs if program.claim in (None, "accepted"))

    def limits(self, limits: Limits) -> Limits:
        """The problem's own limits where they are wider: a judge's time limit was set for a judge's machine."""
        seconds = self.judge.get("time_limit_s")
        memory = self.judge.get("memory_mb")
        return Limits(
            cpu_s=max(limits.cpu_s, float(seconds)) if isinstance(seconds, int | float) else limits.cpu_s,
            memory_mb=max(limits.memory_mb, int(memory)) if isinstance(memory, int | float) else limits.memory_mb,
            output_bytes=limits.output_bytes,
            processes=limits.processes,
            wall_s=limits.wall_s,
        )

    def rules(self) -> Rules:
        """How outputs are compared: the judge's own rules for a problem package, ours otherwise."""
        judge = self.judge
        both = _number(judge.get("float_tolerance"))
        absolute = _number(judge.get("float_absolute_tolerance"), both)
        relative = _number(judge.get("float_relative_tolerance"), both)
        if "validation" in judge:
            return Rules(
                absolute or 0.0,
                relative or 0.0,
                any_number=bool(absolute or relative),
                case_sensitive=bool(judge.get("case_sensitive")),
                space_sensitive=bool(judge.get("space_change_sensitive")),
            )
        return Rules(absolute or TOLERANCE, relative or TOLERANCE, any_number=bool(both))


def _number(value: Any, default: float | None = None) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else default


def problem(record: Mapping[str, Any]) -> Problem:
    """Read a record's columns (`tests`, `test_code`, `test_type`, `entry_point`, `solutions`, `judge`, …)."""
    judge = _judge(record.get("judge"))
    tests = [dict(test) for test in record.get("tests") or ()]
    usable = [test for test in tests if _usable(test)]
    entry = str(record.get("entry_point") or "")
    language = str(record.get("language") or "python")
    prompt = str(record.get("prompt") or "")
    kind = _kind(record, judge, usable)
    generated = judge.get("inputs") if kind == "reference" else None
    counted: Sequence[Any] = generated if isinstance(generated, list) else usable
    least = int(kind == "source")  # a test program that nobody could split is one test
    return Problem(
        kind=kind,
        checks=tuple(_checks(usable)),
        n_tests=max(least, len(counted)),
        n_distinct=max(least, _distinct(counted)),
        test_code=str(record.get("test_code") or "\n".join(str(test.get("code") or "") for test in usable)),
        entry=entry,
        preamble=_preamble(judge, prompt, entry) if language == "python" else "",
        judge=judge,
        language=language,
        prompt=prompt,
        programs=tuple(_programs(record.get("solutions") or (), language)),
    )


def _usable(test: Mapping[str, Any]) -> bool:
    """A check with a right answer; not a reference to a missing file."""
    right = isinstance(test.get("output"), str) or isinstance(test.get("code"), str)
    return right and not str(test.get("name") or "").startswith(_INVALID)


def _judge(value: Any) -> dict[str, Any]:
    loaded = json.loads(value) if isinstance(value, str) and value else value
    return dict(loaded) if isinstance(loaded, Mapping) else {}


def _kind(record: Mapping[str, Any], judge: Mapping[str, Any], tests: Sequence[Mapping[str, Any]]) -> Kind:
    if judge.get("expected") == "reference" and isinstance(judge.get("inputs"), list):
        return "reference"
    if not tests:
        return "source" if _is_program(record) else "none"
    if record.get("test_type") == "functional":
        return "functional"
    if record.get("test_code") or all(isinstance(test.get("code"), str) for test in tests):
        return "source"
    return "stdio"


def _is_program(record: Mapping[str, Any]) -> bool:
    """Whether tests that nobody could split are a Python program that asserts."""
    if str(record.get("language") or "python") != "python":
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(str(record.get("test_code") or ""))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(isinstance(node, ast.Assert) for node in ast.walk(tree))


def _distinct(tests: Sequence[Any]) -> int:
    keys = [{k: v for k, v in test.items() if k != "name"} if isinstance(test, Mapping) else test for test in tests]
    return len({json.dumps(key, sort_keys=True, default=str) for key in keys})


def _checks(tests: Sequence[Mapping[str, Any]]) -> list[Check]:
    """Tests given as data, duplicates once, the longest inputs first: what is wrong or slow shows there soonest."""
    made: dict[tuple[str, str], Check] = {}
    for at, test in enumerate(tests):
        if isinstance(test.get("output"), str):
            key = (str(test.get("input") or ""), str(test["output"]))
            made.setdefault(key, Check(str(test.get("name") or f"test {at + 1}"), *key))
    return sorted(made.values(), key=lambda check: -len(check.input))


def _programs(solutions: Sequence[Mapping[str, Any]], language: str) -> list[Program]:
    return [
        Program(at, str(each["code"]), str(each.get("language") or language), each.get("verdict"))
        for at, each in enumerate(solutions)
        if each.get("code")
    ]


def _defined(code: str) -> list[str]:
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]


def _preamble(judge: Mapping[str, Any], prompt: str, entry: str) -> str:
    """Definitions that tests and program share: the judge's preamble, else a prompt that is code, without the entry."""
    source = judge.get("preamble") or prompt
    head = re.split(r"[.(]", entry)[0]
    if not isinstance(source, str) or not head:
        return ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""
    kept: list[ast.stmt] = [
        node for node in tree.body if isinstance(node, _KEPT) and getattr(node, "name", None) != head
    ]
    return ast.unparse(ast.Module(kept, []))
