"""Parse one JSON text exactly: fast with orjson, and with the standard library where orjson would lose something."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any, Final, NoReturn

import orjson

from schemas.errors import BadRow

MAX_DEPTH: Final = 200  # orjson writes at most 254 levels; the rest is room for what wraps a row later
_DIGITS: Final = bytes(1 if 48 <= byte < 58 else 0 for byte in range(256))
_LONG: Final = b"\1" * 19  # the shortest run of digits that may exceed 64 bits
_BRACKETS: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}]', re.DOTALL)
_KEY_END: Final = re.compile(rb'"[ \t\r\n]*:')
_SPACED: Final = re.compile(rb'"[ \t\r\n]+:')
_HIDDEN: Final = re.compile(rb"\\u00(?:2[02]|3[aA])")  # an escaped quote, space or colon hides a `":` inside a string
_TRIM: Final = b" \t\r\n\x1e"
_BOM: Final = b"\xef\xbb\xbf"


def odd_lines(data: bytes) -> frozenset[int]:
    """Numbers, from 0, of the lines of a block that `parse_json` must look at closely. Cheaper than line by line."""
    matches = itertools.chain(_SPACED.finditer(data), _HIDDEN.finditer(data))
    starts = sorted({*(match.start() for match in matches), *_long_digits(data)})
    found, line, position = set(), 0, 0
    for start in starts:
        line += data.count(b"\n", position, start)
        position = start
        found.add(line)
    return frozenset(found)


def _long_digits(data: bytes) -> Iterator[int]:
    """Where runs of 19 digits or more start."""
    marks = data.translate(_DIGITS)
    start = marks.find(_LONG)
    while start >= 0:
        yield start
        end = marks.find(b"\0", start)
        start = marks.find(_LONG, end) if end >= 0 else -1


def parse_json(raw: bytes, odd: bool = True) -> Any:
    """The value of one JSON text in UTF-8; NaN and Infinity are accepted, integers stay exact.

    `odd=False` promises that the text is in none of the `odd_lines`. Raises BadRow of kind `invalid_json`,
    `invalid_utf8`, `duplicate_key`, `lone_surrogate` or `too_deep`.
    """
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH or (odd and _LONG in raw.translate(_DIGITS)):
        return _parse_exactly(raw)
    try:
        value = orjson.loads(raw)
        if not odd and type(value) is dict and raw.count(b'":') == len(value):
            return value  # as many keys as can be in the text: a flat row without duplicates
        dumped = orjson.dumps(value)
    except (ValueError, TypeError):
        return _parse_exactly(raw)
    return value if _same_keys(raw, dumped, odd) else _parse_exactly(raw)


def is_json(raw: bytes) -> bool:
    """Whether a text is one JSON text, however odd its keys, characters and depth."""
    try:
        parse_json(raw)
    except BadRow as error:
        return error.kind in ("duplicate_key", "lone_surrogate", "too_deep")
    return True


def _same_keys(raw: bytes, dumped: bytes, odd: bool) -> bool:
    """Whether no key went missing in `dumped`: both texts have as many `":`. False may also mean "look closer"."""
    if not odd or not (_SPACED.search(raw) or _HIDDEN.search(raw)):
        return raw.count(b'":') == dumped.count(b'":')
    return not _HIDDEN.search(raw) and len(_KEY_END.findall(raw)) == len(_KEY_END.findall(dumped))


def _parse_exactly(raw: bytes) -> Any:
    if depth(raw) > MAX_DEPTH:
        raise BadRow("too_deep", f"nested more than {MAX_DEPTH} levels deep")
    text = _decode(raw.strip(_TRIM).removeprefix(_BOM))
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_int=_integer, strict=False)
    except json.JSONDecodeError as error:
        _refuse(error)
    except RecursionError:
        raise BadRow("too_deep", f"nested more than {MAX_DEPTH} levels deep") from None
    _check_surrogates(text, value)
    return value


def _decode(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = raw[error.start]
        raise BadRow("invalid_utf8", f"byte 0x{byte:02x} at offset {error.start} is not valid UTF-8") from None


def _refuse(error: json.JSONDecodeError) -> NoReturn:
    where = f"line {error.lineno} column {error.colno}" if error.lineno > 1 else f"column {error.colno}"
    raise BadRow("invalid_json", f"{error.msg} at {where}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise BadRow("duplicate_key", f"the key {json.dumps(key)} occurs more than once", printable(key))
            seen.add(key)
    return value


def _integer(digits: str) -> int:
    try:
        return int(digits)
    except ValueError:  # the interpreter's limit on the length of integers
        raise BadRow("invalid_json", f"an integer of {len(digits):,} digits") from None


def _check_surrogates(text: str, value: Any) -> None:
    if "\\u" not in text:  # decoded UTF-8 holds none; only an escape can make one
        return
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(error.object[error.start])
        raise BadRow("lone_surrogate", f"the escape \\u{code:04x} is half of a surrogate pair") from None


def printable(text: str) -> str:
    """`text` with lone surrogates replaced, so that it can be stored."""
    return text.encode("utf-8", "replace").decode("utf-8")


def depth(raw: bytes) -> int:
    """How deep the brackets of a JSON text nest, strings left out."""
    deepest = now = 0
    for match in _BRACKETS.finditer(raw):
        token = match.group()
        if token in (b"[", b"{"):
            now += 1
            deepest = max(deepest, now)
        elif token in (b"]", b"}"):
            now -= 1
    return deepest
