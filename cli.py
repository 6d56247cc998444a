"""The `curate` command. Thin: it reads arguments, calls the packages, prints results to stdout, the rest to stderr."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

import reports
from pipelines import inspection
from pipelines.demo import DEMO_OUT, write_example
from pipelines.executor import LocalExecutor
from pipelines.executors import ExecutorName, open_executor
from pipelines.exporting import explained, export_run
from pipelines.extras import read_records
from pipelines.files import write_bytes
from pipelines.forget import Removal, stores_of
from pipelines.forget import forget as remove
from pipelines.formats import NAMES
from pipelines.formats.chat_mask import Unstable
from pipelines.plan import plan as make_plan
from pipelines.progress import reporter_for_terminal
from pipelines.recipe_file import load_recipe
from pipelines.redecide import redecide as decide_again
from pipelines.registry import stage_class, stage_names
from pipelines.remote import folder_for, is_remote, upload
from pipelines.run import Settings
from pipelines.run import run as run_recipe
from pipelines.store import Store, open_store, store_root
from pipelines.telemetry import observed
from pipelines.tombstones import read_tombstones
from reports import compare_command
from reports.commands import Directory, Json, either, print_json, show
from reports.commands import app as reading
from schemas.errors import CuratrixError, RecipeError
from stages.text import On

app = typer.Typer(
    name="curate", no_args_is_help=True, rich_markup_mode="markdown", pretty_exceptions_enable=False,
    help="Turn raw LLM training data into a dataset that can say for every row why it is in or out.",
    epilog="Start with `curate demo`, then `curate inspect FILE` on your own data.",
)  # fmt: skip
store_app = typer.Typer(
    no_args_is_help=True, help="The score store: what it holds, and freeing what is no longer used."
)
app.add_typer(store_app, name="store")
app.add_typer(reading)

Recipe = Annotated[Path, typer.Argument(help="The recipe, a YAML file.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a recipe key, e.g. `stages.dedup.threshold=0.7`; repeatable."
    ),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Read only the first N rows of every file.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Parallel workers; default: one per core.")]
Where = Annotated[
    ExecutorName, typer.Option(help="This machine, or the Ray cluster at RAY_ADDRESS (else a Ray of this machine).")
]
StorePath = Annotated[
    Path | None, typer.Option("--store", help="The score store; default: CURATRIX_STORE or the user cache.")
]


@app.command(
    epilog="Examples: `curate run recipe.yaml` · `curate run recipe.yaml --out sft --set stages.dedup.threshold=0.7`"
)
def run(
    recipe: Recipe,
    out: Annotated[
        str | None, typer.Option(help="Output directory or fsspec URL; default: the recipe's name beside it.")
    ] = None,
    overrides: Overrides = None,
    limit: Limit = None,
    workers: Workers = None,
    executor: Where = "local",
    as_json: Json = False,
) -> None:
    """Run a recipe. An interrupted run continues where it stopped; a finished one is not repeated."""
    loaded = load_recipe(recipe, overrides or ())
    place = out or str(Path(loaded.base, loaded.name))
    store = open_store(loaded.store, loaded.base)
    target = folder_for(place, store.root)
    manifest = _run(loaded, store, target, limit, workers, executor, place)
    if is_remote(place):
        upload(target, place, reporter_for_terminal())
    if as_json:
        print_json(manifest)
    else:
        show(reports.funnel_view(target))
        Console(stderr=True).print(
            f'\nwritten to {place}; next: curate sql {place} "FROM why LIMIT 5"', highlight=False, markup=False
        )


def _run(
    recipe: Any,
    store: Store,
    target: Path,
    limit: int | None = None,
    workers: int | None = None,
    executor: ExecutorName = "local",
    place: str = "",
) -> dict[str, Any]:
    with open_executor(executor, workers) as chosen:
        reporter = observed(reporter_for_terminal())
        settings = Settings(target, store, chosen, reporter, reports.documents, limit, place=place)
        return run_recipe(recipe, settings)


@app.command(epilog="Example: `curate plan recipe.yaml --limit 1000`")
def plan(recipe: Recipe, overrides: Overrides = None, limit: Limit = None, as_json: Json = False) -> None:
    """Say what a run would do: files, what is cached, row estimates. Touches nothing."""
    loaded = load_recipe(recipe, overrides or ())
    result = make_plan(loaded, Store(store_root(loaded.store, loaded.base)), limit)
    print_json(result) if as_json else show(reports.plan_view(result))


@app.command(epilog="Example: `curate redecide sft --set stages.dedup.threshold=0.7`")
def redecide(
    directory: Directory,
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="Also write the dataset that results.")] = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Try other thresholds on stored scores. Nothing is scored anew; DIR stays as it is."""
    with LocalExecutor(workers) as local:
        settings = Settings(out or Path(), Store(Path()), local, reporter_for_terminal(), reports.documents)
        manifest = decide_again(directory, overrides or (), settings, write=out is not None)
    print_json(manifest) if as_json else show(reports.manifest_view(manifest))


