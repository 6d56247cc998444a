"""The score store: results kept under content hash and scorer fingerprint, so that nothing is computed twice."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import platformdirs
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.files import TEMPORARY, read_json, write_json
from pipelines.ids import ID, Ids, Index, from_hex, join
from schemas.errors import RecipeError, RunError
from schemas.room import filled
from stages.contract import IntArray

Numbers = npt.NDArray[np.int32]
SECTIONS = ("pool", "scores", "states", "derived", "journals", "scratch")
_PAID = "journals"
"""Responses that cost money are listed, but never collected."""
_HELD_BYTES = 24 << 20
"""Copies refer to scores in any file: small columns stay in memory, large ones come and go."""


@dataclass(frozen=True)
class Entry:
    """One line of `curate store ls`: a section's subfolder, its size, and when a run last used it (Unix time)."""

    section: str
    name: str
    bytes: int
    files: int
    last_used: float


class Store:
    """A folder shared by every run that names it. Safe for several runs at once: files only ever appear whole."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def pool(self, key: str) -> Path:
        """Folder of one ingested file."""
        return self.root / "pool" / key

    def scores(self, stage: str, fingerprint: str) -> ScoreTable:
        """What a stage has scored so far with one fingerprint."""
        return ScoreTable(self.root / "scores" / f"{stage}-{fingerprint}")

    def state(self, stage: str, fingerprint: str) -> Path:
        """File of a stage's fitted state."""
        return self.root / "states" / f"{stage}-{fingerprint}" / "state.npz"

    def derived(self, key: str) -> Path:
        """Folder of rewritten records."""
        return self.root / "derived" / key

    def journal(self, stage: str) -> Path:
        """Folder of a stage that outlives runs and fingerprints, for responses it paid for."""
        folder = self.root / _PAID / stage
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder for a while that every node of a cluster sees; `collect` removes it if the run is killed."""
        folder = self.root / "scratch" / uuid.uuid4().hex
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def record_use(self, run: str, used: Sequence[Path]) -> None:
        """Note what a run used, so that `gc` keeps it."""
        names = sorted({str(path.relative_to(self.root)) for path in used})
        write_json(self.root / "runs" / f"{run}.json", {"time": time.time(), "used": names})

    def renew_use(self, run: str) -> None:
        """Note that what a run used is still wanted."""
        path = self.root / "runs" / f"{run}.json"
        if path.exists():
            write_json(path, {**read_json(path), "time": time.time()})

    def entries(self) -> list[Entry]:
        """Everything stored, largest first."""
        last_used = self._last_used()
        found = [self._entry(section, folder, last_used) for section, folder in self._folders()]
        return sorted(found, key=lambda entry: (-entry.bytes, entry.section, entry.name))

    def collect(self, days: float, dry_run: bool = False) -> list[Entry]:
        """Remove what no run of the last `days` days used, but no journals; returns what was (or would be) removed."""
        horizon = time.time() - days * 86_400
        old = [entry for entry in self.entries() if entry.last_used < horizon and entry.section != _PAID]
        if not dry_run:
            for entry in old:
                shutil.rmtree(self.root / entry.section / entry.name)
            self._forget_runs(horizon)
            self._remove_unfinished()
        return old

    def _folders(self) -> Iterator[tuple[str, Path]]:
        for section in SECTIONS:
            parent = self.root / section
            if parent.is_dir():
                yield from ((section, folder) for folder in sorted(parent.iterdir()) if folder.is_dir())

    def _entry(self, section: str, folder: Path, last_used: dict[str, float]) -> Entry:
        sizes = [(path.stat().st_size, path.stat().st_mtime) for path in folder.rglob("*") if path.is_file()]
        newest = max((time_ for _, time_ in sizes), default=folder.stat().st_mtime)
        used = max(newest, last_used.get(f"{section}/{folder.name}", 0.0))
        return Entry(section, folder.name, sum(size for size, _ in sizes), len(sizes), used)

    def _last_used(self) -> dict[str, float]:
        times: dict[str, float] = {}
        for path in sorted((self.root / "runs").glob("*.json")):
            run = read_json(path)
            for name in run["used"]:
                times[name] = max(times.get(name, 0.0), run["time"])
        return times

    def _remove_unfinished(self) -> None:
        """Files that a killed run was writing more than a day ago."""
        for path in self.root.rglob(TEMPORARY):
            if path.stat().st_mtime < time.time() - 86_400:
                path.unlink(missing_ok=True)

    def _forget_runs(self, horizon: float) -> None:
        for path in (self.root / "runs").glob("*.json"):
            if read_json(path)["time"] < horizon:
                path.unlink()


@dataclass(frozen=True)
class Places:
    """Where the scores of some rows are: for each row the index of its file among `files`, and its position there."""

    files: tuple[Path, ...]
    file_of: Numbers
    at: Numbers

    def of(self, rows: IntArray) -> Places:
        """Those of the named rows."""
        return Places(self.files, self.file_of[rows], self.at[rows])

    def read(self, columns: Sequence[str], open_file: Callable[[Path, tuple[str, ...]], pa.Table]) -> pa.Table:
        """Score columns of all rows, at least one, in their order."""
        by_file = np.argsort(self.file_of, kind="stable")
        files, firsts = np.unique(self.file_of[by_file], return_index=True)
        pieces = [
            _taken(open_file(self.files[file], tuple(columns)), self.at[group])
            for file, group in zip(files, np.split(by_file, firsts[1:]), strict=True)
        ]
        if len(pieces) == 1:
            return pieces[0]
        back = np.empty(len(by_file), np.int64)
        back[by_file] = np.arange(len(by_file))
        return pa.concat_tables(pieces).take(pa.array(back))


class ScoreTable:
    """Scores of one stage with one fingerprint: Parquet files with `content_hash` and the score columns."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: list[Path] = []
        self._starts = np.zeros(1, np.int64)
        self._index = Index(join([]))
        self._tables: OrderedDict[tuple[Path, tuple[str, ...]], pa.Table] = OrderedDict()
        self._held = 0
        self.refresh()

    def __len__(self) -> int:
        return len(self._index)

    def refresh(self) -> None:
        """Read the ids of every file now in the folder."""
        self._files = sorted(self.folder.glob("*.parquet"))
        sizes = [pq.read_metadata(path).num_rows for path in self._files]
        self._starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        self._ids = filled(sum(sizes), ID, map(_ids_of, self._files))
        self._index = Index(self._ids)
        self._tables.clear()
        self._held = 0

    def add(self, path: Path, ids: Ids) -> None:
        """Take in a file that was just written to the folder, with the ids of its rows."""
        self._files.append(path)
        self._starts = np.append(self._starts, self._starts[-1] + len(ids))
        self._ids = join([self._ids, ids])
        self._index = Index(self._ids)

    def has(self, ids: Ids) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Which ids have scores, shape (n,)."""
        return self._index.find(ids) >= 0

    def schema(self) -> pa.Schema:
        """Arrow schema of the score columns, without `content_hash`. Raises RunError if nothing was scored."""
        if not self._files:
            raise RunError(f"{self.folder.name}: no scores stored")
        schema = pq.read_schema(self._files[0]).remove_metadata()
        return schema.remove(schema.get_field_index("content_hash"))

    def rows(self, ids: Ids, columns: Sequence[str]) -> pa.Table:
        """Score columns of `ids`, in that order.

        Raises:
            RunError: if an id has no scores.
        """
        places = self.places(ids)
        return places.read(columns, self._open) if len(ids) else self._none(columns)

    def places(self, ids: Ids) -> Places:
        """Where the scores of `ids` are.

        Raises:
            RunError: if an id has no scores.
        """
        at = self._index.find(ids)
        if (at < 0).any():
            raise RunError(f"{self.folder.name}: {int((at < 0).sum())} records have no scores")
        file_of = np.searchsorted(self._starts, at, side="right") - 1
        positions = (at - self._starts[file_of]).astype(np.int32)
        named = np.bincount(file_of, minlength=len(self._files)) > 0
        files = tuple(self._files[file] for file in np.flatnonzero(named))
        return Places(files, (np.cumsum(named) - 1)[file_of].astype(np.int32), positions)

    def _none(self, columns: Sequence[str]) -> pa.Table:
        known = self.schema() if self._files else pa.schema([])
        return pa.schema([known.field(name) for name in columns if name in known.names]).empty_table()

    def _open(self, path: Path, columns: tuple[str, ...]) -> pa.Table:
        key = (path, columns)
        if key not in self._tables:
            self._tables[key] = pq.read_table(path, columns=list(columns))
            self._held += self._tables[key].nbytes
            while self._held > _HELD_BYTES and len(self._tables) > 1:
                self._held -= self._tables.popitem(last=False)[1].nbytes
        self._tables.move_to_end(key)
        return self._tables[key]


def _taken(table: pa.Table, rows: Numbers) -> pa.Table:
    """The named rows, at least one; not copied where they lie side by side, as they mostly do."""
    if rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all():
        return table.slice(int(rows[0]), len(rows))
    return table.take(pa.array(rows))


def _ids_of(path: Path) -> Ids:
    return from_hex(pq.read_table(path, columns=["content_hash"])["content_hash"])


def store_root(setting: str | None, base: Path) -> Path:
    """The folder a recipe names (relative to `base`), else CURATRIX_STORE, else that in the user's cache."""
    chosen = os.environ.get("CURATRIX_STORE")
    if setting:
        return Path(base, setting)
    return Path(chosen).absolute() if chosen else platformdirs.user_cache_path("curatrix") / "store"


def open_store(setting: str | None, base: Path) -> Store:
    """The store at `store_root`, made if it is not there.

    Raises:
        RecipeError: if it cannot be written.
    """
    root = store_root(setting, base)
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecipeError(f"the score store {root} cannot be made: {error.strerror}") from error
    if not os.access(root, os.W_OK):
        raise RecipeError(f"the score store {root} cannot be written; set 'store:' or CURATRIX_STORE")
    return Store(root)
