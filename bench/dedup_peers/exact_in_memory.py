"""Exact copies of an Arrow table in memory: ours and DuckDB's, in turn. Arguments: IN RUNS.

Neither reads or writes Parquet here, which DuckDB does faster than Arrow. Printed as JSON: seconds of wall and of
processor of the run of each that took the least processor time.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial

import duckdb
import numpy as np
import ours  # first, as in every run of ours: it chooses Arrow's memory pool
import pyarrow as pa
import pyarrow.parquet as pq


def by_curatrix(table: pa.Table) -> int:
    """Rows that are kept."""
    return int(np.count_nonzero(ours.kept(table["text"], ours.EXACT)))


def by_duckdb(function: str, table: pa.Table) -> int:
    """Rows that are kept."""
    con = duckdb.connect(config={"threads": 2})
    rows = con.sql(f'SELECT min(row) AS row FROM "table" GROUP BY {function}(text)').to_arrow_table()["row"]
    keep = np.zeros(len(table), np.bool_)
    keep[rows.to_numpy()] = True
    return int(np.count_nonzero(keep))


def main(path: str, runs: int) -> None:
    """Measure, and print."""
    table, best = pq.read_table(path), dict[str, tuple[float, float, int]]()
    tools: dict[str, Callable[[pa.Table], int]] = {
        "curatrix": by_curatrix, "duckdb, md5": partial(by_duckdb, "md5"),
        "duckdb, 64-bit hash": partial(by_duckdb, "hash"),
    }  # fmt: skip
    for name, tool in list(tools.items()) * runs:
        wall, cpu = time.perf_counter(), time.process_time()
        kept = tool(table)
        found = (time.process_time() - cpu, time.perf_counter() - wall, kept)
        best[name] = min(found, best.get(name, found))
    print(json.dumps([{"tool": name, "wall": w, "cpu": c, "kept": kept} for name, (c, w, kept) in best.items()]))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