@app.command(epilog="Example: `curate demo --out demo-out`")
def demo(
    out: Annotated[Path, typer.Option(help="Where to write the example and its result.")] = DEMO_OUT,
    as_json: Json = False,
) -> None:
    """Curate the shipped example, offline: several wild formats, planted duplicates, weak tests, broken rows."""
    recipe = write_example(out / "example")
    target = out / "dataset"
    loaded = load_recipe(recipe)
    manifest = _run(loaded, open_store(loaded.store, loaded.base), target)
    if as_json:
        print_json(manifest)
    else:
        show(reports.demo_view(target))


@app.command(epilog="Example: `curate inspect data/leetcode.jsonl.gz`")
def inspect(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file, folder or glob.")],
    rows: Annotated[int, typer.Option(min=1, help="Rows to look at.")] = 1000,
    format: Annotated[str, typer.Option(help="File format, if detection is wrong.")] = "auto",
    adapter: Annotated[str, typer.Option(help="Adapter, if detection is wrong.")] = "auto",
    as_json: Json = False,
) -> None:
    """Say what a file is and why, how its fields map, show its first rows and its problems."""
    found = inspection.inspect(file, rows, format, adapter)
    print_json(found) if as_json else show(reports.inspection_view(found))


@app.command(epilog="Example: `curate stages dedup`")
def stages(
    name: Annotated[str | None, typer.Argument(help="One stage, with its parameters.")] = None, as_json: Json = False
) -> None:
    """List the stages a recipe may use, or the parameters of one."""
    chosen = [stage_class(item) for item in ([name] if name else stage_names())]
    found = [inspection.describe_stage(item) for item in chosen]
    print_json(found) if as_json else show(reports.stages_view(found, detailed=name is not None))


@app.command(epilog="Example: `curate export sft --to verl --out sft-verl`")
def export(
    directory: Directory,
    to: Annotated[str, typer.Option(help=f"The shape: {', '.join(NAMES)}.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Where to write; only an earlier export is replaced.", show_default=False)],
    strict: Annotated[bool, typer.Option("--strict", help="Fail if any row cannot be told in this shape.")] = False,
    lines: Annotated[bool, typer.Option("--lines", help="Write JSONL in place of Parquet.")] = False,
    tokenizer: Annotated[Path | None, typer.Option(help="A tokenizer's folder, for token shards.")] = None,
    when_unstable: Annotated[
        Unstable, typer.Option(help="For chat templates that tell earlier turns differently later.")
    ] = "error",
    as_json: Json = False,
) -> None:
    """Write a run's data in the shape that a trainer reads. Rows that cannot be told in it are counted by reason."""
    result = export_run(directory, to, out, strict, lines=lines, tokenizer=tokenizer, when_unstable=when_unstable)
    for line in explained(result):
        print(line, file=sys.stderr)
    print_json(result) if as_json else print(f"{out}: {result['rows']:,} of {result['rows_in']:,} rows as {to}")


@app.command(
    epilog="Examples: `curate publish sft --to s3://bucket/sft` · `curate publish sft --to hf://datasets/me/x`"
)
def publish(
    directory: Directory,
    to: Annotated[str, typer.Option(help="An fsspec URL: s3://, gs://, hf://datasets/OWNER/NAME, file://.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be sent.")] = False,
    as_json: Json = False,
) -> None:
    """Publish a finished run on an object store or the hub: readers see all of it or nothing."""
    result = upload(directory, to, reporter_for_terminal(), dry_run)
    either(as_json, {**asdict(result), "known": sorted(result.known)}, reports.upload_view(asdict(result), dry_run))


