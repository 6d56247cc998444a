"""From survivors to decisions: reasons, details as JSON, warnings."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stages.contract import Decisions, Scores
from stages.dedup.resolve import Bools, Floats, Ints

MIN_SOURCE: Final = 100
"""Smaller sources lose half their rows by chance too easily to warn about."""
MIN_POOL: Final = 1_000
SOURCE_SHARE: Final = 0.5
CLUSTER_SHARE: Final = 0.01


class Outcome(NamedTuple):
    """Per row: its survivor (itself, if kept), similarity to it (for kept rows the highest to another kept row, 0 if
    none was compared), whether the survivor is an exact copy, and whether there was a text to compare."""

    survivor: Ints
    similarity: Floats
    exact: Bools
    comparable: Bools


def decisions(outcome: Outcome, scores: Scores, sources: npt.NDArray[np.int64], names: list[str]) -> Decisions:
    """Decisions for an outcome; `sources` indexes `names` for each row."""
    rows = np.arange(len(outcome.survivor))
    keep = outcome.survivor == rows
    size = np.bincount(outcome.survivor, minlength=len(rows))[outcome.survivor]
    grouped = size > 1
    return Decisions(
        keep=keep,
        reason=_reasons(outcome, keep, size),
        score=np.where(keep & (outcome.similarity == 0), np.nan, outcome.similarity),
        related=np.where(keep, -1, outcome.survivor),
        detail=_details(outcome, scores, keep, size, grouped),
        warnings=(*_source_warnings(keep, sources, names), *_cluster_warnings(outcome, keep, size, scores)),
    )


def _reasons(outcome: Outcome, keep: Bools, size: Ints) -> pa.StringArray:
    survivor = pc.binary_join_element_wise("kept: survivor of", pa.array(size).cast(pa.string()), " ")
    cases = [~keep & outcome.exact, ~keep, size > 1, outcome.comparable]
    return pc.case_when(
        pa.StructArray.from_arrays([pa.array(case) for case in cases], ["exact", "near", "survivor", "unique"]),
        pa.scalar("duplicate: exact"),
        pa.scalar("duplicate: near"),
        survivor,
        pa.scalar("kept: unique"),
        pa.scalar("kept: nothing to compare"),
    )


def _details(outcome: Outcome, scores: Scores, keep: Bools, size: Ints, grouped: Bools) -> pa.StringArray:
    """JSON for rows in clusters, null for the others. Only the ids of survivors are held."""
    ids = _record_ids(scores, keep & grouped)
    members = np.flatnonzero(grouped)
    place = np.cumsum(keep & grouped) - 1
    kind = np.where(keep, "survivor", np.where(outcome.exact, "exact", "near"))[members]
    similarity = np.where(keep, 1.0, outcome.similarity)[members].round(6)
    parts: list[pa.Array | str] = [
        '{"cluster": "', ids.take(pa.array(place[outcome.survivor[members]])),
        '", "size": ', pa.array(size[members]).cast(pa.string()),
        ', "similarity": ', pa.array(similarity).cast(pa.string()),
        ', "kind": "', pa.array(kind), '"}',
    ]  # fmt: skip
    texts = pc.binary_join_element_wise(*parts, "")
    index = np.full(len(keep), -1, dtype=np.int64)
    index[members] = np.arange(len(members))
    return texts.take(pa.array(index, mask=index < 0))


def _record_ids(scores: Scores, wanted: Bools) -> pa.StringArray:
    parts, start = [pa.array([], pa.string())], 0
    for batch in scores.scores(["record_id"]):
        parts.append(batch["record_id"].cast(pa.string()).filter(pa.array(wanted[start : start + batch.num_rows])))
        start += batch.num_rows
    return pa.concat_arrays(parts)


def _source_warnings(keep: Bools, sources: npt.NDArray[np.int64], names: list[str]) -> list[str]:
    total = np.bincount(sources, minlength=len(names))
    lost = np.bincount(sources[~keep], minlength=len(names))
    return [
        f"source '{name}' loses {lost[k]:,} of {total[k]:,} rows ({lost[k] / total[k]:.0%}) as duplicates"
        for k, name in enumerate(names)
        if total[k] >= MIN_SOURCE and lost[k] > SOURCE_SHARE * total[k]
    ]


def _cluster_warnings(outcome: Outcome, keep: Bools, size: Ints, scores: Scores) -> list[str]:
    if len(keep) < MIN_POOL:
        return []
    big = np.flatnonzero(keep & (size > CLUSTER_SHARE * len(keep)))
    if len(big) == 0:
        return []
    ids = _record_ids(scores, np.isin(np.arange(len(keep)), big)).to_pylist()
    order = np.argsort(-size[big], kind="stable")[:5]
    more = f" (and {len(big) - 5} more such clusters)" if len(big) > 5 else ""
    return [
        f"one cluster holds {size[big[k]]:,} of {len(keep):,} rows ({size[big[k]] / len(keep):.1%}), kept: {ids[k]}"
        + (more if k == order[-1] else "")
        for k in order
    ]
