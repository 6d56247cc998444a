"""Records of earlier releases by the ids that those releases know them by."""

from __future__ import annotations

from typing import Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from stages.dedup.joined import Joined
from stages.dedup.kernels import Numbers

_PIECE: Final = 4_096
_MARKS: Final = ("record_id", "content_hash", "origin")
"""What a record that was read from a run has in its `meta`: it got a new id, as every record of a run does."""


def named_ids(rows: Joined, named: Numbers, fixed: int) -> pa.StringArray:
    """Record ids of the rows `named` (ascending); the first `fixed` rows go by the ids of the runs they are from.

    So `curate explain RELEASE ID` finds what a row was dropped for. Rows of other files have the id given on reading.
    """
    ids, earlier = rows.named("record_id", named.astype(np.int64)), int(np.searchsorted(named, fixed))
    if not earlier:
        return ids
    pieces = [
        _known_ids(rows.fetch(named[start : min(start + _PIECE, earlier)].astype(np.int64), ["meta"])["meta"])
        for start in range(0, earlier, _PIECE)
    ]
    known = pa.concat_arrays(pieces)
    return pa.concat_arrays([pc.coalesce(known, ids.slice(0, earlier)), ids.slice(earlier)])


def _known_ids(meta: pa.ChunkedArray) -> pa.StringArray:
    return pa.array([_known_id(text) for text in meta.to_pylist()], pa.string())


def _known_id(meta: str | None) -> str | None:
    """The id in the run that the record was read from: `release_id`, or that of the only run it has been through."""
    found = orjson.loads(meta) if meta else {}
    if not all(isinstance(found.get(name), str) for name in _MARKS):
        return None
    release = found.get("release_id", found["record_id"])
    return str(release)
