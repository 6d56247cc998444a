"""Safety limits that stop a run before it publishes something wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import pyarrow.parquet as pq

from pipelines.intake import Taken
from schemas.errors import GateError

_EXAMPLES = 3


def check_quarantine(taken: Sequence[Taken], stages: Mapping[str, int], allowed: float) -> None:
    """Fail if too large a share of all rows is in quarantine.

    Args:
        taken: what ingest made of every file.
        stages: rows quarantined by stages, by kind of error.
        allowed: largest share that is acceptable.

    Raises:
        GateError: naming the kinds of error, and the first rows at fault.
    """
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


def check_losses(before: Mapping[str, int], after: Mapping[str, int], allowed: float | None) -> None:
    """Fail if a source lost a larger share of its records than the recipe allows. Raises GateError."""
    for source, rows in before.items():
        lost = rows - after.get(source, 0)
        if allowed is not None and rows and lost / rows > allowed:
            raise GateError(
                f"source '{source}' lost {lost:,} of {rows:,} records ({lost / rows:.0%}), more than max_source_loss "
                f"({allowed:.0%}); nothing was published"
            )


def _examples(taken: Sequence[Taken]) -> Iterable[str]:
    shown = 0
    for item in taken:
        for path in item.quarantine_files():
            for row in pq.read_table(path, columns=["file", "row", "line", "kind", "error"]).to_pylist():
                where = f"line {row['line']}" if row["line"] is not None else f"row {row['row']}"
                yield f"  {item.report.source}: {row['file']}, {where}: {row['error']}"
                shown += 1
                if shown == _EXAMPLES:
                    return
