"""Hashed n-grams of DSIR ("Data Selection for Language Models via Importance Resampling", Xie et al. 2023).

Words are those of NLTK's WordPunctTokenizer (3.10, which matches with `regex`) in lower case; unigrams and bigrams
(joined by a space) go to the bucket sha256 modulo the number of buckets, as in the package `data-selection` 1.0.3.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache
from hashlib import sha256
from itertools import chain, pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import regex

from stages.zipfit.native import arguments, checked, native, pointer
from stages.zipfit.packed import Packed, pack_strings

BUCKETS: Final = 10_000
NGRAMS: Final = pa.list_(pa.uint16())

_WORD: Final = regex.compile(r"\w+|[^\w\s]+")
_REMEMBERED: Final = 1 << 18
_PIECE: Final = 1_024  # texts at a time: without the kernel, their words take ten times the memory of the text


def words(text: str) -> list[str]:
    """Lower-case words and runs of punctuation."""
    return list(_WORD.findall(text.lower()))


def word_counts(texts: Sequence[str]) -> pa.Int32Array:
    """Number of `words` of each text."""
    library = native()
    if library is None:
        return pa.array([len(words(text)) for text in texts], pa.int32())
    return pa.array(_counted(library, _apart(texts)))


def ngram_column(texts: Sequence[str], buckets: int = BUCKETS) -> tuple[pa.ListArray, pa.Int32Array]:
    """Buckets of the unigrams and bigrams (`NGRAMS`, a bucket per occurrence) and number of words of each text."""
    library = native()
    pieces = (texts[start : start + _PIECE] for start in range(0, len(texts), _PIECE))
    parts = [_plain(part, buckets) if library is None else _compiled(library, part, buckets) for part in pieces]
    sizes = np.concatenate([np.empty(0, np.int32), *(part[1] for part in parts)])
    values = np.concatenate([np.empty(0, np.uint16), *(part[0] for part in parts)])
    return pa.ListArray.from_arrays(pa.array(_offsets(sizes)), pa.array(values)), pa.array(sizes)


def _plain(texts: Sequence[str], buckets: int) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.int32]]:
    tokens, place = [words(text) for text in texts], _hasher(buckets)
    sizes = np.array([len(item) for item in tokens], np.int32)
    return np.fromiter(map(place, chain.from_iterable(map(_grams, tokens))), np.uint16, _offsets(sizes)[-1]), sizes


def _compiled(
    library: ctypes.CDLL, texts: Sequence[str], buckets: int
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.int32]]:
    packed = _apart(texts)
    sizes = _counted(library, packed)
    out = np.zeros(_offsets(sizes)[-1], np.uint16)
    checked(library.zipfit_ngrams(*arguments(packed), ctypes.c_int64(buckets), pointer(out)))
    return out, sizes


def _apart(texts: Sequence[str]) -> Packed:
    """Texts as the kernel wants them: it knows the words of ASCII; those of others get spaces between them."""
    return pack_strings(text if text.isascii() else " ".join(words(text)) for text in texts)


def _counted(library: ctypes.CDLL, packed: Packed) -> npt.NDArray[np.int32]:
    out = np.zeros(len(packed), np.int32)
    checked(library.zipfit_words(*arguments(packed), pointer(out)))
    return out


def _offsets(sizes: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    offsets = np.zeros(len(sizes) + 1, np.int32)
    np.cumsum(np.maximum(2 * sizes - 1, 0), out=offsets[1:])
    return offsets


def _grams(tokens: list[str]) -> Iterator[str]:
    return chain(tokens, map(" ".join, pairwise(tokens)))


@cache
def _hasher(buckets: int) -> Callable[[str], int]:
    # A memo, because the same few n-grams come again and again and sha256 takes most of the time.
    @lru_cache(maxsize=_REMEMBERED)
    def place(gram: str) -> int:
        return int.from_bytes(sha256(gram.encode("utf-8", "surrogatepass")).digest()) % buckets

    return place
