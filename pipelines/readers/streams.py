"""A file's bytes as a stream of pieces: opened anywhere, decompressed by magic number, transcoded to UTF-8."""

from __future__ import annotations

import bz2
import codecs
import errno
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final, Protocol, cast

import fsspec
import zstandard

from schemas.errors import RecipeError

PIECE: Final = 1 << 20  # bytes read at once from an uncompressed file
_INPUT: Final = 1 << 14  # bytes of compressed input at once: bounds the output, and what damage takes with it
_MAGIC: Final[tuple[tuple[bytes, str], ...]] = (
    (b"\x1f\x8b\x08", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bz2"),
    (b"\xfd7zXZ\x00", "xz"),
)
_BOMS: Final[tuple[tuple[bytes, str], ...]] = (  # the longer first: UTF-32-LE starts like UTF-16-LE
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\x00\x00", "utf-32-le"),
    (b"\x00\x00\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")
_QUERY: Final = re.compile("[?#]")


class Damaged(Exception):
    """The stream breaks off. Everything before the damage has been delivered; the message says where it is."""


def damage_of(error: Exception) -> str:
    """What is wrong with a file's content. Raises `error` again where it is the disk or the network that failed."""
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # EINVAL: a damaged offset
        raise error
    return " ".join(str(error).split()) or type(error).__name__


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /) -> bytes: ...


_FACTORIES: Final[dict[str, Callable[[], _Decompressor]]] = {
    "gzip": lambda: cast(_Decompressor, zlib.decompressobj(wbits=31)),
    "zstd": lambda: cast(_Decompressor, zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()),
    "bz2": bz2.BZ2Decompressor,
    "xz": lzma.LZMADecompressor,
}


def compression_of(head: bytes) -> str | None:
    """`gzip`, `zstd`, `bz2` or `xz` from the first bytes of a file; None where it is not compressed."""
    return next((name for magic, name in _MAGIC if head.startswith(magic)), None)


def encoding_of(head: bytes) -> tuple[str, int]:
    """The encoding that a byte order mark announces, else UTF-8, and the length of the mark."""
    for mark, name in _BOMS:
        if head.startswith(mark):
            return name, len(mark)
    return "utf-8", 0


def public(url: str) -> str:
    """A path or URL without what may be secret in it: the user and password, and of http(s) the query."""
    return "::".join(map(_public, url.split("::"))) if "://" in url else url


def _public(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    web = scheme in ("http", "https")
    host, slash, path = (_QUERY.split(rest, maxsplit=1)[0] if web else rest).partition("/")
    user = host.rpartition("@")[0]
    return f"{scheme}{separator}{host.rpartition('@')[2] if web or ':' in user else host}{slash}{path}"


def scrubbed(text: object) -> str:
    """A message with every URL in it as `public` has it."""
    return _URL.sub(lambda match: public(match.group()), str(text))


def open_bytes(path: str) -> IO[bytes]:
    """Open a local path or an fsspec URL for reading. Raises RecipeError where that fails."""
    try:
        if "://" not in path:
            return Path(path).open("rb")
        return cast(IO[bytes], fsspec.open(path, "rb").open())
    except Exception as error:  # every file system raises its own errors
        raise RecipeError(f"cannot read {public(path)}: {scrubbed(error)}") from error


def file_pieces(path: str) -> Iterator[bytes]:
    """The bytes of a file in pieces of at most 1 MiB."""
    with open_bytes(path) as file:
        while piece := file.read(PIECE):
            yield piece


def plain_pieces(raw: Iterator[bytes], compression: str | None) -> Iterator[bytes]:
    """Decompressed pieces. Raises Damaged after the last good one."""
    return raw if compression is None else decompress(raw, compression)


def text_pieces(raw: Iterator[bytes], compression: str | None) -> Iterator[bytes]:
    """Decompressed pieces in UTF-8 without a byte order mark. Raises Damaged after the last good one."""
    return _to_utf8(plain_pieces(raw, compression))


def decompress(raw: Iterator[bytes], compression: str) -> Iterator[bytes]:
    """Decompress a stream of one or more members. Raises Damaged where it is cut short or corrupt."""
    factory = _FACTORIES[compression]
    engine, position, inside = factory(), 0, False
    for data in _slices(raw):
        position += len(data)
        while data:
            if not inside and not data.strip(b"\0"):
                break  # zero padding after the last member
            inside = True
            out, failure = _feed(engine, data)
            if out:
                yield out
            if failure is not None:
                raise Damaged(f"the {compression} stream is corrupt near byte {position:,}: {failure}")
            data = engine.unused_data if engine.eof else b""
            if engine.eof:
                engine, inside = factory(), False
    if inside:
        raise Damaged(f"the {compression} stream breaks off at byte {position:,}, before its end mark")


def _slices(raw: Iterator[bytes]) -> Iterator[bytes]:
    for piece in raw:
        for start in range(0, len(piece), _INPUT):
            yield piece[start : start + _INPUT]


def _feed(engine: _Decompressor, data: bytes) -> tuple[bytes, Exception | None]:
    """Decompressed bytes; on damage, as many as come before it (zlib can be wound back to find them)."""
    spare = engine.copy() if hasattr(engine, "copy") else None
    try:
        return engine.decompress(data), None
    except (zlib.error, zstandard.ZstdError, OSError, lzma.LZMAError, EOFError, ValueError) as error:
        return (b"" if spare is None else _salvage(spare, data)), error


def _salvage(engine: Any, data: bytes) -> bytes:
    out = []
    try:
        for byte in data:
            out.append(engine.decompress(bytes((byte,))))
    except zlib.error:
        pass
    return b"".join(out)


def _to_utf8(pieces: Iterator[bytes]) -> Iterator[bytes]:
    head, damage = _head(pieces)
    encoding, skip = encoding_of(head)
    body = _chain(head[skip:], pieces, damage)
    return body if encoding == "utf-8" else _transcode(body, encoding)


def _head(pieces: Iterator[bytes]) -> tuple[bytes, Damaged | None]:
    head = b""
    try:
        while len(head) < 4 and (piece := next(pieces, b"")):
            head += piece
    except Damaged as damage:
        return head, damage
    return head, None


def _chain(head: bytes, rest: Iterator[bytes], damage: Damaged | None) -> Iterator[bytes]:
    if head:
        yield head
    if damage is not None:
        raise damage
    yield from rest


def _transcode(pieces: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    """Re-encode as UTF-8. A lone surrogate stays one, as bytes that are no valid UTF-8: its row alone is bad."""
    decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")
    try:
        for piece in pieces:
            if text := decoder.decode(piece):
                yield text.encode("utf-8", "surrogatepass")
        tail = decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise Damaged(f"not valid {encoding}: {error.reason}") from None
    if tail:
        yield tail.encode("utf-8", "surrogatepass")
