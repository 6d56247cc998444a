"""Other thresholds on stored scores: the same records, a changed recipe, no reading of sources."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines.extras import find_extras, open_extras
from pipelines.files import read_json
from pipelines.intake import Taken, UnitReport
from pipelines.previous import replaced_by, work_name
from pipelines.publish import check_ours, finished_manifest, locked, work_folder
from pipelines.recipe_file import override_recipe
from pipelines.run import Job, Settings, execute
from pipelines.store import Store
from schemas.errors import RecipeError, RunError
from schemas.hashing import fingerprint


def redecide(directory: Path, overrides: Sequence[str], settings: Settings, write: bool) -> dict[str, Any]:
    """Decide again about the records of a finished run, with some recipe keys changed.

    Scores come from the store; only records that reach a stage which had not seen them are scored. With `write`, the
    resulting dataset is written to `settings.out`; otherwise nothing is. Returns the manifest. What stages prefer as
    published is what `directory` holds: this is what the changed recipe would do there.

    Raises:
        RecipeError: if `directory` is no run, or an override is wrong.
        RunError: if the store no longer has the run's records.
    """
    manifest = finished_manifest(directory)
    if reads := [item for item in overrides if item.partition(".")[0].partition("=")[0].strip() == "sources"]:
        raise RecipeError(f"--set {reads[0]}: redecide reads no sources; change the recipe and run it")
    recipe = override_recipe(manifest["recipe"], overrides, Path(manifest["recipe_folder"]))
    for use in recipe.stages:
        use.stage.check()
    store = Store(Path(manifest["store"]))
    taken = [_stored(store, file) for source in manifest["sources"] for file in source["files"]]
    extras = open_extras(find_extras(recipe), store, settings.executor, settings.reporter)
    name = fingerprint({"again": manifest["run_fingerprint"], "overrides": list(overrides)})
    settings, previous = replace(settings, store=store), replaced_by(recipe, directory)
    if not write:
        with tempfile.TemporaryDirectory(prefix="curatrix-") as aside:
            job = Job(recipe, settings, name, Path(aside), settings.reporter, extras, previous)
            return execute(job, lambda: taken, write=False)
    if settings.out.resolve() == directory.resolve():
        raise RecipeError("redecide does not write over the run it starts from; choose another --out")
    check_ours(settings.out)
    with locked(settings.out):
        folder = work_folder(settings.out, work_name(name, previous))
        return execute(Job(recipe, settings, name, folder, settings.reporter, extras, previous), lambda: taken)


def _stored(store: Store, file: dict[str, Any]) -> Taken:
    folder = store.pool(file["key"])
    if not (folder / "unit.json").exists():
        raise RunError(f"the store {store.root} no longer has the records of {file['path']}; run the recipe again")
    report = UnitReport(**read_json(folder / "unit.json"))
    return Taken(report, folder, report.chunks)
