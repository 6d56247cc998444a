"""What is published where a run will be: the records that `dedup: {against: previous}` prefers to all others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipelines.ids import Ids, Index, digest_ids, from_hex, join
from pipelines.pool import RunPool
from pipelines.publish import parse_manifest
from pipelines.recipe import Recipe
from pipelines.remote import open_place
from schemas.errors import RecipeError, RunError
from schemas.hashing import fingerprint
from schemas.lineage import DATA, MANIFEST, REWRITES_DIR
from stages.contract import BoolArray


@dataclass(frozen=True)
class Publication:
    """The records of a finished run's `data/`: `ids`, and the hashes of their `contents` as the sources had them.

    `run` is the run's fingerprint, None where nothing is published.
    """

    run: str | None
    ids: Ids
    contents: Ids

    def rows_of(self, pool: RunPool) -> BoolArray:
        """Which records of a pool that no stage has seen are published, shape (all records,).

        A record is known by its id, if its content is the same. A content that stands at no published id any more
        (its file was moved, rows before it went) is known wherever it stands; so a changed record is a new one, and a
        copy of a published record is never taken for it.
        """
        at = Index(self.ids).find(pool.record_ids)
        same = at >= 0
        same[same] = self.contents[at[same]] == pool.content_hashes[same]
        content = Index(self.contents).find(pool.content_hashes)
        moved = content >= 0
        moved[moved] = Index(pool.content_hashes[same]).find(pool.content_hashes[moved]) < 0
        return same | moved

    def entry(self) -> dict[str, Any]:
        """What the manifest says about it."""
        return {"run_fingerprint": self.run, "rows": len(self.ids)}


def replaced_by(recipe: Recipe, *places: str | Path) -> Publication | None:
    """What the first of `places` with a finished run holds, if any stage of the recipe asks; empty ones are skipped.

    Raises:
        RecipeError: if nothing can be read at a place.
        RunError: if files are missing there.
    """
    if not any(use.stage.prefers_published() for use in recipe.stages):
        return None
    found = (_Published.at(str(place)) for place in places if place)
    published = next((item for item in found if item is not None), None)
    return Publication(None, join([]), join([])) if published is None else published.read()


def work_name(run: str, previous: Publication | None) -> str:
    """Name of the folder where a run is built: what was half done against something else is not gone on with."""
    if previous is None:
        return run
    return fingerprint({"run": run, "previous": digest_ids(previous.ids, previous.contents).hex()})


@dataclass(frozen=True)
class _Published:
    """A finished run on some file system."""

    system: Any
    root: str
    manifest: dict[str, Any]

    @classmethod
    def at(cls, place: str) -> _Published | None:
        """The run at a path or URL, None if there is none."""
        system, root = open_place(place)
        try:
            manifest = parse_manifest(system.cat_file(f"{root}/{MANIFEST}"))
        except FileNotFoundError:
            return None
        except Exception as error:  # every file system raises its own errors
            raise RecipeError(f"cannot read {place}: {type(error).__name__}: {error}") from error
        return None if manifest is None else cls(system, root, manifest)

    def read(self) -> Publication:
        """Its records; of rewritten ones the content before the first rewriting stage."""
        pairs = [self._ids(path, "record_id", "content_hash") for path in self._files(DATA)]
        ids, contents = join([pair[0] for pair in pairs]), join([pair[1] for pair in pairs])
        where = Index(ids)
        for path in reversed(self._files(REWRITES_DIR)):
            rewritten, before = self._ids(path, "record_id", "content_hash_before")
            at = where.find(rewritten)
            contents[at[at >= 0]] = before[at >= 0]
        return Publication(self.manifest["run_fingerprint"], ids, contents)

    def _files(self, folder: str) -> list[str]:
        """The files below a folder, ascending: files of stages are named in the order of the stages."""
        return sorted(file["path"] for file in self.manifest["files"] if file["path"].startswith(f"{folder}/"))

    def _ids(self, path: str, *columns: str) -> tuple[Ids, ...]:
        try:
            with self.system.open(f"{self.root}/{path}", "rb") as file:
                table = pq.read_table(file, columns=list(columns))
        except FileNotFoundError as error:
            raise RunError(
                f"{self.root}: {path} of the published run is missing; restore it, or remove the whole directory: then "
                "nothing counts as published"
            ) from error
        return tuple(from_hex(table[name]) for name in columns)
