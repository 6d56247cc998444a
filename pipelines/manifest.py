"""The manifest: what a run was made of and what became of every row. Written last; a run without one is not done."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipelines.files import file_digest
from pipelines.intake import Taken
from pipelines.recipe import Recipe
from pipelines.stage_run import StageOutcome

_LIBRARIES = ("pyarrow", "numpy", "datasketch", "duckdb", "datasets", "orjson", "tokenizers", "numba")


def versions() -> dict[str, Any]:
    """Versions of Curatrix, Python and the libraries that may change what a run writes."""
    libs = {name: found for name in _LIBRARIES if (found := _version(name))}
    return {"curatrix": _version("curatrix"), "python": platform.python_version(), "libs": libs}


def source_entries(recipe: Recipe, taken: Sequence[Taken]) -> list[dict[str, Any]]:
    """Per source: its files with format, adapter, rows read, records made (`rows`) and digests."""
    entries = []
    for source in recipe.sources:
        files = [_file_entry(item) for item in taken if item.report.source == source.name]
        entries.append(
            {
                "name": source.name, "licence": source.licence, "files": files,
                "rows": sum(file["rows"] for file in files), "rows_read": sum(file["rows_read"] for file in files),
                "quarantined": sum(file["quarantined"] for file in files),
            }
        )  # fmt: skip
    return entries


def _file_entry(item: Taken) -> dict[str, Any]:
    report = item.report
    return {
        "path": report.file, "bytes": report.bytes, "digest": report.digest, "format": report.format,
        "adapter": report.adapter, "key": item.folder.name, "rows_read": report.rows, "rows": report.records,
        "quarantined": sum(report.quarantined.values()),
    }  # fmt: skip


def stage_entry(outcome: StageOutcome, params: dict[str, Any], seconds: float) -> dict[str, Any]:
    """One stage's line of the funnel."""
    return {
        "stage": outcome.label, "position": outcome.position, "params": params, "fingerprint": outcome.fingerprint,
        "rows_in": outcome.rows_in, "kept": outcome.kept, "dropped": sum(outcome.reasons.values()),
        "quarantined": sum(outcome.quarantined.values()), "reasons": outcome.reasons, "by_source": outcome.by_source,
        "warnings": outcome.warnings, "seconds": round(seconds, 3),
        "counters": {
            "scored": outcome.counters.scored, "cached": outcome.counters.cached, "decided": outcome.counters.decided,
        },
    }  # fmt: skip


def file_entries(folder: Path) -> list[dict[str, Any]]:
    """Every Parquet file of the output with its rows, size and digest, in path order."""
    return [
        {
            "path": str(path.relative_to(folder)), "rows": pq.read_metadata(path).num_rows,
            "bytes": path.stat().st_size, "digest": file_digest(path),
        }
        for path in sorted(folder.rglob("*.parquet"))
    ]  # fmt: skip


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
