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
from stages.zipfit.packed import pack_strings

BUCKETS: Final = 10_000
NGRAMS: Final = pa.list_(pa.uint16())

_WORD: Final = regex.compile(r"\w+|[^\w\s]+")
_REMEMBERED: Final = 1 << 18
_PIECE: Final = 1_024  # texts as lists of words at a time: these take ten times the memory of the text


def words(text: str) -> list[str]:
    """Lower-case words and runs of punctuation."""
    return list(_WORD.findall(text.lower()))


def ngram_column(texts: Sequence[str], buckets: int = BUCKETS) -> tuple[pa.ListArray, pa.Int32Array]:
    """Buckets of the unigrams and bigrams (`NGRAMS`, a bucket per occurrence) and number of words of each text."""
    parts = [_part(texts[start : start + _PIECE], buckets) for start in range(0, len(texts), _PIECE)]
    sizes = np.concatenate([np.empty(0, np.int32), *(part[1] for part in parts)])
    values = np.concatenate([np.empty(0, np.uint16), *(part[0] for part in parts)])
    return pa.ListArray.from_arrays(pa.array(_offsets(sizes)), pa.array(values)), pa.array(sizes)


def _part(texts: Sequence[str], buckets: int) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.int32]]:
    tokens = [words(text) for text in texts]
    sizes = np.array([len(item) for item in tokens], np.int32)
    total = int(_offsets(sizes)[-1])
    library = native()
    if library is None:
        place = _hasher(buckets)
        return np.fromiter(map(place, chain.from_iterable(map(_grams, tokens))), np.uint16, total), sizes
    return _compiled(library, tokens, total, buckets), sizes


def _offsets(sizes: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    offsets = np.zeros(len(sizes) + 1, np.int32)
    np.cumsum(np.maximum(2 * sizes - 1, 0), out=offsets[1:])
    return offsets


def _grams(tokens: list[str]) -> Iterator[str]:
    return chain(tokens, map(" ".join, pairwise(tokens)))


def _compiled(library: ctypes.CDLL, tokens: list[list[str]], total: int, buckets: int) -> npt.NDArray[np.uint16]:
    out = np.zeros(total, np.uint16)
    packed = pack_strings(map(" ".join, tokens))  # no word has a space in it
    checked(library.zipfit_ngrams(*arguments(packed), ctypes.c_int64(buckets), pointer(out)))
    return out


@cache
def _hasher(buckets: int) -> Callable[[str], int]:
    # A memo, because the same few n-grams come again and again and sha256 takes most of the time.
    @lru_cache(maxsize=_REMEMBERED)
    def place(gram: str) -> int:
        return int.from_bytes(sha256(gram.encode("utf-8", "surrogatepass")).digest()) % buckets

    return place
