"""Several pools as one sequence of rows: the records of earlier releases, then those of this run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from stages.contract import BoolArray, IntArray, Scores


class Joined:
    """Scored pools end to end; row `i` of pool `k` is row `starts[k] + i`."""

    def __init__(self, pools: Sequence[Scores]) -> None:
        self.pools = pools
        self.starts = np.concatenate([[0], np.cumsum([len(pool) for pool in pools], dtype=np.int64)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def scores(self, columns: Sequence[str], rows: BoolArray | None = None) -> Iterator[pa.RecordBatch]:
        """Score columns of every row (or of those that `rows` marks), in order, part by part."""
        for pool, start in zip(self.pools, self.starts[:-1], strict=True):
            if len(pool):
                yield from pool.scores(columns, None if rows is None else rows[start : start + len(pool)])

    def column(self, name: str) -> Iterator[pa.Array]:
        """A small score column of every row, in order; held whole for a moment."""
        for pool in self.pools:
            yield from pool.table([name])[name].chunks if len(pool) else ()

    def fetch(self, rows: IntArray, columns: Sequence[str]) -> pa.Table:
        """Record columns of the named rows, which ascend."""
        cuts = np.searchsorted(rows, self.starts)
        parts = [
            pool.fetch(rows[cuts[k] : cuts[k + 1]] - self.starts[k], columns)
            for k, pool in enumerate(self.pools)
            if cuts[k] < cuts[k + 1]
        ]
        return pa.concat_tables(parts or [self.pools[-1].fetch(rows, columns)])

    def named(self, column: str, rows: IntArray) -> pa.StringArray:
        """A text column of the named rows, in any order, read in one pass that holds only what is asked for."""
        wanted, inverse = np.unique(rows, return_inverse=True)
        found, start = [pa.array([], pa.string())], 0
        for batch in self.scores([column]):
            first, last = np.searchsorted(wanted, [start, start + batch.num_rows])
            found.append(batch[column].cast(pa.string()).take(pa.array(wanted[first:last] - start)))
            start += batch.num_rows
        return pa.concat_arrays(found).take(pa.array(inverse))
