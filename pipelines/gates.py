"""Safety limits that stop a run before it publishes something wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipelines.intake import Taken
from pipelines.readers.rows import TRUNCATED
from schemas.errors import GateError

_EXAMPLES = 3


def check_quarantine(taken: Sequence[Taken], stages: Mapping[str, int], allowed: float) -> None:
    """Fail if too large a share of all rows is in quarantine, or if nobody knows how large it is.

    A file that breaks off has one row in quarantine for all that is lost: no share is small enough for it, but 1 is.

    Args:
        taken: what ingest made of every file.
        stages: rows quarantined by stages, by kind of error.
        allowed: largest share that is acceptable.

    Raises:
        GateError: naming the kinds of error, and the first rows at fault.
    """
    _check_whole(taken, allowed)
    records = sum(item.report.records for item in taken)
    kinds = Counter(stages)
    for item in taken:
        kinds.update(item.report.quarantined)
    ingest_bad = sum(sum(item.report.quarantined.values()) for item in taken)
    bad, rows = sum(kinds.values()), records + ingest_bad
    if not rows or bad / rows <= allowed:
        return
    listed = ", ".join(f"{kind} {count:,}" for kind, count in sorted(kinds.items(), key=lambda item: -item[1]))
    raise GateError(
        f"{bad:,} of {rows:,} rows ({bad / rows:.1%}) are in quarantine, more than max_quarantine ({allowed:.1%}): "
        f"{listed}.\n" + "\n".join(_examples(taken)) + "\nMend the source, map its columns (`mapping:`), or raise "
        "max_quarantine. `curate inspect FILE` shows the problems of one file."
    )


def _check_whole(taken: Sequence[Taken], allowed: float) -> None:
    """Fail if a file breaks off, unless everything is allowed. Raises GateError."""
    cut = [item for item in taken if TRUNCATED in item.report.quarantined]
    if not cut or allowed >= 1:
        return
    more = f"\n  and {len(cut) - _EXAMPLES:,} more files" if len(cut) > _EXAMPLES else ""
    raise GateError(
        f"{len(cut):,} of {len(taken):,} files can only be read in part, and how many rows are lost is unknown:\n"
        + "\n".join(line for item in cut[:_EXAMPLES] for line in islice(_examples([item], TRUNCATED), 1)) + more
        + "\nMend or replace the file, or take what can be read of it with `max_quarantine: 1`."
    )  # fmt: skip


def check_losses(before: Mapping[str, int], after: Mapping[str, int], allowed: float | None) -> None:
    """Fail if a source lost a larger share of its records than the recipe allows. Raises GateError."""
    for source, rows in before.items():
        lost = rows - after.get(source, 0)
        if allowed is not None and rows and lost / rows > allowed:
            raise GateError(
                f"source '{source}' lost {lost:,} of {rows:,} records ({lost / rows:.0%}), more than max_source_loss "
                f"({allowed:.0%}); nothing was published"
            )


def _examples(taken: Sequence[Taken], kind: str | None = None) -> Iterator[str]:
    """The first rows in quarantine; of one kind, where it is given."""
    rows = (row for item in taken for path in item.quarantine_files() for row in _rows(path, kind))
    for row in islice(rows, _EXAMPLES):
        where = f"line {row['line']}" if row["line"] is not None else f"row {row['row']}"
        yield f"  {row['source']}: {row['file']}, {where}: {row['error']}"


def _rows(path: Path, kind: str | None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(
        path, columns=["source", "file", "row", "line", "error"], filters=[("kind", "==", kind)] if kind else None
    ).to_pylist()
    return found
