"""What a character is to the tokeniser, as tables indexed by code point, and the same rules as regular expressions."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

# Scripts written without spaces: every character is a word of its own.
_UNSPACED: Final = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_LETTER: Final = rf"[[\p{{L}}\p{{N}}\p{{M}}_]--[{_UNSPACED}]]"
_CHARACTER: Final = rf"[{_UNSPACED}]"
# Symbols carry meaning that sentence punctuation does not: `2 + 2` is not `2 - 2`.
_SYMBOL: Final = r"[\p{S}%&#@*/\\-]"
_SPACE: Final = r"\s"

WORDS: Final = rf"(?V1){_CHARACTER}|{_LETTER}+|{_SYMBOL}"
"""Words: runs of letters, digits and marks; unspaced characters and symbols one by one; punctuation is left out."""
CODE: Final = rf"(?V1){_CHARACTER}|{_LETTER}+|[^\s{_UNSPACED}]"
"""Code tokens: as words, and every other visible character is a token as well."""

_STORED: Final = Path(__file__).with_name("unicode.npz")

LETTER: Final = 0
CHARACTER: Final = 1
SPACE: Final = 2
PUNCTUATION: Final = 3

# All assigned code points but the private ones: the rest is punctuation and has no case.
_ASSIGNED: Final = (range(0xD800), range(0xE000, 0x40000), range(0xE0000, 0xE01F0))


# Hangul vowels and final consonants, which compose with what stands before them.
_JAMO: Final = (range(0x1161, 0x1176), range(0x11A8, 0x11C3))


class Tables(NamedTuple):
    """Per code point: its class (uint8), its one-to-one lower-case form (uint32), and whether a text of such
    characters alone is surely in normal form C (bool)."""

    classes: npt.NDArray[np.uint8]
    lower: npt.NDArray[np.uint32]
    composed: npt.NDArray[np.bool_]


@cache
def tables() -> Tables:
    """The tables of this package: the same on every machine, whatever its versions of Unicode."""
    with np.load(_STORED, allow_pickle=False) as stored:
        classes, shift, composed = (
            stored[f"{name}_pages"][stored[f"{name}_index"]].reshape(-1) for name in Tables._fields
        )
    return Tables(classes, np.arange(len(shift), dtype=np.uint32) + shift, composed)


def make_tables() -> Tables:
    """Tables for all of Unicode by the `regex` library and `unicodedata` (0.1 s)."""
    import regex

    points = [point for block in _ASSIGNED for point in block]
    everything = "".join(map(chr, points))
    codes = np.array(points)
    classes = np.full(0x110000, PUNCTUATION, dtype=np.uint8)
    for pattern, value in ((_SYMBOL, CHARACTER), (_LETTER, LETTER), (_CHARACTER, CHARACTER), (_SPACE, SPACE)):
        for match in regex.finditer(f"(?V1){pattern}+", everything):
            classes[codes[match.start() : match.end()]] = value
    lower = np.arange(0x110000, dtype=np.uint32)
    for code, char in zip(points, everything, strict=True):
        if char != (small := char.lower()):
            lower[code] = ord(small[0])  # U+0130 alone has a longer form: i and a combining dot
    return Tables(classes, lower, _composed())


def store_tables(made: Tables, path: Path = _STORED) -> None:
    """Write tables as pages of 256 characters, each page once, lower case as what to add to a code point (modulo 2^32).

    `python -c 'from stages.dedup.chars import *; store_tables(make_tables())'` makes those of this package anew.
    """
    shift = (made.lower - np.arange(len(made.lower), dtype=np.uint32)).astype(np.uint32)
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    for name, table in made._replace(lower=shift)._asdict().items():
        pages, index = np.unique(table.reshape(-1, 256), axis=0, return_inverse=True)
        arrays |= {f"{name}_pages": pages, f"{name}_index": index.reshape(-1).astype(np.uint16)}
    np.savez_compressed(path, allow_pickle=False, **arrays)


def _composed() -> npt.NDArray[np.bool_]:
    """Characters with NFC_Quick_Check=Yes and combining class 0 (Unicode Standard Annex 15, section 9)."""
    import unicodedata

    sure = np.zeros(0x110000, dtype=np.bool_)
    seconds = {point for block in _JAMO for point in block}
    for point in (point for block in _ASSIGNED for point in block):
        char = chr(point)
        parts = unicodedata.decomposition(char).split()
        seconds |= {int(parts[1], 16)} if len(parts) == 2 and not parts[0].startswith("<") else set()
        assigned = unicodedata.category(char) not in ("Cn", "Cs")
        sure[point] = assigned and not unicodedata.combining(char) and unicodedata.is_normalized("NFC", char)
    sure[list(seconds)] = False
    return sure
