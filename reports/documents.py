"""The files that describe a run and lie beside its data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from pipelines.files import write_bytes
from reports.card import card
from reports.catalog import catalog_sql
from reports.html import html
from reports.manifest import parse, run_dir
from reports.records import stored
from schemas.lineage import MANIFEST


def documents(folder: Path, manifest: Mapping[str, Any]) -> dict[str, bytes]:
    """README.md, catalog.sql and report.html of a run whose Parquet files are in `folder`, by file name.

    Raises RunError if the manifest does not fit its model.
    """
    return {
        "README.md": card(manifest).encode(),
        "catalog.sql": catalog_sql(folder, manifest).encode(),
        "report.html": html(folder, manifest, stored(parse(manifest))).encode(),
    }


def write_report(directory: Path) -> Path:
    """Write report.html of a finished run anew and return its path. Raises RecipeError if `directory` is no run."""
    root = run_dir(directory)
    manifest = orjson.loads((root / MANIFEST).read_bytes())
    path = root / "report.html"
    write_bytes(path, html(root, manifest, stored(parse(manifest))).encode())
    return path
