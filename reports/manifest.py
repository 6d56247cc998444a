"""A run's manifest as a typed model, and how to find a run directory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipelines.readers.rows import TRUNCATED
from schemas.errors import RecipeError, RunError, nearest
from schemas.lineage import INGEST, MANIFEST


class _Part(BaseModel):
    # A newer writer may add keys; a reader of an old run must not mind those that are missing.
    model_config = ConfigDict(frozen=True, extra="ignore")


class FileEntry(_Part):
    """A file read (source) or written (data). `rows` are the good ones, `quarantined` come on top."""

    path: str
    rows: int = 0
    quarantined: int = 0
    bytes: int = 0
    format: str | None = None
    adapter: str | None = None
    digest: str | None = None
    key: str | None = None  # of a source file in the store


class SourceEntry(_Part):
    """One source of the recipe with the files it was read from."""

    name: str
    files: tuple[FileEntry, ...] = ()
    rows: int = 0
    licence: str | None = None

    @property
    def quarantined(self) -> int:
        """Rows of all files that could not become a record."""
        return sum(file.quarantined for file in self.files)


class Counts(_Part):
    """What happened to some rows: `rows_in == kept + dropped + quarantined`."""

    rows_in: int = 0
    kept: int = 0
    dropped: int = 0
    quarantined: int = 0

    @property
    def balanced(self) -> bool:
        """Whether every row is accounted for."""
        return self.rows_in == self.kept + self.dropped + self.quarantined


class StageEntry(Counts):
    """One stage of the run with its parameters, outcome and cost."""

    stage: str
    position: int
    params: dict[str, Any] = Field(default_factory=dict)
    reasons: dict[str, int] = Field(default_factory=dict)
    by_source: dict[str, Counts] = Field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    counters: dict[str, int | float] = Field(default_factory=dict)
    seconds: float = 0.0


class CreatedWith(_Part):
    """Versions that made the run."""

    curatrix: str = ""
    python: str = ""
    libs: dict[str, str] = Field(default_factory=dict)


class QuarantineEntry(_Part):
    """Rows set aside, by kind of problem."""

    rows: int = 0
    by_kind: dict[str, int] = Field(default_factory=dict)


class Manifest(_Part):
    """`manifest.json` of a run."""

    name: str = ""
    seed: int = 0
    store: str | None = None
    recipe: dict[str, Any] = Field(default_factory=dict)
    run_fingerprint: str = ""
    created_with: CreatedWith = CreatedWith()
    sources: tuple[SourceEntry, ...] = ()
    stages: tuple[StageEntry, ...] = ()
    splits: dict[str, int] = Field(default_factory=dict)
    files: tuple[FileEntry, ...] = ()
    quarantine: QuarantineEntry = QuarantineEntry()
    timings: dict[str, Any] = Field(default_factory=dict)

    @property
    def rows_out(self) -> int:
        """Rows in the dataset, all splits together."""
        return sum(self.splits.values())

    @property
    def truncated(self) -> int:
        """Damaged places in source files, behind which an unknown number of rows is lost."""
        return self.quarantine.by_kind.get(TRUNCATED, 0)

    def steps(self) -> tuple[StageEntry, ...]:
        """All stages in order, with ingest at position 0 even where the writer left it out."""
        ordered = tuple(sorted(self.stages, key=lambda stage: stage.position))
        if any(stage.stage == INGEST for stage in ordered):
            return ordered
        return (_ingest(self.sources), *ordered)

    def find_stage(self, name: str) -> StageEntry | None:
        """The stage of that name, if the run has it."""
        return next((stage for stage in self.stages if stage.stage == name), None)


def _ingest(sources: tuple[SourceEntry, ...]) -> StageEntry:
    """The step that turned source rows into records, from what each source counted."""
    by_source = {
        source.name: Counts(
            rows_in=source.rows + source.quarantined, kept=source.rows, dropped=0, quarantined=source.quarantined
        )
        for source in sources
    }
    return StageEntry(
        stage=INGEST,
        position=0,
        rows_in=sum(counts.rows_in for counts in by_source.values()),
        kept=sum(counts.kept for counts in by_source.values()),
        quarantined=sum(counts.quarantined for counts in by_source.values()),
        by_source=by_source,
    )


def parse(manifest: Mapping[str, Any]) -> Manifest:
    """The model of a manifest dict. Raises RunError naming the key that does not fit."""
    try:
        return Manifest.model_validate(manifest)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RunError(f"manifest.json: {where}: {first['msg']}") from error


def load(directory: Path) -> Manifest:
    """The manifest of a run directory. Raises RecipeError if it is none, RunError if the file is damaged."""
    path = run_dir(directory) / MANIFEST
    try:
        content = orjson.loads(path.read_bytes())
    except ValueError as error:
        raise RunError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise RunError(f"{path}: a manifest is a JSON object")
    return parse(content)


def run_dir(directory: Path) -> Path:
    """The absolute path of a finished run. Raises RecipeError, naming the nearest run, if `directory` is none."""
    if (directory / MANIFEST).is_file():
        return directory.resolve()
    problem = (
        f"{directory} is not a finished run (no {MANIFEST})" if directory.is_dir() else f"{directory}: no such run"
    )
    runs = {str(path) for path in _runs_near(directory)}
    raise RecipeError(f"{problem}; {nearest(str(directory), runs)}" if runs else f"{problem}; `curate run` makes one")


def _runs_near(directory: Path) -> Iterator[Path]:
    """Runs inside `directory`, beside it, above it, or under the working directory."""
    yield from (parent for parent in directory.resolve().parents if (parent / MANIFEST).is_file())
    for base in (directory, directory.parent, Path()):
        for pattern in (MANIFEST, f"*/{MANIFEST}"):
            yield from (found.parent for found in base.glob(pattern))
