"""Archives: every file in a tar or zip is read by its own format; problem packages in it are one row each."""

from __future__ import annotations

import re
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import IO, Final, cast

from pipelines.readers.opened import Opened, PieceFile, copied, held, seekable
from pipelines.readers.packages import Gathered, Package, package_roots
from pipelines.readers.rows import Broken, Chunk
from pipelines.readers.streams import PIECE, Damaged, plain_pieces
from schemas.errors import RecipeError

_NOTE: Final = re.compile(r"(readme|licen[sc]e|copying|notice|changelog|contributing)([._-].*)?", re.IGNORECASE)
_FAILURES: Final = (Damaged, tarfile.TarError, zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError)

ReadMember = Callable[[Opened], Iterator[Chunk]]


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive; `open` may be called while the archive stands at it."""

    path: str
    size: int
    open: Callable[[], IO[bytes]]


def is_note(name: str) -> bool:
    """Whether a file is about the data rather than data: README, LICENSE and the like."""
    return _NOTE.fullmatch(name) is not None


def data_paths(paths: list[str]) -> list[str]:
    """Paths that hold data: no hidden files, no macOS leftovers; notes only where there is nothing else."""
    shown = [path for path in paths if not any(_hidden(part) for part in PurePosixPath(path).parts)]
    return [path for path in shown if not is_note(PurePosixPath(path).name)] or shown


def _hidden(part: str) -> bool:
    return (part.startswith(".") and part not in (".", "..")) or part == "__MACOSX"


def read_archive(
    source: Opened, format: str, compression: str | None, max_row_bytes: int, read: ReadMember
) -> Iterator[Chunk]:
    """Chunks of all members, rows numbered through the archive; what breaks off ends in a `truncated_file` row.

    The archive is gone through twice: first for the names, which tell where packages are.
    """
    row = 0
    try:
        with _members(source, format, compression) as members:
            paths = [member.path for member in members]
    except _FAILURES:  # told below, behind the members before the damage
        paths = None
    try:
        with _members(source, format, compression) as members:
            for chunk in _member_chunks(members, paths, max_row_bytes, read):
                yield replace(chunk, first_row=row)
                row += len(chunk.items)
    except _FAILURES as error:
        yield Chunk(format, row, None, Broken(b"", "truncated_file", f"the archive breaks off: {error}"))


def _member_chunks(
    members: Iterator[Member], paths: list[str] | None, max_row_bytes: int, read: ReadMember
) -> Iterator[Chunk]:
    roots = package_roots(paths or [])
    left = Counter(_root_of(path, roots) for path in paths or [])
    wanted = set(data_paths(paths or []))
    gathered: dict[str, Gathered] = {}
    for member in members:
        root = _root_of(member.path, roots)
        if root is not None:
            package = gathered.setdefault(root, Gathered(root.rstrip("/"), max_row_bytes))
            _gather(package, member, member.path.removeprefix(root))
            left[root] -= 1
            if not left[root]:
                yield Chunk("package", 0, None, Package(gathered.pop(root).value()), root.rstrip("/"))
        elif paths is None or member.path in wanted:
            yield from _file_chunks(member, max_row_bytes, read)


def _root_of(path: str, roots: list[str]) -> str | None:
    """The package that a path lies in; that of a package at the top of the archive is empty."""
    return next((root for root in roots if path.startswith(root)), None)


def _gather(package: Gathered, member: Member, path: str) -> None:
    if package.wants(path, member.size):
        with member.open() as file:
            package.add(path, file.read())


def _file_chunks(member: Member, max_row_bytes: int, read: ReadMember) -> Iterator[Chunk]:
    with member.open() as file, copied(iter(lambda: file.read(PIECE), b"")) as copy:
        try:
            for chunk in read(held(PurePosixPath(member.path).name, copy)):
                inner = f"{member.path}/{chunk.member}" if chunk.member else member.path
                yield replace(chunk, member=inner)
        except RecipeError as error:
            copy.seek(0)
            yield Chunk("unknown", 0, None, Broken(copy.read(max_row_bytes), "unknown_format", str(error)), member.path)


@contextmanager
def _members(source: Opened, format: str, compression: str | None) -> Iterator[Iterator[Member]]:
    if format == "zip":
        with seekable(source, compression) as file, zipfile.ZipFile(file) as archive:
            yield _zip_members(archive)
    else:
        stream = cast(IO[bytes], PieceFile(plain_pieces(source.pieces(), compression)))
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            yield _tar_members(tar)


def _zip_members(archive: zipfile.ZipFile) -> Iterator[Member]:
    for info in archive.infolist():
        if not info.is_dir():
            yield Member(info.filename, info.file_size, lambda info=info: archive.open(info))  # type: ignore[misc]


def _tar_members(archive: tarfile.TarFile) -> Iterator[Member]:
    for info in archive:
        if info.isfile():
            name = info.name.removeprefix("./")
            yield Member(name, info.size, lambda info=info: cast(IO[bytes], archive.extractfile(info)))  # type: ignore[misc]
