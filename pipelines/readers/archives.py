"""Archives: every file in a tar or zip is read by its own format; problem packages in it are one row each."""

from __future__ import annotations

import lzma
import re
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import IO, Final, Self, cast

from pipelines.readers.folders import readable_name
from pipelines.readers.opened import Opened, PieceFile, copied, held, seekable
from pipelines.readers.packages import Gathered, package_roots
from pipelines.readers.rows import TRUNCATED, Broken, Chunk
from pipelines.readers.streams import PIECE, Damaged, damage_of, plain_pieces
from schemas.errors import RecipeError

_NOTE: Final = re.compile(r"(readme|licen[sc]e|copying|notice|changelog|contributing)([._-].*)?", re.IGNORECASE)
_FAILURES: Final = (
    Damaged, tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, ValueError, OSError,
    EOFError, RuntimeError, NotImplementedError,
)  # fmt: skip
_STEP: Final = 4096  # bytes at once of what is damaged somewhere

ReadMember = Callable[[Opened], Iterator[Chunk]]


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive; `open` may be called while the archive stands at it.

    What stands `apart` can be damaged without the archive breaking off.
    """

    path: str
    size: int
    open: Callable[[], IO[bytes]]
    apart: bool


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
    """Chunks of all members, rows numbered through the archive.

    A member of a zip that is damaged ends in a `truncated_file` row, and the next is read; a tar breaks off there. The
    archive is gone through twice: first for the names, which tell where packages are.
    """
    row, seen = 0, list[str]()
    try:
        with _members(source, format, compression) as members:
            paths = [member.path for member in members]
    except _FAILURES:  # told below, behind the members before the damage
        paths = None
    try:
        with _members(source, format, compression) as members:
            for chunk in _member_chunks(_noted(members, seen), paths, max_row_bytes, read):
                yield replace(chunk, first_row=row)
                row += len(chunk.items)
    except _FAILURES as error:
        where = f" in or behind '{seen[-1]}'" if seen else ""
        problem = f"the archive breaks off{where}, and all that follows is lost: {damage_of(error)}"
        yield Chunk(format, row, None, Broken(b"", TRUNCATED, problem))


def _noted(members: Iterator[Member], seen: list[str]) -> Iterator[Member]:
    for member in members:
        seen[:] = [member.path]
        yield member


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
                yield Chunk("package", 0, None, gathered.pop(root).block(), root.rstrip("/"))
        elif paths is None or member.path in wanted:
            yield from _file_chunks(member, max_row_bytes, read)


def _root_of(path: str, roots: list[str]) -> str | None:
    """The package that a path lies in; that of a package at the top of the archive is empty."""
    return next((root for root in roots if path.startswith(root)), None)


def _gather(package: Gathered, member: Member, path: str) -> None:
    if package.wants(path, member.size):
        try:
            with member.open() as file:
                package.add(path, file.read())
        except _FAILURES as error:
            if not member.apart:
                raise
            package.spoil(path, damage_of(error))


def _file_chunks(member: Member, max_row_bytes: int, read: ReadMember) -> Iterator[Chunk]:
    try:
        with member.open() as file, copied(iter(lambda: file.read(PIECE), b"")) as copy:
            yield from _copy_chunks(member, copy, max_row_bytes, read)
    except _FAILURES as error:
        if not member.apart:
            raise
        problem = f"'{member.path}' in the archive is damaged, and all its rows are lost: {damage_of(error)}"
        yield Chunk("unknown", 0, None, Broken(_readable(member, max_row_bytes), TRUNCATED, problem), member.path)


def _readable(member: Member, most: int) -> bytes:
    """The start of a damaged file, as far as it can be read."""
    parts: list[bytes] = []
    try:
        with member.open() as file:
            file._expected_crc = None  # type: ignore[attr-defined]  # bytes with a wrong checksum are wanted as well
            while most > 0 and (piece := file.read(min(_STEP, most))):
                parts.append(piece)
                most -= len(piece)
    except _FAILURES:
        pass
    return b"".join(parts)


def _copy_chunks(member: Member, copy: IO[bytes], max_row_bytes: int, read: ReadMember) -> Iterator[Chunk]:
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
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Header) as tar:
            yield _tar_members(tar)


class _Header(tarfile.TarInfo):
    """A header that is damaged or missing is an error; else the archive would seem to end there."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Raises ReadError."""
        try:
            return super().frombuf(buf, encoding, errors)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError, tarfile.EmptyHeaderError) as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError(f"{error} in place of the next file or the end mark") from None


def _zip_members(archive: zipfile.ZipFile) -> Iterator[Member]:
    for info in archive.infolist():
        if not info.is_dir():
            yield Member(info.filename, info.file_size, lambda info=info: archive.open(info), True)  # type: ignore[misc]


def _tar_members(archive: tarfile.TarFile) -> Iterator[Member]:
    for info in archive:
        if info.isfile():
            name = readable_name(info.name.removeprefix("./"))
            yield Member(name, info.size, lambda info=info: cast(IO[bytes], archive.extractfile(info)), False)  # type: ignore[misc]
