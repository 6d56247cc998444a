"""ICPC and Kattis problem packages: a folder with problem.yaml, tests, submissions and validators is one row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from pipelines.readers.folders import files_below, readable_name
from pipelines.readers.rows import Block, Chunk, Lost, Row
from pipelines.readers.values import columnar_row

MARK: Final = "problem.yaml"
_PARTS: Final = ("data/", "submissions/")
_ANSWERS: Final = (".ans", ".out")
_LANGUAGES: Final = {
    ".c": "c", ".cc": "cpp", ".cpp": "cpp", ".cxx": "cpp", ".cs": "csharp", ".go": "go", ".hs": "haskell",
    ".java": "java", ".js": "javascript", ".kt": "kotlin", ".lisp": "lisp", ".ml": "ocaml", ".php": "php",
    ".pl": "prolog", ".py": "python", ".py2": "python2", ".py3": "python3", ".rb": "ruby", ".rs": "rust",
    ".scala": "scala", ".ts": "typescript",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Package:
    """A block of one problem package."""

    value: dict[str, Any]

    def __len__(self) -> int:
        return 1

    def rows(self, first_row: int, first_line: int | None, max_row_bytes: int) -> Iterator[Row]:
        """The one row."""
        yield columnar_row(first_row, self.value, max_row_bytes)


def package_roots(paths: list[str]) -> list[str]:
    """Folders, written with a slash at the end, that are problem packages, among the paths of an archive."""
    marked = [path.removesuffix(MARK) for path in paths if path == MARK or path.endswith("/" + MARK)]
    return [root for root in marked if any(path.startswith(root + part) for part in _PARTS for path in paths)]


def read_package(folder: str, max_row_bytes: int) -> Iterator[Chunk]:
    """The one chunk of a package on disk."""
    root = Path(folder)
    gathered = Gathered(readable_name(root.name), max_row_bytes)
    for path in files_below(root):
        relative = readable_name(path.relative_to(root).as_posix())
        if path.is_file() and gathered.wants(relative, path.stat().st_size):
            gathered.add(relative, path.read_bytes())
    yield Chunk("package", 0, None, gathered.block())


class Gathered:
    """The files of one package, kept as long as they fit: at most a quarter of the largest row."""

    def __init__(self, name: str, max_row_bytes: int) -> None:
        self._name, self._room = name, max_row_bytes // 4
        self._files: dict[str, bytes] = {}
        self._omitted: list[str] = []
        self._damage = ""

    def wants(self, path: str, size: int) -> bool:
        """Whether there is room for a file; otherwise it is noted as left out."""
        if size <= self._room:
            return True
        self._omitted.append(path)
        return False

    def add(self, path: str, data: bytes) -> None:
        """Keep a file; `path` starts below the package's folder."""
        self._room -= len(data)
        self._files[path] = data

    def spoil(self, path: str, problem: str) -> None:
        """A file is damaged, and with it the package."""
        self._damage = self._damage or f"'{path}' in the package '{self._name}' is damaged: {problem}"

    def block(self) -> Block:
        """The block of this package."""
        return Lost(1, self._damage) if self._damage else Package(self.value())

    def value(self) -> dict[str, Any]:
        """The row of this package."""
        return package_value(self._name, self._files, self._omitted)


def package_value(name: str, files: Mapping[str, bytes], omitted: list[str]) -> dict[str, Any]:
    """A package as one row. Files that are not text, and tests without both halves, are named in `files_omitted`."""
    texts, strange = _texts(files)
    left_out = sorted([*omitted, *strange])
    tests, halves = _tests(texts)
    submissions = [_submission(path, texts[path]) for path in sorted(texts) if path.startswith("submissions/")]
    used = {*halves, *(item["path"] for item in submissions), MARK}
    statement = {path: text for path, text in texts.items() if PurePosixPath(path).parts[0].endswith("statement")}
    validators = {path: text for path, text in texts.items() if "_validator" in PurePosixPath(path).parts[0]}
    rest = {path: text for path, text in texts.items() if path not in used | statement.keys() | validators.keys()}
    inputs = {path.removesuffix(".in") for path in [*texts, *left_out] if _is_test(path)}
    return {
        "package": name, "problem_yaml": texts.get(MARK, ""), "meta_files": rest, "statement": statement,
        "tests": tests, "tests_omitted_large_or_missing": len(inputs) - len(tests), "submissions": submissions,
        "validators": validators, "files_omitted": left_out,
    }  # fmt: skip


def _texts(files: Mapping[str, bytes]) -> tuple[dict[str, str], list[str]]:
    texts: dict[str, str] = {}
    strange = []
    for path in sorted(files):
        try:
            texts[path] = files[path].decode("utf-8-sig")
        except UnicodeDecodeError:
            strange.append(path)
    return texts, strange


def _is_test(path: str) -> bool:
    return path.startswith("data/") and path.endswith(".in")


def _tests(texts: Mapping[str, str]) -> tuple[list[dict[str, str]], set[str]]:
    """Tests with input and answer, samples first, and the paths that they use up."""
    tests, used = [], set()
    for path in sorted(filter(_is_test, texts), key=lambda path: (not path.startswith("data/sample/"), path)):
        stem = path.removesuffix(".in")
        answer = next((stem + suffix for suffix in _ANSWERS if stem + suffix in texts), None)
        if answer is not None:
            group = PurePosixPath(path).parts[1] if path.count("/") > 1 else ""
            tests.append({"path": stem, "group": group, "input": texts[path], "answer": texts[answer]})
            used |= {path, answer}
    return tests, used


def _submission(path: str, code: str) -> dict[str, Any]:
    parts = PurePosixPath(path).parts
    expected = parts[1] if len(parts) > 2 else None
    language = _LANGUAGES.get(PurePosixPath(path).suffix.lower())
    return {"path": path, "expected": expected, "language": language, "code": code}