@app.command(
    epilog="Examples: `curate forget sft --id 3f2a` · `curate forget sft sft-2 --match \"text ILIKE '%jo@x.org%'\"`"
)
def forget(
    directories: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Runs to remove records from.")],
    record: Annotated[list[str] | None, typer.Option("--id", help="A record_id or source_id; repeatable.")] = None,
    match: Annotated[str | None, typer.Option(help="A SQL condition on record columns.")] = None,
    reason: Annotated[str, typer.Option(help="Why; it is written down.")] = "asked to be removed",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many contents are meant.")] = False,
    store: Annotated[
        Path | None, typer.Option("--store", help="The score store; default: those that the runs were made with.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Remove records for good: from runs, the store, its journals, and every later run. What went is written down."""
    stores = [_store_there(store)] if store else stores_of(directories)
    hashes = reports.contents_meant(directories, record or [], match, [one.root for one in stores])
    if dry_run or not (hashes or any(read_tombstones(one.root) for one in stores)):
        result: dict[str, Any] = {"contents": len(hashes), "removed": None}
    else:
        result = {"contents": len(hashes)}
        result["removed"] = asdict(remove(Removal(hashes, reason), directories, stores, reports.documents))
    either(as_json, result, reports.forgotten_view(result))


@app.command(
    name="check-target", epilog="Example: `curate check-target evals/target.jsonl --pool data/*.jsonl --plot t.svg`"
)
def check_target(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="File, folder or glob of target rows.")],
    pool: Annotated[list[str], typer.Option(help="File, folder or glob of the rows to choose from; repeatable.")],
    on: Annotated[On, typer.Option(help="What is compared.")] = "text",
    sample: Annotated[int, typer.Option(min=100, help="Rows of the pool to look at.")] = 5000,
    seed: int = 0,
    plot: Annotated[Path | None, typer.Option(help="Also write the plot, as SVG.")] = None,
    as_json: Json = False,
) -> None:
    """Is this target set good? Needle test, size, leakage, redundancy; a recommendation of mode."""
    store = open_store(None, Path())
    with LocalExecutor() as local:
        wanted = read_records("target", [target], Path.cwd(), store, local)
        rows = read_records("pool", pool, Path.cwd(), store, local)
    found, view, picture = reports.check_target(rows, wanted, on, seed, sample)
    if plot is not None:
        write_bytes(plot, picture.encode())
    either(as_json, found, view)


app.command("compare", epilog=compare_command.EXAMPLE)(compare_command.command)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check what is installed and what works here, and say how to mend the rest."""
    either(as_json, *reports.doctor())


@store_app.command("ls", epilog="Example: `curate store ls`")
def store_ls(store: StorePath = None, as_json: Json = False) -> None:
    """Show sizes per stage and when each was last used."""
    opened = _store_there(store)
    found = reports.store_entries(str(opened.root), opened.entries())
    print_json(found) if as_json else show(reports.store_view(found))


@store_app.command("gc", epilog="Example: `curate store gc --days 30 --dry-run`")
def store_gc(
    days: Annotated[float, typer.Option(min=0, help="Keep what runs of the last N days used.")] = 30,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    store: StorePath = None,
    as_json: Json = False,
) -> None:
    """Free what no run of the last N days used."""
    opened = _store_there(store)
    found = reports.store_entries(str(opened.root), opened.collect(days, dry_run))
    print_json(found) if as_json else show(reports.store_view(found, "would free" if dry_run else "freed"))


def _store_there(store: Path | None) -> Store:
    if store is not None and not store.is_dir():
        raise RecipeError(f"--store {store}: there is no such folder")
    return Store(store.resolve() if store else store_root(None, Path()))


def main() -> None:
    """Entry point: runs the command; errors become one clear message and the documented exit status."""
    try:
        app()
    except CuratrixError as error:
        Console(stderr=True, soft_wrap=True).print(f"[bold red]error:[/] {_plain(error)}", highlight=False)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        print("\ninterrupted; run the same command again to continue", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        sys.exit(1)


def _plain(error: Exception) -> str:
    from rich.markup import escape

    return escape(str(error))


if __name__ == "__main__":
    main()
