"""The `curate compare` command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from pipelines.executor import LocalExecutor
from pipelines.files import write_bytes
from pipelines.progress import reporter_for_terminal
from pipelines.run import Settings
from pipelines.store import open_store
from reports.commands import print_json
from reports.documents import documents
from schemas.errors import RecipeError

if TYPE_CHECKING:
    from pipelines.comparing import Comparison
    from reports.compare import Found

EXAMPLE = "Example: `curate compare data/*.jsonl --target maths=evals/gsm8k.jsonl --keep 0.1 --out compared`"


def command(
    pool: Annotated[
        list[str], typer.Argument(metavar="POOL...", help="Files, folders or globs to choose from, also as NAME=PATH.")
    ],
    target: Annotated[list[str], typer.Option(help="What to be good at, as PATH or NAME=PATH; repeatable.")],
    out: Annotated[Path, typer.Option(help="Where everything is kept; the same command continues there.")],
    keep: Annotated[
        float | None, typer.Option(help="Budget: a share of the rows, or a number of rows from 1 on.")
    ] = None,
    tokens: Annotated[float | None, typer.Option(help="Budget in tokens (words and punctuation marks).")] = None,
    selector: Annotated[
        list[str] | None,
        typer.Option(help="random, length, dsir, zipfit, quad, ifd (all by default), a stage, a YAML of stages."),
    ] = None,
    other: Annotated[list[str] | None, typer.Option(help="Another set to watch, as PATH or NAME=PATH.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How often what chance decides is repeated.")] = 5,
    model: Annotated[Path | None, typer.Option(help="A model's folder; default: a small one, from the pool.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="E.g. `train.tokens=200000`; repeatable.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Parallel workers; default: one per core.")] = None,
    store: Annotated[Path | None, typer.Option(help="The score store.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output on stdout.")] = False,
) -> None:
    """Which selection is best for my data? Try several, train the same small model on each, and judge by its losses."""
    document = {
        "pool": named(pool), "targets": named(target), "others": named(other or []), "keep": budget(keep, tokens),
        "seeds": seeds, "model": str(model.resolve()) if model else None,
        **({"selectors": selector} if selector else {}),
    }  # fmt: skip
    from pipelines.comparing import comparison

    found = run(comparison(document, overrides or ()), out, workers, store)
    if as_json:
        print_json(found.to_dict())
        return
    from reports.compare_view import render

    Console(soft_wrap=not sys.stdout.isatty()).print(render(found), highlight=False)
    Console(stderr=True).print(f"\nwritten to {out}: comparison.json, comparison.md, comparison.svg", highlight=False)


def run(plan: Comparison, out: Path, workers: int | None = None, store: Path | None = None) -> Found:
    """Compare, write the report beside the figures, and return the verdicts (`reports.compare.Found`)."""
    # Here, not above: a command that compares nothing need not wait for scipy.
    from pipelines.comparing import compare
    from reports.compare import judge
    from reports.compare_view import markdown, plot

    opened = open_store(str(store.resolve()) if store else None, Path())
    with LocalExecutor(workers) as local:
        raw = compare(plan, Settings(out.resolve(), opened, local, reporter_for_terminal(), documents))
    found = judge(raw)
    write_bytes(out / "comparison.md", markdown(found).encode())
    write_bytes(out / "comparison.svg", plot(found).encode())
    return found


def named(given: list[str]) -> dict[str, str]:
    """Paths by name: as given before `=`, else what the file is called. Raises RecipeError for equal names."""
    found: dict[str, str] = {}
    for item in given:
        name, separator, path = item.partition("=")
        if not separator or "/" in name:
            name, path = Path(item.replace("*", "").rstrip("/")).name.split(".")[0] or "rows", item
        if name in found:
            raise RecipeError(f"two inputs are called '{name}': write NAME={path}")
        found[name] = path if "://" in path else str(Path(path).resolve())
    return found


def budget(keep: float | None, tokens: float | None) -> Any:
    """The budget as `Comparison.keep` has it: a number from 1 on counts rows. Raises RecipeError where it is none."""
    if (keep is None) == (tokens is None):
        raise RecipeError("give the budget: either --keep or --tokens")
    if keep is None:
        return {"tokens": tokens}
    if keep > 1 and keep % 1:
        raise RecipeError(f"--keep {keep}: write a share below 1 or a whole number of rows")
    return int(keep) if keep >= 1 else keep
