"""Runs of stages that have a `target`, over pools in memory: what the runner does, without files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
from pools import MemoryPool, Row, batches, records

from stages.contract import Decisions, Stage

Texts = Sequence[str | None]


class TargetPool(MemoryPool):
    """A pool with scores, and the records of the stage's sources by role."""

    def __init__(self, table: pa.Table, scores: pa.Table | None, size: int, inputs: Mapping[str, MemoryPool]) -> None:
        super().__init__(table, scores, size)
        self.inputs = inputs


def rows(texts: Texts) -> list[Row]:
    """A record per text."""
    return [{"text": text} for text in texts]


def score(stage: Stage, table: pa.Table, files: Mapping[str, Texts], size: int = 1000) -> TargetPool:
    """Score `table`; `files` are target texts by path."""
    paths = {role: paths[0] for role, paths in stage.sources().items()}
    inputs = {role: MemoryPool(records(rows(files[path]), path)) for role, path in paths.items()}
    state = stage.fit(MemoryPool(table, batch_size=size), inputs)
    read = table.select(list(stage.reads))
    parts = list(batches(read, size)) or [pa.RecordBatch.from_pylist([], read.schema)]
    pool = TargetPool(table, pa.Table.from_batches([stage.score(part, state) for part in parts]), size, inputs)
    if stage.examines:
        pool.asking(stage, state)
    return pool


def run(stage: Stage, table: pa.Table, files: Mapping[str, Texts], size: int = 1000) -> Decisions:
    """Score and decide, and check the shape of the answer."""
    decisions = stage.decide(score(stage, table, files, size))
    for column in (decisions.keep, decisions.reason, decisions.score, decisions.detail):
        assert column is None or len(column) == table.num_rows
    return decisions
