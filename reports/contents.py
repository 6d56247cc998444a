"""Finding contents by record id or by a condition, in runs and in everything the store keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
from rich.console import Group, RenderableType
from rich.text import Text

from reports.catalog import Catalog, connect
from reports.gate import only_reads
from schemas.errors import RecipeError
from schemas.lineage import DATA


def contents_meant(
    directories: Sequence[Path], records: Sequence[str], condition: str | None, stores: Sequence[Path]
) -> frozenset[str]:
    """Hashes of every content of some records (each in at least one of the runs), and of what a condition matches in
    the stores and in the runs' data.

    Raises RecipeError if neither is given, or a record is in none of the runs.
    """
    if not records and condition is None:
        raise RecipeError("say what to forget: --id RECORD_ID, or --match with a SQL condition")
    found = [contents_where(place, condition) for place in (*stores, *directories)] if condition is not None else []
    return frozenset[str]().union(*found, *(_anywhere(directories, record) for record in records))


def forgotten_view(result: Mapping[str, Any]) -> RenderableType:
    """What `curate forget` shows."""
    contents, removed = f"{result['contents']:,} contents", result["removed"]
    if removed is None:
        return Text(f"{contents} are meant; nothing was removed")
    rows = [Text(f"{directory}: {rows:,} rows of the dataset") for directory, rows in removed["datasets"].items()]
    kept = f"{removed['records']:,} records, {removed['scores']:,} scores, {removed['replies']:,} replies"
    return Group(Text(f"{contents} removed"), *rows, Text(f"stores: {kept}"))


def _anywhere(directories: Sequence[Path], record: str) -> frozenset[str]:
    found, problems = frozenset[str](), list[str]()
    for directory in directories:
        try:
            found |= contents_of_record(directory, record)
        except RecipeError as error:
            problems.append(str(error))
    if not found:
        raise RecipeError("; ".join(problems))
    return found


def contents_of_record(directory: Path, record: str) -> frozenset[str]:
    """Hashes of every content that a record had at any stage; `record` is a unique start of its id, or its source id.

    Raises RecipeError where no record, or more than one, is meant.
    """
    with connect(directory) as catalog:
        ids = _ids(catalog, record)
        if len(ids) != 1:
            found = f"{len(ids)} records" if ids else "no record"
            raise RecipeError(f"{directory}: '{record}' means {found}; give a longer start of one record_id")
        query = "SELECT content_hash FROM decisions WHERE record_id = $id UNION SELECT content_hash FROM records WHERE"
        rows = catalog.sql(f"{query} record_id = $id", {"id": ids[0]}).fetchall()
    return frozenset(row[0] for row in rows)


def _ids(catalog: Catalog, record: str) -> list[str]:
    everybody = "(SELECT record_id, source_id FROM decisions UNION SELECT record_id, source_id FROM records)"
    query = f"SELECT DISTINCT record_id FROM {everybody} WHERE starts_with(record_id, ?) OR source_id = ? LIMIT 3"
    return [row[0] for row in catalog.sql(query, [record.lower(), record]).fetchall()]


def contents_where(place: Path, condition: str) -> frozenset[str]:
    """Hashes of every content of a store, or of a run's data, for which a SQL condition on record columns holds, e.g.
    `text ILIKE '%@x.org%'`.

    Raises RecipeError for a condition that is none.
    """
    files = _parts(place)
    if not files:
        return frozenset()
    connection = duckdb.connect(config={"enable_external_access": True})
    connection.read_parquet(files).create_view("records")
    query = f"SELECT DISTINCT content_hash FROM records WHERE ({condition})"
    try:
        only_reads(connection, query)
        return frozenset(row[0] for row in connection.sql(query).fetchall())
    except duckdb.Error as error:
        raise RecipeError(f"--match: {str(error).splitlines()[0]}") from error
    finally:
        connection.close()


def _parts(place: Path) -> Sequence[str]:
    patterns = ("pool/*/part-*.parquet", "derived/*/*.parquet", f"{DATA}/*.parquet")
    return [str(path) for pattern in patterns for path in sorted(place.glob(pattern))]
