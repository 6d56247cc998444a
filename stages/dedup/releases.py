"""Earlier releases: how recipes name them, whose rows come first, and the ids that they know their records by."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AfterValidator, ValidationInfo

from schemas.room import room, slices
from stages.contract import beside_recipe
from stages.dedup.joined import Joined
from stages.dedup.kernels import Bools, Numbers
from stages.dedup.lazy import kept_strings

PREVIOUS: Final = "previous"
_MARKS: Final = ("record_id", "content_hash", "origin")
"""What a record that was read from a run has in its `meta`: it got a new id, as every record of a run does."""


def _release(value: str, info: ValidationInfo) -> str:
    if value != PREVIOUS:
        return beside_recipe(value, info)
    base = (info.context or {}).get("base")
    if base is not None and Path(base, PREVIOUS).exists():  # until the word had a meaning, this named the directory
        raise ValueError(
            "`previous` means what the output directory holds, and there is a directory of that name here: write "
            "./previous if that is what you mean, else rename it"
        )
    return value


Release = Annotated[str, AfterValidator(_release)]
"""A path relative to the recipe's file, or `previous`: the publication that the run will replace."""


def published_first(order: Numbers, published: Bools) -> Numbers:
    """`order` with the published rows before the pool's others, both in their order.

    Args:
        order: rows, the best first: those of earlier releases, then those of the pool, which are numbered after them.
        published: which rows of the pool are published, shape (rows of the pool,).
    """
    if not published.any():
        return order
    fixed, out = len(order) - len(published), room(len(order), np.int32)
    out[:fixed], end = order[:fixed], fixed
    for wanted in (True, False):
        for part in slices(len(published)):
            own = order[fixed:][part]
            own = own[published[own - fixed] == wanted]
            out[end : end + len(own)] = own
            end += len(own)
    return np.asarray(out)


def named_ids(rows: Joined, named: Numbers, fixed: int) -> pa.LargeStringArray:
    """Record ids of the rows `named` (ascending); the first `fixed` rows go by the ids of the runs they are from.

    So `curate explain RELEASE ID` finds what a row was dropped for. Rows of other files have the id given on reading.
    """
    return kept_strings(len(named), _ids(rows, named, fixed))


def _ids(rows: Joined, named: Numbers, fixed: int) -> Iterator[pa.StringArray]:
    start = 0
    for column in rows.column("record_id"):
        first, last = np.searchsorted(named, [start, start + len(column)])
        some, ids = named[first:last].astype(np.int64), column.take(pa.array(named[first:last] - start))
        if start < fixed and len(some):  # no part of a column is of two pools
            ids = pc.coalesce(_known_ids(rows.fetch(some, ["meta"])["meta"]), ids)
        yield ids
        start += len(column)


def _known_ids(meta: pa.ChunkedArray) -> pa.StringArray:
    return pa.array([_known_id(text) for text in meta.to_pylist()], pa.string())


def _known_id(meta: str | None) -> str | None:
    """The id in the run that the record was read from: `release_id`, or that of the only run it has been through."""
    found = orjson.loads(meta) if meta else {}
    if not all(isinstance(found.get(name), str) for name in _MARKS):
        return None
    release = found.get("release_id", found["record_id"])
    return str(release)
