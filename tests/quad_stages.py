"""`quad` with an influence that needs no model, for tests of everything around it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from pools import MemoryPool, batches

from stages.contract import Examiner, IntArray, Pool, State
from stages.quad.stage import Quad
from stages.text import render


class Counting(Quad):
    """Influence: how often a row says `good`, less how often it says `bad`; `odd` has none."""

    def check(self) -> None:
        """Nothing is needed."""

    def fit(self, pool: Pool, inputs: Mapping[str, Pool]) -> State:
        return {"one": np.ones(1)}

    def examiner(self, state: State) -> Examiner:
        def examine(batch: pa.RecordBatch) -> pa.RecordBatch:
            texts = [text.split() for text in render(batch, self.on).to_pylist()]
            values = [[float(t.count("good") - t.count("bad"))] * len(self.target) for t in texts]
            odd = np.array(["odd" in t for t in texts], np.bool_)
            flat = pa.array(np.array(values, np.float64).ravel())
            return pa.RecordBatch.from_pydict(
                {
                    "influences": pa.FixedSizeListArray.from_arrays(flat, len(self.target), mask=pa.array(odd)),
                    "loss": pa.array(np.ones(len(texts))),
                    "lost": pa.array([3 * ("long" in t) for t in texts], pa.int64()),
                    "target_cuts": pa.array([[5, 2, 70]] * len(texts), pa.list_(pa.int64())),
                    "problem": pa.array(["odd" if flag else None for flag in odd], pa.string()),
                }
            )

        return examine


class AskingPool(MemoryPool):
    """A pool in memory whose rows can be asked about; counts what the examiner had to compute."""

    def __init__(self, stage: Quad, state: State, records: pa.Table, scores: pa.Table, batch_size: int) -> None:
        super().__init__(records, scores, batch_size)
        self._stage, self._examine = stage, stage.examiner(state)
        self.known: dict[str, dict[str, Any]] = {}
        self.computed = 0

    def ask(self, rows: IntArray) -> pa.Table:
        found = self.records.take(pa.array(rows))
        keys = found["content_hash"].to_pylist()
        missing = [at for at, key in enumerate(keys) if key not in self.known]
        if missing:
            batch = found.take(missing).select(list(self._stage.examines)).combine_chunks().to_batches()[0]
            table = pa.Table.from_batches([self._examine(batch)])
            self._schema = table.schema
            self.computed += len(missing)
            self.known.update({keys[at]: row for at, row in zip(missing, table.to_pylist(), strict=True)})
        return pa.Table.from_pylist([self.known[key] for key in keys], schema=self._schema)


def asking(stage: Quad, table: pa.Table, batch_size: int = 1000) -> AskingPool:
    """The pool that `decide` gets, with every row's cheap columns."""
    state = stage.fit(MemoryPool(table), {})
    read = table.select(list(stage.reads))
    parts = list(batches(read, batch_size)) or [pa.RecordBatch.from_pylist([], read.schema)]
    return AskingPool(
        stage, state, table, pa.Table.from_batches([stage.score(part, state) for part in parts]), batch_size
    )
