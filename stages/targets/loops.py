"""Texts that repeat themselves: a generation that fell into a loop."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import regex

_MOST_WORDS: Final = 300
"""The longest passage, in words, whose repeats are noticed."""
_WORDS: Final = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]|\w+|[^\w\s]")
_ASCII_WORDS: Final = re.compile(r"\w+|[^\w\s]", re.A)  # enough for most texts, and several times as fast


class Loop(NamedTuple):
    """The longest stretch of words that repeats one passage: its length, and how often the passage occurs in it."""

    words: int
    times: float
    passage: str


def words_of(text: str) -> list[str]:
    """Words and punctuation marks; single characters in scripts without spaces."""
    return list((_ASCII_WORDS if text.isascii() else _WORDS).findall(text))


def longest_loop(words: Sequence[str], least_times: int, least_words: int) -> Loop | None:
    """The longest run of consecutive equal n-grams, n up to 300 words, of at least so many repeats and words.

    A passage of n words that occurs k times in a row covers k * n words (the last occurrence may be cut off).
    """
    codes = _codes(words)
    best: Loop | None = None
    for n in range(1, min(_MOST_WORDS, len(codes) // max(1, least_times)) + 1):
        least = max(least_words, n * least_times)
        equal = codes[n:] == codes[:-n]
        if int(np.count_nonzero(equal)) < least - n:
            continue
        start, length = _longest_run(equal)
        if length + n >= least and (best is None or length + n > best.words):
            best = Loop(length + n, (length + n) / n, " ".join(words[start : start + n]))
    return best


def _codes(words: Sequence[str]) -> npt.NDArray[np.int32]:
    numbers = {word: number for number, word in enumerate(dict.fromkeys(words))}
    return np.fromiter(map(numbers.__getitem__, words), np.int32, len(words))


def _longest_run(flags: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """Start and length of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    starts, ends = edges[::2], edges[1::2]
    if not len(starts):
        return 0, 0
    at = int(np.argmax(ends - starts))
    return int(starts[at]), int(ends[at] - starts[at])
