"""Putting a finished run in place: everything is built aside and moved in, the manifest last."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

import orjson

from pipelines.files import TEMPORARY, read_json, write_json
from pipelines.progress import EVENTS
from schemas.errors import RecipeError, RunError
from schemas.lineage import DATA, DELTA, EXPORTS, LINEAGE_DIR, MANIFEST, QUARANTINE_DIR

WORK = ".curatrix"
LOCK = ".lock"
FOLDERS: Final = frozenset({DATA, DELTA, EXPORTS, LINEAGE_DIR, QUARANTINE_DIR})
DOCUMENTS: Final = frozenset({"README.md", "catalog.sql", "report.html", EVENTS})
"""What a run consists of, with its manifest. Nothing else in its directory was written by us, or is ever removed."""
_KEPT = (WORK, LOCK)
_PLAN = ".publishing.json"


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold the output directory for this run. Raises RunError if another run holds it."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / LOCK).open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunError(
                f"{out}: another run is writing here, or an upload reads it; wait for it or choose another --out"
            ) from error
        yield


@contextmanager
def held_still(out: Path) -> Iterator[None]:
    """Keep runs from changing `out` while it is read. Raises RunError if one is writing there."""
    handle = _lock_to_read(out)
    if handle is None:  # a place where nothing can be written
        yield
        return
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunError(f"{out}: a run is writing here; wait for it") from error
        yield


def _lock_to_read(out: Path) -> IO[str] | None:
    """The lock of a directory that may belong to somebody else, or be read-only."""
    for mode in ("a+", "r"):
        try:
            return (out / LOCK).open(mode)
        except OSError:
            continue
    return None


def work_folder(out: Path, run: str) -> Path:
    """Where the run with this fingerprint builds its output; what other runs left behind is removed."""
    folder = out / WORK / run
    for other in (out / WORK).glob("*"):
        if other != folder:
            _remove(other)
    folder.mkdir(parents=True, exist_ok=True)
    for unfinished in folder.rglob(TEMPORARY):  # what a killed run was writing
        unfinished.unlink()
    return folder


def current_manifest(out: Path) -> dict[str, Any] | None:
    """The manifest of the run published in `out`, or None; other programs have a `manifest.json`, too."""
    path = out / MANIFEST
    return parse_manifest(path.read_bytes()) if path.is_file() else None


def finished_manifest(out: Path) -> dict[str, Any]:
    """The manifest of the run published in `out`. Raises RecipeError if there is none."""
    manifest = current_manifest(out)
    if manifest is None:
        raise RecipeError(f"{out} is not a finished run (no {MANIFEST} of a run); `curate run` makes one")
    return manifest


def parse_manifest(content: bytes) -> dict[str, Any] | None:
    """The manifest of a run, or None if this is something else."""
    try:
        manifest = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    ours = isinstance(manifest, dict) and isinstance(manifest.get("run_fingerprint"), str)
    return manifest if ours else None


def check_ours(out: Path) -> None:
    """Refuse a directory that holds something else. Raises RecipeError."""
    if out.exists() and not out.is_dir():
        raise RecipeError(f"{out} is a file; --out must be a directory")
    if not out.exists() or current_manifest(out) is not None or _begun(out):
        return
    others = [path.name for path in out.iterdir() if path.name not in _KEPT]
    if others:
        raise RecipeError(
            f"{out} is not empty and not a run of curatrix (it has '{sorted(others)[0]}'); choose another --out"
        )


def _begun(out: Path) -> bool:
    """Whether a run was stopped here while it built its output, or while it put it in place."""
    return any(any((out / WORK).glob(f"*/{name}")) for name in (EVENTS, _PLAN))


def publish(out: Path, folder: Path, manifest: dict[str, Any]) -> None:
    """Replace the run in `out` by the finished `folder`; the old manifest goes first, the new one comes last.

    Folders of a run are replaced whole; what others put beside them stays.
    """
    if not (folder / _PLAN).exists():
        names = sorted(path.name for path in folder.iterdir())
        write_json(folder / _PLAN, {"names": names, "manifest": manifest})
    finish_publishing(out, folder)


def finish_publishing(out: Path, folder: Path) -> dict[str, Any] | None:
    """Go on with a publication that was killed half-way; returns its manifest, None where there was none."""
    if not (folder / _PLAN).exists():
        return None
    plan = read_json(folder / _PLAN)
    (out / MANIFEST).unlink(missing_ok=True)
    for path in out.iterdir():
        if _of_a_run(path.name) and path.name not in plan["names"]:
            _remove(path)
    for name in plan["names"]:
        if (folder / name).exists():
            _remove(out / name)
            os.replace(folder / name, out / name)
    write_json(out / MANIFEST, plan["manifest"])
    shutil.rmtree(out / WORK)
    manifest: dict[str, Any] = plan["manifest"]
    return manifest


def finish_interrupted(out: Path) -> dict[str, Any] | None:
    """Go on with whichever publication was killed half-way in `out`; returns its manifest, None if there was none."""
    finished = [finish_publishing(out, folder) for folder in sorted((out / WORK).glob("*"))]
    return next((manifest for manifest in finished if manifest is not None), None)


def _of_a_run(name: str) -> bool:
    """Whether something at the top of a run's directory is ours: a part of it, or one that was never finished."""
    parts = FOLDERS | DOCUMENTS
    unfinished = name.endswith(".tmp") and any(name.startswith(f".{part}.") for part in (*parts, MANIFEST))
    return name in parts or unfinished


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
