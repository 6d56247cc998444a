"""Runs of one task: which they are, and how they rank among each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from stages.contract import BoolArray, IntArray, Scores
from stages.trajectories.meta import meta_values

Floats = npt.NDArray[np.float64]


class Rank(NamedTuple):
    """Per row: its place within its task from 1 (0: not ranked), the ranked runs of the task, the row of the best."""

    place: IntArray
    size: IntArray
    best: IntArray


class Tasks(NamedTuple):
    """Per row: a number, equal for runs of one task, and what the task goes by (null: nothing, a task of its own)."""

    code: IntArray
    name: pa.StringArray


def read_tasks(scores: Scores, by: str) -> Tasks:
    """The tasks of all rows. Equal questions are one task wherever they come from; ids count within their source."""
    if by == "question":
        names = scores.table(["task"])["task"].combine_chunks()
        return Tasks(_codes(names), names)
    if by == "source_id":
        ids = pa.chunked_array([batch["source_id"] for batch in scores.batches(["source_id"])], pa.string())
        names = ids.combine_chunks()
    else:
        names = pa.array(_named(scores, by.removeprefix("meta.")), pa.string())
    sources = scores.table(["source"])["source"].combine_chunks()
    return Tasks(_codes(pc.binary_join_element_wise(sources, names, "\0")), names)


def _named(scores: Scores, path: str) -> list[str | None]:
    values = meta_values(scores, path)
    return [value if value is None or isinstance(value, str) else _json(value) for value in values]


def _json(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def _codes(keys: pa.StringArray) -> IntArray:
    codes = pc.dictionary_encode(keys).indices
    alone = np.arange(len(keys), dtype=np.int64) + len(keys)
    return np.where(np.asarray(keys.is_null()), alone, pc.fill_null(codes, 0).to_numpy().astype(np.int64))


def ranks(tasks: IntArray, rows: BoolArray, keys: Sequence[Floats], ties: IntArray) -> Rank:
    """Rank the marked rows within their tasks by `keys`, the first one first and the smallest best, then by `ties`."""
    place, size = np.zeros(len(tasks), np.int64), np.zeros(len(tasks), np.int64)
    best = np.full(len(tasks), -1, np.int64)
    at = np.flatnonzero(rows)
    if not len(at):
        return Rank(place, size, best)
    order = at[np.lexsort([ties[at], *(key[at] for key in reversed(keys)), tasks[at]])]
    _, first, count = np.unique(tasks[order], return_index=True, return_counts=True)
    place[order] = np.arange(len(order)) - np.repeat(first, count) + 1
    size[order] = np.repeat(count, count)
    best[order] = np.repeat(order[first], count)
    return Rank(place, size, best)


def at_least_median(tasks: IntArray, rows: BoolArray, values: Floats) -> BoolArray:
    """Of the marked rows, those whose value is at least the median of the marked rows of their task.

    The upper of two middle values counts as the median, so that of two runs the better one stays, and of equals all.
    """
    good = np.zeros(len(tasks), np.bool_)
    at = np.flatnonzero(rows)
    if not len(at):
        return good
    order = at[np.lexsort([values[at], tasks[at]])]
    _, first, count = np.unique(tasks[order], return_index=True, return_counts=True)
    median = np.repeat(values[order[first + count // 2]], count)
    good[order] = values[order] >= median
    return good
