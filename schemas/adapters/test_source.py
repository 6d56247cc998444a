"""Test source split into its independent checks: one assert, one test method, one pair of a table of inputs."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable, Iterator
from typing import Final

from schemas.record import Test

_ASSERT_LINE: Final = re.compile(
    r"^\s*(?:\}?\s*if\s*\(?!.*)?(?:static_)?(?:assert|assert_eq!|assert_ne!|assert!|ASSERT_\w+|EXPECT_\w+"
    r"|assert\.\w+|assert[A-Z]\w*|self\.assert\w+|expect|throw)(?!\w)"
)
_IMPORT: Final = re.compile(r"^\s*(?:#\s*include|import\b|from\b|use\b|const\b.*\brequire\b|let\b.*\brequire\b)")
_LINES: Final = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")  # as the parser counts them, not splitlines
_LOOPS: Final = (ast.For, ast.While, ast.AsyncFor)
_BLOCKS: Final = (ast.If, ast.With, ast.Try)
_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)
_PAIRED: Final = {"inputs": ("results", "outputs", "expected")}


def split_tests(source: str, language: str | None = None) -> list[Test]:
    """Independent checks in `source`, in order; each has a `name` and its own source in `code`.

    Python is parsed: test methods and test functions count one each; otherwise every assert at the top level or in
    `check`/`test`, with the statements since the one before it; a loop is one check, unless it walks a literal
    table of inputs and results, then every pair is one. Other languages, and Python 2, by lines that assert.
    """
    if not source.strip():
        return []
    tree = _parse(source) if language in (None, "python") else None
    if tree is None:
        return _by_line(source)
    try:
        return _split_python(tree, _LINES.findall(source))
    except RecursionError:
        return _by_line(source)


def _split_python(tree: ast.Module, lines: list[str]) -> list[Test]:
    methods = list(_test_functions(tree))
    if methods:
        return [{"name": name, "code": _segment(lines, node)} for name, node in methods]
    codes = [code for body in _bodies(tree) for code in _checks(body, lines)]
    return [{"name": f"assert {number}", "code": code} for number, code in enumerate(codes, 1)]


def _parse(source: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _by_line(source: str) -> list[Test]:
    """A check per line that asserts, with the lines since the one before it: `throw` alone says not what is checked."""
    tests: list[Test] = []
    lead: list[str] = []
    for line in source.split("\n"):
        if not line.strip() or _IMPORT.match(line):
            continue
        lead.append(line.strip())
        if _ASSERT_LINE.match(line):
            tests.append({"name": f"assert {len(tests) + 1}", "code": "\n".join(lead)})
            lead = []
    return tests


def _test_functions(tree: ast.Module) -> Iterator[tuple[str, ast.stmt]]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield from (
                (f"{node.name}.{inner.name}", inner)
                for inner in node.body
                if isinstance(inner, _FUNCTIONS) and inner.name.startswith("test")
            )
        elif isinstance(node, _FUNCTIONS) and node.name.startswith("test") and len(node.name) > 4:
            yield node.name, node


def _bodies(tree: ast.Module) -> Iterator[list[ast.stmt]]:
    """Statement lists that hold checks: `check` and `test` where there are such functions, and the top level."""
    for node in tree.body:
        if isinstance(node, _FUNCTIONS) and node.name in ("check", "test"):
            yield node.body
    yield [node for node in tree.body if not isinstance(node, (*_FUNCTIONS, ast.ClassDef, ast.Import, ast.ImportFrom))]


def _checks(body: list[ast.stmt], lines: list[str]) -> Iterator[str]:
    """Source of each check in a statement list, with the plain statements that lead up to it."""
    table = _table(body)
    if table is not None:
        yield from table
        return
    start: ast.stmt | None = None
    for node in body:
        start = start or node
        if isinstance(node, ast.Assert) or (isinstance(node, _LOOPS) and _asserts(node)):
            yield _segment(lines, start, node)
            start = None
        elif isinstance(node, _BLOCKS) and _asserts(node):
            for inner in _inner_bodies(node):
                yield from _checks(inner, lines)
            start = None


def _inner_bodies(node: ast.stmt) -> Iterator[list[ast.stmt]]:
    for name in ("body", "orelse", "finalbody"):
        if part := getattr(node, name, None):
            yield part
    for handler in getattr(node, "handlers", []):
        yield handler.body


def _asserts(node: ast.AST) -> bool:
    return any(isinstance(inner, ast.Assert) for inner in ast.walk(node)) or any(
        isinstance(inner, ast.Call) and isinstance(inner.func, ast.Name) and inner.func.id == "assertion"
        for inner in ast.walk(node)
    )


def _table(body: list[ast.stmt]) -> list[str] | None:
    """Pairs of a literal table `inputs = […]`, `results = […]` that a loop checks one by one."""
    tables = {
        target.id: elements
        for node in body
        if isinstance(node, ast.Assign)
        and isinstance(target := node.targets[0], ast.Name)
        and (elements := _elements(node.value)) is not None
    }
    for given, wanted in _PAIRED.items():
        results = next((tables[name] for name in wanted if name in tables), None)
        if given in tables and results is not None and len(results) == len(tables[given]):
            pairs = zip(tables[given], results, strict=True)
            return [f"{ast.unparse(left)} -> {ast.unparse(right)}" for left, right in pairs]
    return None


def _elements(node: ast.expr) -> list[ast.expr] | None:
    if isinstance(node, ast.List | ast.Tuple):
        return node.elts
    if isinstance(node, ast.ListComp) and isinstance(inner := node.generators[0].iter, ast.List | ast.Tuple):
        return inner.elts
    return None


def _segment(lines: list[str], first: ast.stmt, last: ast.stmt | None = None) -> str:
    """Source lines from one statement to another, decorators included, with the common indent removed."""
    decorators: Iterable[ast.expr] = getattr(first, "decorator_list", [])
    begin = min([first.lineno, *(decorator.lineno for decorator in decorators)])
    end = (last or first).end_lineno or begin
    part = lines[begin - 1 : end]
    indent = len(part[0]) - len(part[0].lstrip()) if part else 0
    return "".join(line[indent:] if line[:indent].isspace() else line for line in part).strip()
