"""The files of a source: a local path, glob or folder, or an fsspec URL, as a sorted list."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

import fsspec

from pipelines.readers.archives import data_paths
from pipelines.readers.digests import tree_digest
from pipelines.readers.folders import readable_name, walk
from pipelines.readers.streams import public, scrubbed
from schemas.errors import RecipeError, nearest
from schemas.lineage import DATA, MANIFEST

_MAGIC: Final = frozenset("*?[")
_DATASETS_NOTES: Final = frozenset({"dataset_info.json", "state.json", "dataset_dict.json"})
_LISTED: Final = 1000  # names looked at for the nearest one


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file, or one folder with a problem package: where it is, its path within the source, its size in bytes."""

    url: str
    path: str
    size: int


def list_files(source_path: str, base: Path) -> list[SourceFile]:
    """The files that `source_path` names, sorted by their path within the source; relative paths start at `base`.

    A folder means every file in it at any depth, but for hidden ones and, where there are others, README and the
    like; in it, a folder with `problem.yaml` counts as one file. Raises RecipeError where there is nothing, naming
    the nearest thing that exists.
    """
    if "://" in source_path:
        return _remote(source_path)
    try:
        path = Path(base, Path(source_path).expanduser())
        return sorted(_listed(path, not _MAGIC.isdisjoint(source_path)), key=_by_path)
    except (OSError, RuntimeError) as error:  # no access, a name too long; RuntimeError: no such user
        raise RecipeError(f"cannot read {_reason(source_path, error)}") from error


def _listed(path: Path, is_pattern: bool) -> list[SourceFile]:
    if path.exists():
        return _folder(path) if path.is_dir() else [_local(path, path.name)]
    if is_pattern:
        return _glob(path)
    _refuse_dangling(path)
    raise RecipeError(f"{path} does not exist: {_nearest_local(path)}")


def _reason(source_path: str, error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename or source_path}: {error.strerror or error}"
    return f"{source_path}: {error}"


def _refuse_dangling(path: Path) -> None:
    if path.is_symlink() and not path.exists():
        raise RecipeError(f"{readable_name(str(path))} is a link to {os.readlink(path)}, which does not exist")


def file_digest(file: SourceFile) -> bytes:
    """The 16-byte xxh3-128 of a file's bytes; of a package, of the paths and bytes of its files in order."""
    return tree_digest(file.url)


def _by_path(file: SourceFile) -> str:
    return file.path


def _local(path: Path, relative: str) -> SourceFile:
    if readable_name(relative) != relative:
        raise RecipeError(f"the name of {readable_name(str(path))} is not valid UTF-8: rename it")
    is_package = path.is_dir()
    size = sum(inner.stat().st_size for inner in _files(path, hidden=True)) if is_package else path.stat().st_size
    return SourceFile(str(path.absolute()), relative, size)


def is_package(folder: Path) -> bool:
    """Whether a folder is an ICPC/Kattis problem package."""
    return (folder / "problem.yaml").is_file() and any((folder / part).is_dir() for part in ("data", "submissions"))


def _folder(folder: Path) -> list[SourceFile]:
    if is_package(folder):
        return [_local(folder, folder.name)]
    if (folder / MANIFEST).is_file() and (folder / DATA).is_dir():  # an earlier run: its dataset is meant
        folder = folder / DATA
    paths = {path.relative_to(folder).as_posix(): path for path in _files(folder, packages=True)}
    found = [_local(paths[name], name) for name in data_paths(sorted(paths))]
    if not found:
        raise RecipeError(f"{folder} holds no files")
    return found


def _files(folder: Path, *, hidden: bool = False, packages: bool = False) -> Iterator[Path]:
    """Files below a folder; with `packages`, the folder of a problem package in place of its files."""
    for here, folders, names in walk(folder):
        if packages and here != folder and is_package(here):
            folders.clear()
            yield here
            continue
        if not hidden:
            folders[:] = [name for name in folders if not name.startswith(".") and name != "__pycache__"]
            names = [name for name in _data_names(names) if not name.startswith(".")]
        yield from _present(here / name for name in names)


