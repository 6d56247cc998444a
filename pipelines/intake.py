"""From sources to parts: which files there are, how they are understood, and their records in the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import schemas
from pipelines.executor import Executor
from pipelines.files import read_json, write_json
from pipelines.ingest import ChunkReport, IngestTask, Reading, bad_path, ingest_chunk, load_report, part_path
from pipelines.pool import Part, RunPool
from pipelines.progress import Reporter
from pipelines.readers import Sniffed, decode, read_chunks, sniff
from pipelines.readers.hf import dataset_digest, read_dataset
from pipelines.readers.rows import Chunk, RawRow
from pipelines.readers.streams import public
from pipelines.recipe import Recipe, Source
from pipelines.sources import SourceFile, file_digest, list_files
from pipelines.store import Store
from schemas.adapters import adapter as find_adapter
from schemas.adapters import detect
from schemas.errors import RecipeError
from schemas.hashing import digest, fingerprint

_SAMPLE = 200


@dataclass(frozen=True)
class Unit:
    """One file (or one `datasets` dataset) of a source, named by the content and settings its records depend on."""

    source: Source
    file: SourceFile | None
    path: str  # within the source
    digest: str
    key: str
    limit: int | None
    base: Path  # where relative paths start

    @property
    def bytes(self) -> int:
        """Size of the file, 0 for a dataset."""
        return self.file.size if self.file is not None else 0


@dataclass(frozen=True)
class UnitReport:
    """What a unit became. `parts` lists the indices of the chunks that have records."""

    source: str
    file: str
    bytes: int
    digest: str
    format: str
    adapter: str
    why: str
    chunks: int
    rows: int
    records: int
    quarantined: dict[str, int]
    parts: list[tuple[int, int]] = field(default_factory=list)  # (chunk index, records)
    bad: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Taken:
    """A unit in the store: its report, its folder, and how many of its chunks were there before this run."""

    report: UnitReport
    folder: Path
    chunks_cached: int

    def record_parts(self) -> list[Part]:
        """The parts with records, in order."""
        key = self.folder.name
        return [
            Part(part_path(self.folder, index), rows, self.report.source, f"{key}/{index}")
            for index, rows in self.report.parts
        ]

    def quarantine_files(self) -> list[Path]:
        """Files of quarantined rows, in order."""
        return [bad_path(self.folder, index) for index in self.report.bad]


def open_pool(taken: Sequence[Taken]) -> RunPool:
    """The records of some units as one pool, in their order."""
    return RunPool.open([part for item in taken for part in item.record_parts()])


def find_units(recipe: Recipe, limit: int | None = None) -> list[Unit]:
    """Every file of every source, in the order of the recipe and then of the paths.

    Raises:
        RecipeError: for a source without files, an unknown adapter or format, an unreadable file.
    """
    return [unit for source in recipe.sources for unit in source_units(source, recipe.base, limit)]


def source_units(source: Source, base: Path, limit: int | None) -> list[Unit]:
    """Every file of one source. Raises RecipeError as `find_units` does."""
    if source.adapter != "auto":
        find_adapter(source.adapter)
    if source.dataset is not None:
        name = f"{source.dataset}:{source.split}"
        content = dataset_digest(source.dataset, source.config, source.split, base)
        return [Unit(source, None, name, content, _key(source, name, content, limit), limit, base)]
    files = _apart([list_files(path, base) for path in source.paths])
    return [_file_unit(source, file, limit, base) for file in files]


def _apart(groups: Sequence[Sequence[SourceFile]]) -> list[SourceFile]:
    """The files of a source's paths, by path; a file that two of them name counts once.

    Files of one name in two folders get the number of the folder before it: their records need ids of their own.
    """
    numbered = {file.url: (number, file) for number, group in reversed([*enumerate(groups)]) for file in group}
    names = Counter(file.path for _, file in numbered.values())
    mark = ""
    while any(f"{mark}{number}/{file.path}" in names for number, file in numbered.values() if names[file.path] > 1):
        mark += "_"  # a path that begins like a number of ours
    files = (
        file if names[file.path] == 1 else replace(file, path=f"{mark}{number}/{file.path}")
        for number, file in numbered.values()
    )
    return sorted(files, key=lambda file: file.path)


def _file_unit(source: Source, file: SourceFile, limit: int | None, base: Path) -> Unit:
    try:
        content = file_digest(file).hex()
    except OSError as error:
        raise RecipeError(
            f"source '{source.name}': cannot read {public(file.url)}: {error.strerror or error}"
        ) from error
    return Unit(source, file, file.path, content, _key(source, file.path, content, limit), limit, base)


def _key(source: Source, path: str, content: str, limit: int | None) -> str:
    settings = source.model_dump(include={"name", "format", "adapter", "mapping", "max_row_mb"})
    return fingerprint({**settings, "path": path, "content": content, "limit": limit, "code": _code()})


@cache
def _code() -> str:
    """Fingerprint of the code that reads and adapts: records made by other code are made anew."""
    root = Path(schemas.__file__).parent.parent
    files = sorted([*root.glob("schemas/**/*.py"), *root.glob("pipelines/readers/*.py"), root / "pipelines/ingest.py"])
    return digest(b"\0".join(path.read_bytes() for path in files)).hex()


def stored_report(unit: Unit, store: Store) -> UnitReport | None:
    """The report of a unit that is already in the store, or None."""
    path = store.pool(unit.key) / "unit.json"
    return UnitReport(**read_json(path)) if path.exists() else None


def take_in(units: list[Unit], store: Store, executor: Executor, reporter: Reporter) -> list[Taken]:
    """Bring every unit into the store, reading only what is not there yet.

    Raises:
        RecipeError: for a file whose format cannot be told.
    """
    taken: dict[str, Taken] = {}
    fresh: dict[str, _Progress] = {}
    for unit in units:
        report = stored_report(unit, store)
        if report is not None:
            taken[unit.key] = Taken(report, store.pool(unit.key), report.chunks)
            reporter.advance(report.rows)
        else:
            fresh[unit.key] = _Progress(unit, store.pool(unit.key))
    tasks = (task for progress in fresh.values() for task in progress.tasks())
    for key, done in executor.map(_keyed_ingest, tasks):
        fresh[key].done(done)
        reporter.advance(done.rows_read)
    for key, progress in fresh.items():
        taken[key] = progress.close()
    return [taken[unit.key] for unit in units]


def _keyed_ingest(task: IngestTask) -> tuple[str, ChunkReport]:
    return task.folder.name, ingest_chunk(task)


class _Progress:
    """A unit being read: hands out its chunks and gathers their reports."""

    def __init__(self, unit: Unit, folder: Path) -> None:
        self._unit, self._folder = unit, folder
        self._reports: dict[int, ChunkReport] = {}
        self._cached = 0
        self._format = ""
        self._understood: dict[str, tuple[str, str]] = {}  # by archive member: adapter and why
        self._chunks = 0

    def tasks(self) -> Iterator[IngestTask]:
        """Tasks for the chunks that are not done yet."""
        left = self._unit.limit
        for index, chunk in enumerate(self._read()):
            if chunk.member not in self._understood:
                self._understood[chunk.member] = self._understand(chunk)
            self._chunks = index + 1
            known = load_report(self._folder, index)
            if known is not None:
                self._reports[index] = known
                self._cached += 1
            else:
                yield IngestTask(self._reading(chunk.member), chunk, index, self._folder, left)
            if left is not None:
                left -= known.rows_read if known is not None else min(left, sum(1 for _ in islice(decode(chunk), left)))
                if left <= 0:
                    return

    def done(self, report: ChunkReport) -> None:
        """A chunk is done."""
        self._reports[report.index] = report

    def close(self) -> Taken:
        """All chunks are done: write the unit's report."""
        reports = [self._reports[index] for index in range(self._chunks)]
        kinds = Counter[str]()
        for report in reports:
            kinds.update(report.quarantined)
        unit = UnitReport(
            source=self._unit.source.name, file=self._unit.path, bytes=self._unit.bytes, digest=self._unit.digest,
            format=self._format, adapter=_listed(name for name, _ in self._understood.values()),
            why=_listed(why for _, why in self._understood.values()), chunks=self._chunks,
            rows=sum(report.rows_read for report in reports), records=sum(report.records for report in reports),
            quarantined=dict(sorted(kinds.items())),
            parts=[(report.index, report.records) for report in reports if report.records],
            bad=[report.index for report in reports if report.quarantined],
        )  # fmt: skip
        write_json(self._folder / "unit.json", asdict(unit))
        return Taken(unit, self._folder, self._cached)

    def _read(self) -> Iterator[Chunk]:
        source, file = self._unit.source, self._unit.file
        if file is None:
            assert source.dataset is not None
            self._format = "datasets"
            return read_dataset(source.dataset, source.config, source.split, self._unit.base)
        sniffed = self._sniff(file)
        self._format = sniffed.format
        return read_chunks(file.url, sniffed, max_row_bytes=self._max_row_bytes)

    def _sniff(self, file: SourceFile) -> Sniffed:
        try:
            return sniff(file.url, self._unit.source.format)
        except RecipeError as error:
            raise RecipeError(f"source '{self._unit.source.name}': {error}") from error

    def _understand(self, chunk: Chunk) -> tuple[str, str]:
        """The adapter of a file, or of a file in an archive, and the reason for it."""
        if self._unit.source.mapping:
            return "mapping", "the recipe maps the columns"
        if self._unit.source.adapter != "auto":
            return self._unit.source.adapter, "the recipe names it"
        found = detect(sample_values(chunk))
        return found.adapter, found.why

    @property
    def _max_row_bytes(self) -> int:
        return int(self._unit.source.max_row_mb * 1_000_000)

    def _reading(self, member: str) -> Reading:
        source, name = self._unit.source, self._understood[member][0]
        return Reading(source.name, self._unit.path, name, source.mapping, self._max_row_bytes)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))


def sample_values(chunk: Chunk) -> list[Any]:
    """The first readable rows of a chunk, for detection."""
    rows = (row for row in decode(chunk) if isinstance(row, RawRow))
    return [row.value for row in islice(rows, _SAMPLE)]
