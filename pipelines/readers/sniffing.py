"""What a file is, from its first bytes, then its name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Final

from pipelines.readers.delimited import find_delimiter, has_header, sample
from pipelines.readers.jsonshape import json_shape
from pipelines.readers.jsontext import is_json
from pipelines.readers.streams import (
    Damaged,
    compression_of,
    encoding_of,
    file_pieces,
    plain_pieces,
    public,
    text_pieces,
)
from pipelines.readers.textfiles import is_id_lines
from schemas.errors import RecipeError, nearest

FORMATS: Final = (
    "arrow", "csv", "id_text", "json", "jsonl", "lines", "package", "parquet", "tar", "text", "tsv", "yaml", "zip",
)  # fmt: skip
HEAD_BYTES: Final = 256 << 10
_COMPRESSED_SUFFIXES: Final = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".xz": "xz", ".zstd": "zstd"}
_JSON_SUFFIXES: Final = frozenset({".json", ".jsonl", ".ndjson", ".jsonlines", ".traj"})
_TABLE_SUFFIXES: Final = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".psv": "|"}
_TEXT_NAMES: Final = """
    .md .rst .tex .html .htm .xml .py .ipynb .c .h .cc .cpp .hpp .java .js .ts .go .rs .rb .php .cs .kt .scala .sh
    .sql .lean .hs .ml .pl .lisp .r .jl .swift .css .toml .ini .cfg .log .in .ans .out .desc
