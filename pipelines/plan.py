"""What a run would do: which files, what is cached, how many rows. Touches nothing."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

from pipelines.extras import find_extras
from pipelines.intake import Unit, find_units, stored_report
from pipelines.readers import decode, read_chunks, sniff
from pipelines.recipe import Recipe, StageUse
from pipelines.sampling import sample_records
from pipelines.score_run import score_fingerprint, stage_scores
from pipelines.store import Store
from stages.contract import Stage

_SAMPLE_BYTES = 1 << 20
_SAMPLE_ROWS = 200


def plan(recipe: Recipe, store: Store, limit: int | None = None) -> dict[str, Any]:
    """Sources with their files, and stages in order, as plain values.

    Rows are exact for files already in the store and estimated from the first megabyte of the others. Raises
    RecipeError for whatever would stop the run before it starts.
    """
    for use in recipe.stages:
        use.stage.check()
    units = find_units(recipe, limit)
    find_extras(recipe)
    files = [_file(unit, store) for unit in units]
    rows = sum(file["rows"] for file in files)
    return {
        "name": recipe.name, "store": str(store.root), "files": files,
        "rows": rows, "cached_files": sum(file["cached"] for file in files),
        "stages": [_stage(use, store, recipe.stages[:index]) for index, use in enumerate(recipe.stages)],
        "estimates": _estimates(recipe, units, rows),
        "export": recipe.export.model_dump(mode="json"),
    }  # fmt: skip


def _estimates(recipe: Recipe, units: Sequence[Unit], rows: int) -> dict[str, dict[str, str]]:
    """What costly stages say they would cost, by label, if every row reached them."""
    costly = [use for use in recipe.stages if type(use.stage).estimate is not Stage.estimate]
    sample = sample_records(units, _SAMPLE_ROWS) if costly else None
    return {
        use.label: dict(use.stage.estimate(sample.select(list(use.stage.reads)), rows))
        for use in costly
        if sample is not None and sample.num_rows
    }


def _file(unit: Unit, store: Store) -> dict[str, Any]:
    report = stored_report(unit, store)
    rows = report.records if report is not None else _estimate(unit)
    return {
        "source": unit.source.name, "file": unit.path, "bytes": unit.bytes, "cached": report is not None,
        "rows": rows, "exact": report is not None, "format": report.format if report is not None else None,
    }  # fmt: skip


def _estimate(unit: Unit) -> int:
    """Rows of the first chunk, scaled by the bytes they took; the file's own size bounds what is read."""
    if unit.file is None:
        return unit.limit or 0
    sniffed = sniff(unit.file.url, unit.source.format)
    chunk = next(iter(read_chunks(unit.file.url, sniffed, chunk_bytes=_SAMPLE_BYTES)), None)
    if chunk is None:
        return 0
    rows = list(islice(decode(chunk), 10_000))
    taken = sum(len(row.raw) for row in rows) or 1
    expansion = 1.0 if sniffed.compression is None else 3.0  # typical of gzip and zstd on text
    estimate = (
        max(len(rows), round(len(rows) * unit.bytes * expansion / taken)) if taken >= _SAMPLE_BYTES // 2 else len(rows)
    )
    return min(estimate, unit.limit) if unit.limit is not None else estimate


def _stage(use: StageUse, store: Store, before: Sequence[StageUse]) -> dict[str, Any]:
    """A stage and the scores the store already has for it; unknown (None) while its fit is not known."""
    known: int | None = 0
    if use.stage.fits_on() != "nothing":
        known = None
    elif stage_scores(use.stage):
        known = len(store.scores(use.stage.name, score_fingerprint(use.stage, b"")))
    return {
        "stage": use.label, "position": use.position, "parameters": use.stage.model_dump(mode="json"),
        "scores_stored": known, "sees_rewritten": any(earlier.stage.rewrites for earlier in before),
    }  # fmt: skip
