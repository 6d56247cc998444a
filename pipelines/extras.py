"""Records that stages need beside the pool (targets, evaluation sets, earlier releases), read like any source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.executor import Executor
from pipelines.intake import Taken, Unit, open_pool, source_units, take_in
from pipelines.pool import RunPool
from pipelines.progress import Reporter, Silent
from pipelines.readers.rows import TRUNCATED
from pipelines.recipe import Recipe, Source
from pipelines.store import Store
from pipelines.tombstones import bury
from schemas.errors import RecipeError

ExtraUnits = Mapping[str, Mapping[str, list[Unit]]]
"""Files by stage label and role."""


@dataclass(frozen=True)
class Extras:
    """A stage's own records by role, the keys that name their content, and the store folders that hold them."""

    pools: dict[str, RunPool]
    keys: list[str]
    folders: list[Path]


def find_extras(recipe: Recipe) -> ExtraUnits:
    """The files of every stage's `sources`. Raises RecipeError, naming the stage, where one is missing."""
    return {
        use.label: {
            role: _units(use.label, role, tuple(paths), recipe.base) for role, paths in use.stage.sources().items()
        }
        for use in recipe.stages
    }


def _units(label: str, role: str, paths: tuple[str, ...], base: Path) -> list[Unit]:
    if not paths:
        return []
    try:
        return source_units(Source(name=f"{label}.{role}", path=paths), base, None)
    except RecipeError as error:
        raise RecipeError(f"stage '{label}', {role}: {error}") from error


def read_records(name: str, paths: Sequence[str], base: Path, store: Store, executor: Executor) -> RunPool:
    """The records of some files, read as any source is. Raises RecipeError where there is not one usable record."""
    units = source_units(Source(name=name, path=tuple(paths)), base, None)
    taken = take_in(units, store, executor, Silent())
    _check(name, "files", taken, Silent())
    return open_pool(taken)


def open_extras(units: ExtraUnits, store: Store, executor: Executor, reporter: Reporter) -> dict[str, Extras]:
    """Read every stage's own records. Raises RecipeError where a role has files but not one usable record."""
    return {label: _open(label, roles, store, executor, reporter) for label, roles in units.items()}


def _open(label: str, roles: Mapping[str, list[Unit]], store: Store, executor: Executor, reporter: Reporter) -> Extras:
    extras = Extras({}, [], [])
    for role, units in roles.items():
        taken = take_in(units, store, executor, Silent())
        extras.pools[role] = open_pool(taken)
        bury(extras.pools[role], store.root)
        extras.keys.extend(unit.key for unit in units)
        extras.folders.extend(item.folder for item in taken)
        _check(label, role, taken, reporter)
    return extras


def _check(label: str, role: str, taken: list[Taken], reporter: Reporter) -> None:
    bad = sum(sum(item.report.quarantined.values()) for item in taken)
    if taken and not any(item.report.records for item in taken):
        files = ", ".join(item.report.file for item in taken[:3])
        raise RecipeError(f"stage '{label}', {role}: {files} has no usable record; `curate inspect` says why")
    for item in taken:
        if TRUNCATED in item.report.quarantined:  # an evaluation set without its second half lets half of it through
            raise RecipeError(f"stage '{label}', {role}: {item.report.file} breaks off; get the whole file")
    if bad:
        reporter.warn(f"{label}: {bad} rows of its {role} could not be read and are left out")
