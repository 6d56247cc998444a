"""What is new: the records of a run whose content the run it replaces did not have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pipelines.executor import Executor
from pipelines.export import plan_export, planned_rows, write_data
from pipelines.ids import Ids, Index, from_hex, join
from pipelines.pool import RunPool
from pipelines.publish import current_manifest
from pipelines.recipe import Recipe
from schemas.lineage import DATA, DELTA


def write_delta(pool: RunPool, recipe: Recipe, out: Path, folder: Path, executor: Executor) -> dict[str, Any]:
    """Write `delta/` beside `data/`, in the same shape; returns its rows per split and the run it starts from.

    Everything is new where `out` holds no finished run.
    """
    before = current_manifest(out)
    rows = pool.global_rows()
    new = Index(_contents(out) if before else join([])).find(pool.content_hashes[rows]) < 0
    plan = plan_export(pool, rows[np.asarray(new)], recipe.export, recipe.seed, folder / DELTA)
    for _ in write_data(plan, folder / DELTA, executor):
        pass
    return {"splits": planned_rows(plan), "since": before["run_fingerprint"] if before else None}


def _contents(out: Path) -> Ids:
    files = sorted((out / DATA).glob("*.parquet"))
    return join([from_hex(pq.read_table(path, columns=["content_hash"])["content_hash"]) for path in files])
