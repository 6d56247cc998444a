"""What earlier runs pruned for good, read from their decisions: the runs themselves are the memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.errors import RecipeError

PRUNED: Final = "pruned"
"""How the reason of a row begins that never comes back."""


def decision_files(run: str) -> list[Path]:
    """A run's files of decisions. Raises RecipeError where there are none."""
    found = sorted(Path(run, "lineage", "decisions").glob("*.parquet"))
    if not found:
        raise RecipeError(f"memory {run} is not the output of a run: it has no lineage/decisions")
    return found


def pruned(runs: Sequence[str], stage: str) -> pa.Array:
    """Content hashes that `stage` pruned in any of the runs, each once."""
    parts = [_pruned(file, stage) for run in runs for file in decision_files(run)]
    return pc.unique(pa.chunked_array(parts, pa.string())) if parts else pa.array([], pa.string())


def _pruned(file: Path, stage: str) -> pa.Array:
    table = pq.read_table(file, columns=["stage", "reason", "content_hash"])
    mine = pc.and_(
        pc.equal(pc.replace_substring_regex(table["stage"], "#.*", ""), stage),
        pc.starts_with(table["reason"], PRUNED),
    )
    return table.filter(mine)["content_hash"].combine_chunks().cast(pa.string())
