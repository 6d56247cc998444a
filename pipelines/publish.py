"""Putting a finished run in place: everything is built aside and moved in, the manifest last."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.files import TEMPORARY, read_json, write_json
from schemas.errors import RecipeError, RunError
from schemas.lineage import MANIFEST

WORK = ".curatrix"
_KEPT = (WORK, ".lock")
_PLAN = ".publishing.json"


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold the output directory for this run. Raises RunError if another run holds it."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunError(f"{out}: another run is writing here; wait for it or choose another --out") from error
        yield


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
    """The manifest of the run published in `out`, or None."""
    path = out / MANIFEST
    if not path.exists():
        return None
    manifest: dict[str, Any] = read_json(path)
    return manifest


def check_ours(out: Path) -> None:
    """Refuse a directory that holds something else. Raises RecipeError."""
    if out.exists() and not out.is_dir():
        raise RecipeError(f"{out} is a file; --out must be a directory")
    if (out / MANIFEST).exists() or (out / WORK).exists() or not out.exists():
        return
    others = [path.name for path in out.iterdir() if path.name not in _KEPT]
    if others:
        raise RecipeError(
            f"{out} is not empty and not a run of curatrix (it has '{sorted(others)[0]}'); choose another --out"
        )


def publish(out: Path, folder: Path, manifest: dict[str, Any]) -> None:
    """Replace what `out` holds by the finished `folder`; the old manifest goes first, the new one comes last."""
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
        if path.name not in (*_KEPT, *plan["names"]):
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


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
