"""YAML: the items of a top-level sequence, or whole documents, each parsed on its own."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import yaml

from pipelines.readers.jsontext import MAX_DEPTH
from pipelines.readers.lines import Lines, whole_lines
from pipelines.readers.rows import CHUNK_ROWS, TRUNCATED, Broken, Chunk, RawRow, Row, Unreadable, too_large
from pipelines.readers.values import to_plain
from schemas.errors import BadRow

_NOTHING: Final = re.compile(rb"\s*(#.*)?|%(YAML|TAG) .*", re.DOTALL)
_ALIAS: Final = re.compile(rb"[&*][A-Za-z0-9_]")
_MAX_NODES: Final = 1_000_000
_SHOWN: Final = 60  # characters of a wrong value
_CORE: Final = (  # the YAML 1.2 core schema: in YAML 1.1 `No` is a boolean, 12:30 a number and 2020-01-01 a date
    ("bool", "^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", "^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", "-+0123456789"),
    ("float", r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?)$", "-+0123456789."),
    ("float", r"^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$", "-+."),
    ("null", "^(?:~|null|Null|NULL|)$", "~nN\0"),
    ("merge", "^(?:<<)$", "<"),
)  # fmt: skip


class _Loader(yaml.CSafeLoader):
    """Safe, YAML 1.2 scalars, and no key twice."""

    yaml_implicit_resolvers = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A dict. Raises BadRow for a key that occurs twice."""
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise BadRow("duplicate_key", f"the key '{twice}' occurs more than once", twice)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The value of a node. Raises BadRow for a scalar that is not what its tag says, such as `!!bool maybe`."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, ArithmeticError):
            if not isinstance(node, yaml.ScalarNode):
                raise
            tag = node.tag.rpartition(":")[2]
            where = f"line {node.start_mark.line + 1} of the row"
            raise BadRow("invalid_yaml", f"{where}: '{node.value[:_SHOWN]}' is not of type {tag}") from None


def _integer(loader: yaml.CSafeLoader, node: yaml.ScalarNode) -> int:
    text = node.value.lstrip("+")
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


for _tag, _pattern, _first in _CORE:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), [c.strip("\0") for c in _first])
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)


@dataclass(frozen=True, slots=True)
class YamlItems:
    """YAML texts with their first lines; `item` where each is one item of a sequence."""

    texts: tuple[tuple[int, bytes, bool], ...]

    def __len__(self) -> int:
        return len(self.texts)

    def rows(self, first_row: int, first_line: int | None, max_row_bytes: int) -> Iterator[Row]:
        """One row per text."""
        for row, (line, raw, item) in enumerate(self.texts, first_row):
            if len(raw) > max_row_bytes:
                error = too_large(len(raw), max_row_bytes)
                yield Unreadable(row, line, raw[:max_row_bytes], "too_large", error)
                continue
            try:
                yield RawRow(row, line, raw, parse_yaml(raw, item))
            except BadRow as error:
                yield Unreadable(row, line, raw, error.kind, str(error), error.field)


def parse_yaml(raw: bytes, item: bool) -> Any:
    """The value of one document or of the one item of a sequence. Raises BadRow."""
    try:
        value = yaml.load(raw, _Loader)
        if _ALIAS.search(raw):
            _check_size(value)
    except BadRow:
        raise
    except UnicodeDecodeError as bad:
        error = f"byte 0x{raw[bad.start]:02x} at offset {bad.start} is not valid UTF-8"
        raise BadRow("invalid_utf8", error) from None
    except RecursionError:
        raise BadRow("too_deep", f"nested more than {MAX_DEPTH} levels deep") from None
    except (yaml.YAMLError, ValueError, TypeError) as error:
        kind = "invalid_utf8" if isinstance(error, yaml.reader.ReaderError) else "invalid_yaml"
        raise BadRow(kind, " ".join(str(error).split())) from None
    if item and not (isinstance(value, list) and len(value) == 1):
        raise BadRow("invalid_yaml", "not one item of a sequence")
    return to_plain(value[0] if item else value)


def _check_size(value: Any) -> None:
    """Refuse what aliases blow up. Raises BadRow."""
    waiting, seen = [(value, 0)], 0
    while waiting:
        node, depth = waiting.pop()
        seen += 1
        if seen > _MAX_NODES:
            raise BadRow("too_large", f"aliases expand it to over {_MAX_NODES:,} values")
        if depth > MAX_DEPTH:
            raise BadRow("too_deep", f"nested more than {MAX_DEPTH} levels deep")
        inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        waiting.extend((child, depth + 1) for child in inner)


def read_yaml(pieces: Iterator[bytes], chunk_bytes: int, max_row_bytes: int) -> Iterator[Chunk]:
    """Chunks of YAML: a row per item of a top-level sequence, else a row per document."""
    held: list[tuple[int, bytes, bool]] = []
    row = size = 0
    for line, raw, item, problem in _texts(whole_lines(pieces, chunk_bytes, max_row_bytes), max_row_bytes):
        if held and (problem or size + len(raw) > chunk_bytes or len(held) == CHUNK_ROWS):
            yield Chunk("yaml", row, held[0][0], YamlItems(tuple(held)))
            row, held, size = row + len(held), [], 0
        if problem:
            yield Chunk("yaml", row, line, Broken(raw, *problem))
            row += 1
        else:
            held.append((line, raw, item))
            size += len(raw)
    if held:
        yield Chunk("yaml", row, held[0][0], YamlItems(tuple(held)))


_Text = tuple[int, bytes, bool, tuple[str, str] | None]


def _lines(data: bytes) -> Iterator[bytes]:
    start = 0
    while end := data.find(b"\n", start) + 1:
        yield data[start:end]
        start = end
    if start < len(data):
        yield data[start:]


class _Pending:
    """The text being gathered."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self.line = 1
        self.item: bool | None = None  # unknown until the first line with something on it

    def add(self, data: bytes, line: int) -> None:
        """One more line."""
        if self.item is None and _NOTHING.fullmatch(data) is None:
            self.item, self.line = data.startswith((b"- ", b"-\n", b"-\r")), line
        if self._size <= self._limit:
            self._parts.append(data)
        self._size += len(data)

    def rest(self) -> bytes:
        """The bytes gathered so far."""
        return b"".join(self._parts)

    def take(self) -> Iterator[_Text]:
        """What has been gathered, unless it is empty."""
        raw, size, item = b"".join(self._parts), self._size, self.item
        self._parts, self._size, self.item = [], 0, None
        if item is None:
            return
        problem = ("too_large", too_large(size, self._limit)) if size > self._limit else None
        yield self.line, raw[: self._limit] if problem else raw, item, problem


def _texts(parts: Iterator[Lines], limit: int) -> Iterator[_Text]:
    pending, line = _Pending(limit), 1
    for part in parts:
        if part.damage:
            yield pending.line, pending.rest() + part.data, False, (TRUNCATED, part.damage)
            return
        for data in [part.data] if part.size else _lines(part.data):
            if data.rstrip() in (b"---", b"..."):
                yield from pending.take()
            else:
                if pending.item and data.startswith((b"- ", b"-\n", b"-\r")):
                    yield from pending.take()
                pending.add(data, line)
            line += data.endswith(b"\n")
        line += part.newlines if part.size else 0
    yield from pending.take()
