"""Find the elements of a JSON array, or of JSON texts one after another, in a stream of bytes.

Only strings and brackets are looked at, so that a malformed element is cut out whole and its neighbours survive.
Where brackets do not match, scanning resumes at the next place that can only be the start of an element.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from pipelines.readers.jsontext import is_json
from pipelines.readers.window import Window

_INNER: Final = rb'[^"\\\n]*+(?:\\.[^"\\\n]*+)*+'  # of a string; a raw newline ends what is not a string after all
_STRING: Final = b'"' + _INNER + b'"'
_NESTED_LEVELS: Final = 4  # how deep one regular expression follows brackets before the scanner takes over


def _balanced() -> bytes:
    inner = b""
    for _ in range(_NESTED_LEVELS):
        body = rb'[^"{}\[\]]*+(?:(?:' + _STRING + inner + rb')[^"{}\[\]]*+)*+'
        inner = rb"|\{" + body + rb"\}|\[" + body + rb"\]"
    return inner.removeprefix(b"|")


_BALANCED: Final = re.compile(_balanced(), re.DOTALL)
_TEXT: Final = re.compile(_STRING, re.DOTALL)
_TEXT_END: Final = re.compile(_INNER, re.DOTALL)
_TOKEN: Final = re.compile(b"(" + _STRING + rb')|[\[\]{}]|"' + _INNER + rb"\\?", re.DOTALL)
_SCALAR: Final = re.compile(rb"[^\n,\[\]{}\"]+|.", re.DOTALL)
_GAP: Final = re.compile(rb"[\s,\x1e]*")
_FIRST_KEY: Final = re.compile(rb"\{\s*(" + _STRING + rb")\s*:")
_TRIES: Final = 64
_PARTNER: Final = {ord("}"): ord("{"), ord("]"): ord("[")}
_OPEN: Final = frozenset(b"{[")
_QUOTE: Final = ord('"')


@dataclass(frozen=True, slots=True)
class Element:
    """One element: its bytes (cut at the limit), its first line, its true size, and how it broke off, if it did."""

    data: bytes
    line: int
    size: int
    damage: str = ""


class Scanner:
    """Elements of a window. `inside`: it starts inside an array, whose `]` ends it; then `tail` is what follows.

    Otherwise elements stand one after another, and `[` at the top opens an array of elements.
    """

    def __init__(self, window: Window, limit: int, inside: bool = False) -> None:
        self._window, self._limit = window, limit
        self._inside, self._wrapped = inside, inside
        self.tail = b""

    def elements(self) -> Iterator[Element]:
        """Every element in order, broken ones included; last, what the stream breaks off in."""
        window = self._window
        while (byte := self._next_byte()) is not None:
            if byte == ord("[") and not self._inside:
                self._inside = True
                window.advance(window.position + 1)
            elif byte == ord("]") and self._inside:
                self._inside = False
                window.advance(window.position + 1)
                if self._wrapped:
                    self.tail = self._rest()
                    return
            else:
                yield self._element(byte)
        if window.damage or self._inside:
            yield Element(b"", window.line, 0, window.damage or "the file ends inside its array, which never closes")

    def _next_byte(self) -> int | None:
        """Pass whitespace and commas; the byte an element or bracket starts with, None at the end."""
        window = self._window
        while True:
            gap = _GAP.match(window.buffer, window.position)
            window.advance(gap.end() if gap else window.position)
            if len(window):
                return window.buffer[window.position]
            if not window.more():
                return None

    def _rest(self) -> bytes:
        window = self._window
        while len(window) <= self._limit and window.more():
            pass
        return window.buffer[window.position :]

    def _element(self, byte: int) -> Element:
        window = self._window
        if byte in _OPEN:
            indent = window.line_prefix()
            match = _BALANCED.match(window.buffer, window.position)
            end = match.end() if match else None
            return self._follow(window.line, indent) if end is None else self._take(self._seam(end), window.line)
        return self._scalar(_TEXT if byte == _QUOTE else _SCALAR)

    def _take(self, end: int, line: int, damage: str = "") -> Element:
        window, size = self._window, end - self._window.position
        data = window.buffer[window.position : min(end, window.position + self._limit)]
        window.advance(end)
        return Element(data, line, size, damage)

    def _scalar(self, pattern: re.Pattern[bytes]) -> Element:
        """A string, number or word, or a byte that cannot start anything."""
        window = self._window
        while True:
            match = pattern.match(window.buffer, window.position)
            whole = match is not None and (match.end() < len(window.buffer) or pattern is _TEXT)
            if whole or len(window) > 2 * self._limit or not window.more():
                break
        if match is None:
            return self._broken_text()
        cut = self._inside and not whole and window.ended
        return self._take(match.end(), window.line, "the file ends inside a value" if cut else "")

    def _broken_text(self) -> Element:
        """A string that does not end on its line (a raw newline would be an error) or in the stream."""
        window = self._window
        newline = window.buffer.find(b"\n", window.position)
        damage = "" if newline >= 0 else window.damage or "the file ends inside a string"
        return self._take(newline if newline >= 0 else len(window.buffer), window.line, damage)

    def _follow(self, line: int, indent: bytes) -> Element:
        """An element that holds brackets: follow them to its end. Beyond the limit, its bytes are dropped."""
        window, stack = self._window, bytearray()
        offset = dropped = 0  # from the position: where to look on; bytes of the element before the position
        first = b""
        while True:
            for token in _TOKEN.finditer(window.buffer, window.position + offset):
                start, end = token.span()
                byte = window.buffer[start]
                if byte == _QUOTE and token.lastindex is None and end == len(window.buffer) and not window.ended:
                    break
                if byte == ord("{") and self._starts_next(stack, start):
                    end = self._before_comma(start)
                elif byte == _QUOTE or not _closes(stack, byte):
                    offset = end - window.position
                    continue
                if not dropped:
                    return self._take(self._seam(end), line)
                dropped += end - window.position
                window.advance(end)
                return Element(first, line, dropped)
            if len(window) > self._limit:
                first = first or window.buffer[window.position : window.position + self._limit]
                dropped += max(offset, 1)
                window.advance(window.position + max(offset, 1))
                offset = 0
            if not window.more():
                return self._unclosed(line, indent) if not dropped else self._lost(first, line, dropped)

    def _starts_next(self, stack: bytearray, start: int) -> bool:
        """In an object no value follows a comma: a `{` there starts the next element, and this one never closed."""
        window = self._window
        return bool(stack) and stack[-1] == ord("{") and window.buffer[window.position : start].rstrip().endswith(b",")

    def _before_comma(self, start: int) -> int:
        window = self._window
        return window.position + len(window.buffer[window.position : start].rstrip()) - 1

    def _lost(self, first: bytes, line: int, dropped: int) -> Element:
        window = self._window
        size = dropped + len(window)
        window.advance(len(window.buffer))
        self._inside = False
        return Element(first, line, size, window.damage or "the file ends inside an element")

    def _unclosed(self, line: int, indent: bytes) -> Element:
        """The stream ends before the element does: give up on it alone where the next one can be found."""
        window = self._window
        resume = self._resume(indent)
        if resume is not None:
            return self._take(resume, line)
        damage = window.damage or "the file ends inside an element"
        window.damage, self._inside = "", False
        return self._take(len(window.buffer), line, damage)

    def _resume(self, indent: bytes) -> int | None:
        """Where the next element starts: at `{` on a line indented like this one's first; or after a comma, with the
        same first key, where all brackets match up to the end of the file, so that a cut element gives no false rows.
        """
        window = self._window
        if indent and not indent.strip():
            same = window.buffer.find(b"\n" + indent + b"{", window.position)
            if same >= 0:
                return same
        next_key = self._next_key()
        if next_key is not None and not window.damage and (self._inside or not indent):
            for _, match in zip(range(_TRIES), next_key.finditer(window.buffer, window.position + 1), strict=False):
                if not self._inside or _ends_array(window.buffer[match.end() :], self._wrapped):
                    return match.end()
        return None

    def _next_key(self) -> re.Pattern[bytes] | None:
        """What comes before an element with the same first key as the one at the position."""
        window = self._window
        key = _FIRST_KEY.match(window.buffer, window.position)
        return _after_comma(key.group(1)) if key else None

    def _seam(self, end: int) -> int:
        """The end of the element at the position, whose brackets match up to `end`.

        A quote too few can make them match too late: where the text is no JSON and an element with the same first
        key seems to start inside it, the element ends before that.
        """
        window = self._window
        key = _FIRST_KEY.match(window.buffer, window.position)
        if key is None or window.buffer.find(key.group(1), key.end(), end) < 0:
            return end
        seam = _after_comma(key.group(1)).search(window.buffer, key.end(), end)
        if seam is None or is_json(window.buffer[window.position : end]):
            return end
        return seam.end()


@lru_cache(maxsize=64)
def _after_comma(key: bytes) -> re.Pattern[bytes]:
    return re.compile(rb'(?:[}\]"0-9el]\s*,\s*|\n)(?=\{\s*' + re.escape(key) + rb"\s*:)")


def _closes(stack: bytearray, byte: int) -> bool:
    """Push an opening bracket; pop to the partner of a closing one. Whether nothing is open any more."""
    if byte in _OPEN:
        stack.append(byte)
        return False
    partner = stack.rfind(_PARTNER[byte])
    if partner >= 0:
        del stack[partner:]
    return not stack


def _ends_array(text: bytes, wrapped: bool) -> bool:
    """Whether the brackets of `text` match, but for the `]` of an array (and `}` around it) that ends it."""
    stack = bytearray(b"{[" if wrapped else b"[")
    for token in _TOKEN.finditer(text):
        byte = text[token.start()]
        if byte == _QUOTE:
            continue
        if byte in _OPEN:
            stack.append(byte)
        elif not stack or stack.pop() != _PARTNER[byte]:
            return False
    return not stack


_ARRAY_VALUE: Final = re.compile(rb"\s*:\s*\[")


def top_arrays(text: bytes) -> Iterator[tuple[bytes, int]]:
    """(key as written, index behind the `[`) of every array directly in the object that `text` starts with."""
    depth = 0
    for token in _TOKEN.finditer(text):
        byte = text[token.start()]
        if byte in _OPEN:
            depth += 1
        elif byte != _QUOTE:
            depth -= 1
        elif depth == 1 and (value := _ARRAY_VALUE.match(text, token.end())):
            yield token.group()[1:-1], value.end()
        if depth <= 0:
            return
