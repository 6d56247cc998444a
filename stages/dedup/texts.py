"""Normalised text as Arrow-like buffers: lower case and white space, done by a kernel that releases the GIL."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from stages.dedup import kernels
from stages.dedup.chars import tables
from stages.dedup.kernels import Bytes, Offsets


class Texts(NamedTuple):
    """UTF-8 texts end to end: text `i` is `data[offsets[i]:offsets[i + 1]]`; `chars` counts its code points."""

    data: Bytes
    offsets: Offsets
    chars: npt.NDArray[np.int64]


def normalise(strings: pa.StringArray, lowercase: bool, whitespace: bool) -> Texts:
    """NFC; with `lowercase`, one-to-one lower case; with `whitespace`, runs become one space and the ends none.

    Null counts as empty: callers keep the nulls apart.
    """
    strings = composed(pc.fill_null(strings, ""))
    data, offsets = buffers(strings)
    if not lowercase and not whitespace:
        return Texts(data, offsets, pc.utf8_length(strings).cast(pa.int64()).to_numpy())
    lower = tables().lower if lowercase else np.arange(0x110000, dtype=np.uint32)
    return Texts(*kernels.normalise(data, offsets, lower, tables().classes, whitespace))


def composed(strings: pa.StringArray) -> pa.StringArray:
    """Texts in normal form C. Most have only characters that stay as they are; the others are looked at closely."""
    mask = pa.array(kernels.doubtful(*buffers(strings), tables().composed))
    before = strings.filter(mask)
    after = pc.utf8_normalize(before, "NFC")
    # Putting texts back into their places costs more than all the rest.
    return strings if after.equals(before) else pc.replace_with_mask(strings, mask, after)


def content_hashes(texts: Texts) -> pa.FixedSizeBinaryArray:
    """The 16-byte xxh3-128 of each text."""
    view = texts.data.data
    ends = texts.offsets.tolist()
    hashes = [xxhash.xxh3_128_digest(view[a:b]) for a, b in pairwise(ends)]
    return pa.array(hashes, pa.binary(16))


def strings_of(texts: Texts) -> list[str]:
    """The texts as Python strings, for code that cannot read buffers."""
    view = texts.data.data
    ends = texts.offsets.tolist()
    return [str(view[a:b], "utf-8") for a, b in pairwise(ends)]


def buffers(strings: pa.StringArray) -> tuple[Bytes, Offsets]:
    """UTF-8 bytes end to end, and where each text begins and the last one ends."""
    width = np.int64 if pa.types.is_large_string(strings.type) else np.int32
    _, offsets, data = strings.buffers()
    ends = np.frombuffer(offsets, dtype=width, count=len(strings) + 1, offset=strings.offset * width().itemsize)
    return np.frombuffer(data or b"", dtype=np.uint8), ends.astype(np.int64)