"""
_TEXT_SUFFIXES: Final = frozenset(_TEXT_NAMES.split())


@dataclass(frozen=True, slots=True)
class Sniffed:
    """How to read a file: its format and compression, and why; `encoding_note` is empty for plain UTF-8.

    For CSV, `delimiter` and whether there is a `header`; for JSON, the key `wrapper` whose array holds the rows.
    """

    format: str
    compression: str | None
    encoding_note: str
    why: list[str] = field(default_factory=list)
    delimiter: str = ","
    header: bool = True
    wrapper: str = ""


def sniff(path: str, format: str = "auto") -> Sniffed:
    """Detect a file's format from its head, or check that it can be the given one.

    Raises RecipeError for an unknown format name, an unreadable file, and bytes that are no format known here.
    """
    if format != "auto" and format not in FORMATS:
        raise RecipeError(f"unknown format '{format}': {nearest(format, ('auto', *FORMATS))}")
    if "://" not in path and Path(path).is_dir():
        return _folder(path)
    if format == "package":
        raise RecipeError(f"{path} is a file; the format 'package' is for a folder with problem.yaml")
    return sniff_stream(file_pieces(path), public(path), format)


def sniff_stream(pieces: Iterator[bytes], name: str, format: str = "auto") -> Sniffed:
    """`sniff` for a stream; `name` is what it is called, for its suffix."""
    raw = _take(pieces, HEAD_BYTES)
    compression = compression_of(raw)
    why = [f"{compression} magic number"] if compression is not None else []
    head = _take(plain_pieces(iter((raw,)), compression), HEAD_BYTES)
    found = _binary(head, compression, why) if format in ("auto", "tar", "zip", "parquet", "arrow") else None
    if found is not None:
        return found
    encoding, _ = encoding_of(head)
    note = "" if encoding == "utf-8" and not head.startswith(b"\xef\xbb\xbf") else f"{encoding} byte order mark"
    base = Sniffed("text", compression, note, why)
    text = _take(text_pieces(iter((head,)), None), 4 * HEAD_BYTES)
    whole = len(head) < HEAD_BYTES
    return _as_told(base, text, format) if format != "auto" else _detect(base, text, name, whole)


def _take(pieces: Iterator[bytes], size: int) -> bytes:
    parts: list[bytes] = []
    try:
        for piece in pieces:
            parts.append(piece)
            if sum(map(len, parts)) >= size:
                break
    except Damaged:  # told in its place when the file is read
        pass
    return b"".join(parts)[:size]


def _folder(path: str) -> Sniffed:
    if (Path(path) / "problem.yaml").is_file():
        return Sniffed("package", None, "", ["a folder with problem.yaml"])
    raise RecipeError(f"{path} is a folder without problem.yaml: name the files in it")


def _binary(head: bytes, compression: str | None, why: list[str]) -> Sniffed | None:
    kind = None
    if head.startswith(b"PAR1"):
        kind = "parquet"
    elif head.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        kind = "arrow"
    elif head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        kind = "zip"
    elif head[257:262] == b"ustar":
        kind = "tar"
    return Sniffed(kind, compression, "", [*why, f"{kind} magic number"]) if kind else None


def _as_told(base: Sniffed, text: bytes, format: str) -> Sniffed:
    told = replace(base, format=format, why=[*base.why, "the format is given"])
    if format in ("csv", "tsv"):
        return _table(told, text, "\t" if format == "tsv" else ",")
    if format == "json":
        return replace(told, wrapper=json_shape(text, True, ".json").wrapper)
    return told


def _table(base: Sniffed, text: bytes, usual: str) -> Sniffed:
    delimiter = find_delimiter(text, usual) or usual
    return replace(base, delimiter=delimiter, header=has_header(sample(text, delimiter)))


def _detect(base: Sniffed, text: bytes, name: str, whole: bool) -> Sniffed:
    suffix = _suffix(name)
    lines = [line for line in text.split(b"\n") if line.strip()][: 50 if whole else 51]
    start = text.lstrip()[:1]
    if suffix not in _TEXT_SUFFIXES and _looks_like_json(lines, start, suffix):
        shape = json_shape(text, whole, suffix)
        return replace(base, format=shape.format, wrapper=shape.wrapper, why=[*base.why, shape.why])
    if suffix in (".yaml", ".yml"):
        return replace(base, format="yaml", why=[*base.why, f"the name ends in {suffix}"])
    if suffix in _TABLE_SUFFIXES:
        told = replace(base, format="csv", why=[*base.why, f"the name ends in {suffix}"])
        return _table(told, text, _TABLE_SUFFIXES[suffix])
    return _detect_text(base, text, suffix, name, whole)


def _looks_like_json(lines: list[bytes], start: bytes, suffix: str) -> bool:
    if suffix in _JSON_SUFFIXES:
        return True
    if suffix in (".yaml", ".yml") or start not in (b"{", b"["):
        return False
    second = lines[0].strip()[1:2] or (lines[1].strip()[:1] if len(lines) > 1 else b"")
    return (second in b'"{[]}' and bool(second)) or any(is_json(line) for line in lines)


def _detect_text(base: Sniffed, text: bytes, suffix: str, name: str, whole: bool) -> Sniffed:
    if suffix in _TEXT_SUFFIXES:
        return replace(base, why=[*base.why, f"the name ends in {suffix}: one document"])
    _refuse_binary(text, name)
    lines = text.decode("utf-8", "replace").split("\n")
    lines = [line.rstrip("\r") for line in (lines if whole else lines[:-1]) if line.strip()][:200]
    if is_id_lines(lines):
        return replace(base, format="id_text", why=[*base.why, "every sampled line is an id and a text"])
    delimiter = find_delimiter(text) if suffix != ".txt" and len(lines) >= 3 else None
    if delimiter is not None:
        told = replace(base, format="csv", why=[*base.why, f"rows of equal length around {delimiter!r}"])
        return _table(told, text, delimiter)
    return replace(base, why=[*base.why, "plain text: one document"])


def _refuse_binary(text: bytes, name: str) -> None:
    strange = sum(text.count(bytes((code,))) for code in range(32) if code not in b"\t\n\r\x0b\x0c\x1b\x1e")
    bad = text.decode("utf-8", "replace").count("�")
    if text and strange + bad > 0.05 * len(text):
        raise RecipeError(f"{name}: binary data of no known format; set 'format' to one of {', '.join(FORMATS)}")


def _suffix(name: str) -> str:
    path = PurePosixPath(name.split("?")[0].lower())
    if path.suffix in _COMPRESSED_SUFFIXES:
        path = path.with_suffix("")
    return path.suffix
