"""Commands that only read what a run wrote: explain, sql, funnel, status, clusters, quad, diff, report."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
import typer
from rich.console import Console

import reports
from pipelines.files import write_bytes
from pipelines.remote import fetch, is_remote

_INDENTED = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS

app = typer.Typer()
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output on stdout.")]


def here(place: str) -> Path:
    """A run's directory; a copy of it where it lies on an object store."""
    return fetch(place) if is_remote(place) else Path(place)


Directory = Annotated[
    Path,
    typer.Argument(
        metavar="DIR", help="A directory (or fsspec URL) that `curate run` wrote.", show_default=False, parser=here
    ),
]


@app.command(epilog="Example: `curate explain sft 3f2a` (any unique start of a record_id, or a source_id)")
def explain(
    directory: Directory, record: Annotated[str, typer.Argument(metavar="RECORD_ID")], as_json: Json = False
) -> None:
    """Tell a record's whole story: where it came from, every decision about it, its twin, its rewrites."""
    either(as_json, *reports.explain(directory, record))


@app.command(epilog='Example: `curate sql sft "SELECT reason, count(*) FROM decisions WHERE NOT keep GROUP BY ALL"`')
def sql(
    directory: Directory,
    query: Annotated[
        str,
        typer.Argument(help="A DuckDB query over: records, decisions, funnel, why, quarantine, rewrites, scores_*."),
    ],
    format: Annotated[
        Literal["table", "csv", "json", "parquet"], typer.Option("--format", "-f", help="Output format.")
    ] = "table",
) -> None:
    """Query a run with DuckDB, read-only."""
    result = reports.query(directory, query)
    if format == "table":
        show(reports.to_table(result))
    else:
        writers: dict[str, Callable[[Any], bytes]] = {
            "csv": reports.to_csv, "json": reports.to_jsonl, "parquet": reports.to_parquet
        }  # fmt: skip
        sys.stdout.buffer.write(writers[format](result))


@app.command(epilog="Example: `curate funnel sft`")
def funnel(directory: Directory, as_json: Json = False) -> None:
    """Show rows in, kept, dropped and quarantined, per stage and per source."""
    either(as_json, reports.funnel(directory), reports.funnel_view(directory))


@app.command(epilog="Example: `curate status sft` (while it runs, or after it died)")
def status(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The --out of a run.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Say how far a run is: running, failed, died or finished; which step, how long, what is left."""
    found = reports.status(directory)
    either(as_json, found, reports.status_view(found))


@app.command(epilog="Example: `curate clusters sft --limit 10`")
def clusters(
    directory: Directory,
    stage: Annotated[str | None, typer.Option(help="A dedup stage, e.g. `dedup#2`; default: every one.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Clusters and pairs to show of each kind.")] = 5,
    as_json: Json = False,
) -> None:
    """Judge a dedup threshold by eye: largest clusters, least similar pairs removed, most similar pairs kept."""
    either(as_json, *reports.clusters(directory, stage, limit))


@app.command(epilog="Example: `curate quad sft --map map.svg`")
def quad(
    directory: Directory,
    stage: Annotated[str | None, typer.Option(help="A quad stage, e.g. `quad#2`; default: the only one.")] = None,
    map: Annotated[Path | None, typer.Option(help="Also write a map of the pool, as SVG.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Clusters to show.")] = 20,
    as_json: Json = False,
) -> None:
    """Show what `quad` made of the pool: clusters with size, influence, draws, share taken, three examples."""
    found, view, picture = reports.quad(directory, stage, limit)
    if map is not None:
        write_bytes(map, picture.encode())
    either(as_json, found, view)


@app.command(epilog="Example: `curate diff sft-monday sft-tuesday`")
def diff(
    first: Annotated[Path, typer.Argument(metavar="DIR_A", parser=here)],
    second: Annotated[Path, typer.Argument(metavar="DIR_B", parser=here)],
    as_json: Json = False,
) -> None:
    """Compare two runs: rows added, removed, changed; decisions and parameters that differ."""
    either(as_json, *reports.diff(first, second))


@app.command(epilog="Example: `curate report sft` writes sft/report.html anew")
def report(directory: Directory) -> None:
    """Write report.html anew and print its path."""
    print(reports.write_report(directory))


def either(as_json: bool, data: Any, view: Any) -> None:
    """Print data as JSON, or its view."""
    print_json(data) if as_json else show(view)


def show(view: Any) -> None:
    """Print a rich renderable on stdout."""
    Console(soft_wrap=not sys.stdout.isatty()).print(view, highlight=False)


def print_json(value: Any) -> None:
    """Print plain values as indented JSON on stdout."""
    sys.stdout.write(orjson.dumps(value, default=str, option=_INDENTED).decode() + "\n")  # NaN is null
