"""Names of programming languages: one spelling for each."""

from __future__ import annotations

from typing import Final

_SUFFIXES: Final = {
    "py": "python", "js": "javascript", "mjs": "javascript", "ts": "typescript", "java": "java", "kt": "kotlin",
    "c": "c", "h": "c", "cc": "cpp", "cpp": "cpp", "cxx": "cpp", "hpp": "cpp", "cs": "csharp", "go": "go",
    "rs": "rust", "rb": "ruby", "php": "php", "hs": "haskell", "scala": "scala", "swift": "swift", "r": "r",
    "jl": "julia", "lua": "lua", "pl": "perl", "sh": "shell", "bash": "shell", "sql": "sql", "lean": "lean",
    "ml": "ocaml", "lisp": "lisp", "dart": "dart", "ex": "elixir", "clj": "clojure", "html": "html", "css": "css",
}  # fmt: skip
_NAMES: Final = {
    **_SUFFIXES,
    "python3": "python", "python2": "python2", "py3": "python", "py2": "python2", "pypy3": "python", "c++": "cpp",
    "c#": "csharp", "golang": "go", "node": "javascript", "nodejs": "javascript",
}  # fmt: skip


def language_of_path(path: str) -> str | None:
    """Language of a source file by its suffix."""
    name, dot, suffix = path.rpartition("/")[2].rpartition(".")
    return _SUFFIXES.get(suffix.lower()) if dot and name else None


def language_name(name: object) -> str | None:
    """The one spelling of a language's name: py and Python3 are python, C++ is cpp."""
    if not isinstance(name, str) or not name.strip():
        return None
    lower = name.strip().lower()
    return _NAMES.get(lower, lower)
