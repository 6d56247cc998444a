"""From survivors to decisions: reasons, details as JSON, warnings."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.room import room, slices
from stages.contract import Decisions
from stages.dedup.arrays import counts, full, span, where
from stages.dedup.columns import sources
from stages.dedup.joined import Joined
from stages.dedup.kernels import Bools, Numbers
from stages.dedup.lazy import LazyStrings
from stages.dedup.releases import named_ids
from stages.dedup.resolve import Outcome

MIN_SOURCE: Final = 100
"""Smaller sources lose half their rows by chance too easily to warn about."""
MIN_POOL: Final = 1_000
SOURCE_SHARE: Final = 0.5
CLUSTER_SHARE: Final = 0.01
EARLIER: Final = " of an earlier release"


class Story(NamedTuple):
    """What reasons and details are made from, a slice of rows at a time.

    `found` is about all rows, the first `fixed` of which are of earlier releases, and so is `leader`, the best row with
    the same text; `size` counts the rows
    of this run around each survivor, itself included; `ids` are the record ids of the rows `named`, which ascend.
    """

    found: Outcome
    leader: Numbers
    comparable: Bools
    size: Numbers
    fixed: int
    named: Numbers
    ids: pa.LargeStringArray

    def reasons(self, start: int, stop: int) -> pa.StringArray:
        """Why the rows of this run from `start` to `stop` stay or go."""
        own = np.arange(start, stop) + self.fixed
        survivor, exact = self.found.survivor[own], self._exact(own)
        size = self.size[survivor]
        keep, earlier = survivor == own, survivor < self.fixed
        survives = pc.binary_join_element_wise("kept: survivor of", pa.array(size).cast(pa.string()), " ")
        cases = [earlier & exact, earlier, ~keep & exact, ~keep, size > 1, self.comparable[own]]
        return pc.case_when(
            pa.StructArray.from_arrays([pa.array(case) for case in cases], [str(k) for k in range(len(cases))]),
            pa.scalar(f"duplicate: exact{EARLIER}"),
            pa.scalar(f"duplicate: near{EARLIER}"),
            pa.scalar("duplicate: exact"),
            pa.scalar("duplicate: near"),
            survives,
            pa.scalar("kept: unique"),
            pa.scalar("kept: nothing to compare"),
        )

    def details(self, start: int, stop: int) -> pa.StringArray:
        """JSON for rows that have a cluster or a nearest row, null for the others."""
        own = np.arange(start, stop) + self.fixed
        grouped, near = self.size[self.found.survivor[own]] > 1, self.found.nearest[own] >= 0
        texts = pc.binary_join_element_wise(
            "{",
            pc.if_else(pa.array(grouped), self._clusters(own), ""),
            pc.if_else(pa.array(grouped & near), ", ", ""),
            pc.if_else(pa.array(near), self._nearest(own), ""),
            "}",
            "",
        )
        return pc.if_else(pa.array(grouped | near), texts, pa.scalar(None, pa.string()))

    def earlier_ids(self, start: int, stop: int) -> pa.StringArray:
        """Ids of twins in earlier releases, null for the other rows."""
        survivor = self.found.survivor[self.fixed + start : self.fixed + stop]
        return self.id_of(np.where(survivor < self.fixed, survivor, -1))

    def id_of(self, rows: npt.NDArray[np.integer]) -> pa.StringArray:
        """Record ids of the rows, null for those that are not `named`."""
        if not len(self.named):
            return pa.nulls(len(rows), pa.string())
        at = np.minimum(np.searchsorted(self.named, rows), len(self.named) - 1)
        return self.ids.take(pa.array(at, mask=self.named[at] != rows)).cast(pa.string())

    def _exact(self, own: npt.NDArray[np.int64]) -> Bools:
        """Which rows are exact copies of their survivor."""
        survivor = self.found.survivor[own]
        return np.asarray((survivor == self.leader[own]) & (survivor != own))

    def _clusters(self, own: npt.NDArray[np.int64]) -> pa.StringArray:
        survivor = self.found.survivor[own]
        keep = survivor == own
        kind = np.where(keep, 0, np.where(self._exact(own), 1, 2))
        similarity = np.where(keep, 1.0, self.found.similarity[own]).round(6)
        return pc.binary_join_element_wise(
            '"cluster": "', pc.fill_null(self.id_of(survivor), ""),
            '", "size": ', pa.array(self.size[survivor]).cast(pa.string()),
            ', "similarity": ', pa.array(similarity).cast(pa.string()),
            ', "kind": "', pa.array(["survivor", "exact", "near"]).take(pa.array(kind)), '"', "",
        )  # fmt: skip

    def _nearest(self, own: npt.NDArray[np.int64]) -> pa.StringArray:
        ids = pc.fill_null(self.id_of(self.found.nearest[own]), "")
        return pc.binary_join_element_wise('"nearest": "', ids, '"', "")


def decisions(found: Outcome, leader: Numbers, comparable: Bools, fixed: int, rows: Joined) -> Decisions:
    """Decisions about the rows of this run; the first `fixed` rows are there to be named, not decided about."""
    n, size = len(rows) - fixed, _sizes(found, fixed)
    named = _named(found, size, fixed)
    story = Story(found, leader, comparable, size, fixed, named, named_ids(rows, named, fixed))
    keep, score, related = room(n, np.bool_), room(n, np.float64), room(n, np.int64)
    for part in slices(n):
        own = span(part) + fixed
        survivor, similarity = found.survivor[own], found.similarity[own]
        keep[part] = survivor == own
        score[part] = np.where(keep[part] & (found.nearest[own] < 0), np.nan, similarity)
        related[part] = np.where(keep[part] | (survivor < fixed), -1, survivor - fixed)
    return Decisions(
        keep=keep,
        reason=LazyStrings(n, story.reasons),
        score=score,
        related=related,
        related_id=LazyStrings(n, story.earlier_ids) if fixed else None,
        detail=LazyStrings(n, story.details),
        warnings=(*_source_warnings(story, rows), *_cluster_warnings(keep, story)),
    )


def _sizes(found: Outcome, fixed: int) -> Numbers:
    """Rows of this run around each survivor, itself included."""
    size = counts(found.survivor[fixed:], len(found.survivor))
    size[:fixed] += 1
    return size


def _named(found: Outcome, size: Numbers, fixed: int) -> Numbers:
    """Rows whose record id is part of what is said about another one, or of a group: ascending."""
    wanted = full(len(size), 0, np.bool_)
    for part in slices(len(size) - fixed):
        nearest, survivor = found.nearest[fixed:][part], found.survivor[fixed:][part]
        wanted[nearest[nearest >= 0]] = True
        wanted[survivor[size[survivor] > 1]] = True
    return where(len(size), lambda part: wanted[part])


def _source_warnings(story: Story, rows: Joined) -> list[str]:
    found, fixed = sources(rows), story.fixed
    total, lost = np.zeros(len(found.names), np.int64), np.zeros(len(found.names), np.int64)
    for part in slices(len(rows) - fixed):
        own = span(part) + fixed
        survivor, codes = story.found.survivor[own], found.codes[own]
        total += np.bincount(codes, minlength=len(total))
        lost += np.bincount(codes[(survivor != own) & (survivor >= fixed)], minlength=len(total))
    return [
        f"source '{name}' loses {lost[k]:,} of {total[k]:,} rows ({lost[k] / total[k]:.0%}) as duplicates"
        for k, name in enumerate(found.names)
        if total[k] >= MIN_SOURCE and lost[k] > SOURCE_SHARE * total[k]
    ]


def _cluster_warnings(keep: Bools, story: Story) -> list[str]:
    if len(keep) < MIN_POOL:
        return []
    size = story.size[story.fixed :]
    big = where(len(keep), lambda part: keep[part] & (size[part] > CLUSTER_SHARE * len(keep)))
    order = big[np.argsort(-size[big], kind="stable")[:5]]
    ids = story.id_of(order + story.fixed).to_pylist()
    more = f" (and {len(big) - 5} more such clusters)" if len(big) > 5 else ""
    return [
        f"one cluster holds {size[row]:,} of {len(keep):,} rows ({size[row] / len(keep):.1%}), kept: {ids[k]}"
        + (more if k == len(order) - 1 else "")
        for k, row in enumerate(order)
    ]
