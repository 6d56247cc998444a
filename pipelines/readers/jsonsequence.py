"""JSON that is not one row per line: an array, texts one after another, or an object around an array of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from pipelines.readers.jsonlines import json_row
from pipelines.readers.jsonscan import Element, Scanner, top_arrays
from pipelines.readers.jsontext import parse_json
from pipelines.readers.rows import CHUNK_ROWS, TRUNCATED, Chunk, RawRow, Row, Unreadable, too_large
from pipelines.readers.window import Window
from schemas.errors import BadRow

ENVELOPE: Final = "_envelope"


@dataclass(frozen=True, slots=True)
class Elements:
    """JSON texts with their lines. `envelope` is what stood around the array, for every row to carry."""

    elements: tuple[Element, ...]
    envelope: dict[str, Any] | None = None

    def __len__(self) -> int:
        return len(self.elements)

    def rows(self, first_row: int, first_line: int | None, max_row_bytes: int) -> Iterator[Row]:
        """One row per element."""
        for row, element in enumerate(self.elements, first_row):
            yield self._row(row, element, max_row_bytes)

    def _row(self, row: int, element: Element, max_row_bytes: int) -> Row:
        line, raw = element.line, element.data
        if element.damage:
            return Unreadable(row, line, raw, TRUNCATED, element.damage)
        if element.size > len(raw):
            return Unreadable(row, line, raw, "too_large", too_large(element.size, len(raw)))
        result = json_row(row, line, raw, max_row_bytes)
        if self.envelope and isinstance(result, RawRow) and isinstance(result.value, dict):
            return RawRow(row, line, raw, {**result.value, ENVELOPE: self.envelope})
        return result


def read_json(
    open_pieces: Callable[[], Iterator[bytes]], wrapper: str, chunk_bytes: int, max_row_bytes: int
) -> Iterator[Chunk]:
    """Chunks of JSON elements. `wrapper` is the key of the array in an object around it, else empty.

    The file is read twice in that case: what follows the array belongs to every row as well.
    """
    if not wrapper:
        scanner = Scanner(Window(open_pieces()), max_row_bytes)
        yield from _chunks(scanner.elements(), None, chunk_bytes)
        return
    head, scanner = _unwrapped(open_pieces(), wrapper, max_row_bytes)
    for _ in scanner.elements():
        pass
    envelope = _members(head, scanner.tail, wrapper)
    yield from _chunks(_unwrapped(open_pieces(), wrapper, max_row_bytes)[1].elements(), envelope, chunk_bytes)


def _unwrapped(pieces: Iterator[bytes], wrapper: str, limit: int) -> tuple[bytes, Scanner]:
    """The text before the array of a wrapper, and a scanner that stands inside the array."""
    window = Window(pieces)
    window.more()
    start = array_start(window.buffer, wrapper)
    while start is None and window.more():
        start = array_start(window.buffer, wrapper)
    head = window.buffer[: start or 0]
    window.advance(start or 0)
    return head, Scanner(window, limit, inside=start is not None)


def _members(head: bytes, tail: bytes, wrapper: str) -> dict[str, Any] | None:
    """What stands beside the array, as far as it can be read."""
    try:
        value = parse_json(head + b"]" + tail)
    except BadRow:
        return {"unparsed": (head + b"]" + tail).decode("utf-8", "replace")}
    value.pop(wrapper, None)
    return value or None


def _chunks(elements: Iterator[Element], envelope: dict[str, Any] | None, chunk_bytes: int) -> Iterator[Chunk]:
    held: list[Element] = []
    row = size = 0
    for element in elements:
        if held and (size + len(element.data) > chunk_bytes or len(held) == CHUNK_ROWS):
            yield Chunk("json", row, held[0].line, Elements(tuple(held), envelope))
            row, held, size = row + len(held), [], 0
        held.append(element)
        size += len(element.data)
    if held:
        yield Chunk("json", row, held[0].line, Elements(tuple(held), envelope))


def array_start(text: bytes, wrapper: str) -> int | None:
    """The index behind the `[` that opens the array under `wrapper` at the top of an object."""
    return next((end for key, end in top_arrays(text) if key == wrapper.encode()), None)