def _present(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        _refuse_dangling(path)
        if path.is_file():
            yield path


def _data_names(names: list[str]) -> list[str]:
    """Names but for what `datasets.save_to_disk` notes beside its Arrow files."""
    saved = ("state.json" in names and any(name.endswith(".arrow") for name in names)) or "dataset_dict.json" in names
    return [name for name in names if not (saved and name in _DATASETS_NOTES)]


def _glob(pattern: Path) -> list[SourceFile]:
    root = _fixed_part(str(pattern))
    found = [Path(name) for name in glob.glob(str(pattern), recursive=True)]
    for path in found:
        _refuse_dangling(path)
    packages = [path for path in found if path.is_dir() and is_package(path)]
    inside = {path for path in found if any(package in path.parents for package in packages)}
    chosen = {path for path in found if path.is_file()} - inside | {*packages}
    if not chosen:  # only folders match: what is in them is meant
        chosen = {inner for path in found for inner in _files(path, packages=True)}
    if not chosen:
        raise RecipeError(f"no file matches {pattern}: {_nearest_local(pattern)}")
    return sorted((_local(path, path.relative_to(root).as_posix()) for path in chosen), key=_by_path)


def _fixed_part(pattern: str) -> str:
    """The folder before the first part of a path with a wildcard in it."""
    parts = PurePosixPath(pattern).parts
    plain = [part for part, rest in zip(parts, _suffixes(parts), strict=True) if _MAGIC.isdisjoint("".join(rest))]
    return str(PurePosixPath(*plain)) if plain else "."


def _suffixes(parts: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    return (parts[: index + 1] for index in range(len(parts)))


def _nearest_local(path: Path) -> str:
    parent = path.parent
    while not parent.is_dir() or not _MAGIC.isdisjoint(str(parent)):
        path, parent = parent, parent.parent
    names = [entry.name for entry, _ in zip(parent.iterdir(), range(_LISTED), strict=False)]
    return _nearest(path.name, names, str(parent))


def _nearest(name: str, names: Iterable[str], folder: str) -> str:
    names = sorted(names)
    if not names:
        return f"{folder} is empty"
    hint = nearest(name, names)
    return f"in {folder}, {hint}" if len(hint) < 200 else f"{folder} has {len(names)} others, none called like it"


def _remote(url: str) -> list[SourceFile]:
    try:
        system, path = fsspec.core.url_to_fs(url)
        path = _dataset(system, path.rstrip("/"))
        found = _remote_files(system, path)
    except RecipeError:
        raise
    except Exception as error:  # every file system raises its own errors
        raise RecipeError(f"cannot read {public(url)}: {type(error).__name__}: {scrubbed(error)}") from error
    if not found:
        raise RecipeError(f"no file at {public(url)}: {_nearest_remote(system, path)}")
    root = public(_fixed_part(path) if _is_pattern(path) else path)
    single = path in found
    files = [_remote_file(url, system, name, root, single) for name in found]
    _check_apart(files, url)
    return sorted(files, key=_by_path)


def _is_pattern(path: str) -> bool:
    """Whether a remote path has wildcards; in http(s) a question mark starts the query, which has none."""
    return not _MAGIC.isdisjoint(public(path))


def _check_apart(files: Sequence[SourceFile], url: str) -> None:
    """Raise RecipeError where two files have one path: they differ in their queries, which are not recorded."""
    name, times = Counter(file.path for file in files).most_common(1)[0]
    if times > 1:
        raise RecipeError(f"{times} files at {public(url)} are called {name}: name each one in the list `path:`")


def _dataset(system: Any, path: str) -> str:
    """The folder `data` of an earlier run, where `path` is one."""
    plain = not _is_pattern(path)
    return (
        f"{path}/{DATA}" if plain and system.isfile(f"{path}/{MANIFEST}") and system.isdir(f"{path}/{DATA}") else path
    )


def _remote_files(system: Any, path: str) -> list[str]:
    if system.isfile(path):
        return [path]
    if _is_pattern(path):
        return [name for name in system.glob(path) if system.isfile(name)]
    below = {name.removeprefix(path).lstrip("/"): name for name in system.find(path)}
    return [below[name] for name in data_paths(sorted(below))]


def _remote_file(url: str, system: Any, name: str, root: str, single: bool) -> SourceFile:
    shown = public(name)
    relative = PurePosixPath(shown).name if single else shown.removeprefix(root).lstrip("/")
    full = url if single else system.unstrip_protocol(name)
    return SourceFile(full, relative, int(system.size(name) or 0))


def _nearest_remote(system: Any, path: str) -> str:
    path = public(path)
    parent = _fixed_part(str(PurePosixPath(path).parent))
    try:
        names = [PurePosixPath(entry).name for entry in system.ls(parent, detail=False)[:_LISTED]]
    except Exception:  # the folder may be missing, or the file system may not list
        return "and its folder cannot be listed"
    return _nearest(PurePosixPath(path).name, names, parent)
