"""Dear scores on demand: a stage that decides adaptively asks for the rows it wants."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from pipelines.pool import RunPool
from pipelines.score_run import first_of_each
from pipelines.scoring import load_state
from pipelines.store import ScoreTable
from pipelines.streaming import store_batch
from stages.contract import Examiner, IntArray, Stage


class Asker:
    """Answers `Scores.ask` from the store, and from the stage's examiner for contents never asked about before."""

    def __init__(
        self, stage: Stage, pool: RunPool, table: ScoreTable, state: Path | None, tell: Callable[[str], None]
    ) -> None:
        self._stage, self._pool, self._table, self._state, self._tell = stage, pool, table, state, tell
        self.examined = 0

    @cached_property
    def _examine(self) -> Examiner:
        return self._stage.examiner(load_state(self._state))

    def __call__(self, rows: IntArray) -> pa.Table:
        """The examiner's columns for rows counted among the living, in the order asked for."""
        ids = self._pool.content_hashes[self._pool.global_rows()[rows]]
        missing = rows[first_of_each(ids, self._table.has(ids))]
        for start in range(0, len(missing), self._stage.task_rows()):
            self._add(missing[start : start + self._stage.task_rows()])
        return self._table.rows(ids, self._table.schema().names)

    def _add(self, rows: IntArray) -> None:
        found = self._pool.fetch(rows, list(dict.fromkeys([*self._stage.examines, "content_hash"]))).combine_chunks()
        batch = found.select(list(self._stage.examines)).to_batches()[0]
        store_batch(self._stage, self._table, found["content_hash"].combine_chunks(), self._examine(batch))
        self.examined += len(rows)
        self._tell(f"examined {self.examined:,} rows")
