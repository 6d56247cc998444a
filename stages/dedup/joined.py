"""Several pools as one sequence of rows: the records of earlier releases, then those of this run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa

from stages.contract import IntArray, Scores, View

T = TypeVar("T")
R = TypeVar("R")


class Joined:
    """Scored pools end to end; row `i` of pool `k` is row `starts[k] + i`."""

    def __init__(self, pools: Sequence[Scores]) -> None:
        self.pools = pools
        self.starts = np.concatenate([[0], np.cumsum([len(pool) for pool in pools], dtype=np.int64)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def shared(self) -> Path | None:
        """Where tasks and this process find the same files, None if tasks run in this process."""
        return self.pools[-1].shared

    def map(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        """Results in the order of the tasks."""
        return self.pools[-1].map(function, tasks)

    def views(self, columns: Sequence[str]) -> Iterator[tuple[slice, View]]:
        """The rows in pieces that tasks can read."""
        for pool, start in zip(self.pools, self.starts[:-1].tolist(), strict=True):
            for view in pool.views(columns) if len(pool) else ():
                yield slice(start, start + len(view)), view
                start += len(view)

    def column(self, name: str) -> Iterator[pa.Array]:
        """A score column of every row, in order, part by part."""
        return (batch[name] for pool in self.pools if len(pool) for batch in pool.scores([name]))

    def fetch(self, rows: IntArray, columns: Sequence[str]) -> pa.Table:
        """Record columns of the named rows, which ascend."""
        cuts = np.searchsorted(rows, self.starts)
        parts = [
            pool.fetch(rows[cuts[k] : cuts[k + 1]] - self.starts[k], columns)
            for k, pool in enumerate(self.pools)
            if cuts[k] < cuts[k + 1]
        ]
        return pa.concat_tables(parts or [self.pools[-1].fetch(rows, columns)])
