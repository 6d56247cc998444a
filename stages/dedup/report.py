"""From survivors to decisions: reasons, details as JSON, warnings."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stages.contract import Decisions
from stages.dedup.joined import Joined
from stages.dedup.resolve import Bools, Floats, Ints

MIN_SOURCE: Final = 100
"""Smaller sources lose half their rows by chance too easily to warn about."""
MIN_POOL: Final = 1_000
SOURCE_SHARE: Final = 0.5
CLUSTER_SHARE: Final = 0.01
EARLIER: Final = " of an earlier release"


class Found(NamedTuple):
    """Per row: its survivor (itself, if kept), the kept row most similar to it (-1 if it is dropped or none was
    compared), the similarity to the one or the other, whether the survivor is an exact copy, whether there was a text
    to compare. The first `fixed` rows are of earlier releases: they are there to be named, not decided about."""

    survivor: Ints
    nearest: Ints
    similarity: Floats
    exact: Bools
    comparable: Bools
    fixed: int


def decisions(found: Found, rows: Joined, sources: npt.NDArray[np.integer], names: list[str]) -> Decisions:
    """Decisions about the rows of this run; `sources` indexes `names` for each row."""
    own = np.arange(found.fixed, len(rows))
    survivor = found.survivor[own]
    keep = survivor == own
    earlier = survivor < found.fixed
    size = _sizes(found)[survivor]
    return Decisions(
        keep=keep,
        reason=_reasons(found, keep, earlier, size),
        score=np.where(keep & (found.nearest[own] < 0), np.nan, found.similarity[own]),
        related=np.where(keep | earlier, -1, survivor - found.fixed),
        related_id=_earlier_ids(survivor, earlier, rows) if found.fixed else None,
        detail=_details(found, keep, size, rows),
        warnings=(
            *_source_warnings(keep | earlier, sources[own], names),
            *_cluster_warnings(own, keep, size, rows),
        ),
    )


def _sizes(found: Found) -> Ints:
    """Rows of this run around each survivor, itself included."""
    counts = np.bincount(found.survivor[found.fixed :], minlength=len(found.survivor))
    counts[: found.fixed] += 1
    return counts


def _reasons(found: Found, keep: Bools, earlier: Bools, size: Ints) -> pa.StringArray:
    exact = found.exact[found.fixed :]
    survivor = pc.binary_join_element_wise("kept: survivor of", pa.array(size).cast(pa.string()), " ")
    cases = [earlier & exact, earlier, ~keep & exact, ~keep, size > 1, found.comparable[found.fixed :]]
    return pc.case_when(
        pa.StructArray.from_arrays([pa.array(case) for case in cases], [str(k) for k in range(len(cases))]),
        pa.scalar(f"duplicate: exact{EARLIER}"),
        pa.scalar(f"duplicate: near{EARLIER}"),
        pa.scalar("duplicate: exact"),
        pa.scalar("duplicate: near"),
        survivor,
        pa.scalar("kept: unique"),
        pa.scalar("kept: nothing to compare"),
    )


def _earlier_ids(survivor: Ints, earlier: Bools, rows: Joined) -> pa.StringArray:
    """Ids of twins in earlier releases, null for the other rows."""
    at = np.flatnonzero(earlier)
    index = np.full(len(survivor), -1)
    index[at] = np.arange(len(at))
    return rows.named("record_id", survivor[at]).take(pa.array(index, mask=index < 0))


def _details(found: Found, keep: Bools, size: Ints, rows: Joined) -> pa.StringArray:
    """JSON for rows that have a cluster or a nearest row, null for the others."""
    own = np.arange(found.fixed, len(rows))
    nearest = found.nearest[own]
    members = np.flatnonzero((size > 1) | (nearest >= 0))
    grouped, near = size[members] > 1, nearest[members] >= 0
    clusters = _clusters(found, members, keep[members], size[members], rows)
    texts = pc.binary_join_element_wise(
        "{",
        pc.if_else(pa.array(grouped), clusters, ""),
        pc.if_else(pa.array(grouped & near), ", ", ""),
        _nearest(nearest[members], near, rows),
        "}",
        "",
    )
    index = np.full(len(keep), -1, dtype=np.int64)
    index[members] = np.arange(len(members))
    return texts.take(pa.array(index, mask=index < 0))


def _clusters(found: Found, members: Ints, keep: Bools, size: Ints, rows: Joined) -> pa.StringArray:
    at = members + found.fixed
    kind = np.where(keep, "survivor", np.where(found.exact[at], "exact", "near"))
    similarity = np.where(keep, 1.0, found.similarity[at]).round(6)
    return pc.binary_join_element_wise(
        '"cluster": "', rows.named("record_id", found.survivor[at]),
        '", "size": ', pa.array(size).cast(pa.string()),
        ', "similarity": ', pa.array(similarity).cast(pa.string()),
        ', "kind": "', pa.array(kind), '"', "",
    )  # fmt: skip


def _nearest(nearest: Ints, near: Bools, rows: Joined) -> pa.StringArray:
    ids = rows.named("record_id", np.maximum(nearest, 0))
    named = pc.binary_join_element_wise('"nearest": "', ids, '"', "")
    return pc.if_else(pa.array(near), named, "")


def _source_warnings(keep: Bools, sources: npt.NDArray[np.integer], names: list[str]) -> list[str]:
    total = np.bincount(sources, minlength=len(names))
    lost = np.bincount(sources[~keep], minlength=len(names))
    return [
        f"source '{name}' loses {lost[k]:,} of {total[k]:,} rows ({lost[k] / total[k]:.0%}) as duplicates"
        for k, name in enumerate(names)
        if total[k] >= MIN_SOURCE and lost[k] > SOURCE_SHARE * total[k]
    ]


def _cluster_warnings(own: Ints, keep: Bools, size: Ints, rows: Joined) -> list[str]:
    if len(keep) < MIN_POOL:
        return []
    big = np.flatnonzero(keep & (size > CLUSTER_SHARE * len(keep)))
    order = big[np.argsort(-size[big], kind="stable")[:5]]
    ids = rows.named("record_id", own[order]).to_pylist() if len(order) else []
    more = f" (and {len(big) - 5} more such clusters)" if len(big) > 5 else ""
    return [
        f"one cluster holds {size[row]:,} of {len(keep):,} rows ({size[row] / len(keep):.1%}), kept: {ids[k]}"
        + (more if k == len(order) - 1 else "")
        for k, row in enumerate(order)
    ]
