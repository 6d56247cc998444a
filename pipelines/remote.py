"""Runs on object stores: published without a rename, fetched by manifest.

Object stores cannot move a folder at once. A run is therefore uploaded beside its place, under `.curatrix/<run>/`;
only when every file is there are they copied, within the store, to where they belong, the manifest last. A reader that
goes by the manifest sees the old run, none, or the new one; an upload that breaks off leaves the place as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import fsspec
import orjson
import platformdirs

from pipelines.files import file_digest, read_json, replacing
from pipelines.progress import Reporter
from pipelines.publish import WORK
from schemas.errors import RecipeError, RunError
from schemas.hashing import digest
from schemas.lineage import MANIFEST

_HUB: Final = "hf"


@dataclass(frozen=True)
class Upload:
    """What publishing did or would do: the files with their sizes in bytes, and those that were there already."""

    url: str
    files: dict[str, int]
    known: frozenset[str]
    removed: tuple[str, ...]


def is_remote(place: str) -> bool:
    """Whether a place is an fsspec URL rather than a path."""
    return "://" in place


def folder_for(place: str, store: Path) -> Path:
    """The folder of a run on this machine: the place itself, or where a run that will be uploaded is built."""
    if not is_remote(place):
        return Path(place)
    return store / "outputs" / digest(place.rstrip("/").encode()).hex()


def upload(folder: Path, url: str, reporter: Reporter, dry_run: bool = False) -> Upload:
    """Publish the run in `folder` at `url`; what an interrupted upload left there is used, not sent again.

    Raises:
        RecipeError: if `folder` is no finished run, or nothing can be said or written at `url`.
        RunError: if another run was published there meanwhile.
    """
    if not (folder / MANIFEST).is_file():
        raise RecipeError(f"{folder} is not a finished run: it has no {MANIFEST}")
    files = {name: (folder / name).stat().st_size for name in _files(folder)}
    system, root = open_place(url)
    if url.startswith(f"{_HUB}://"):
        return _upload_to_hub(folder, url, root, files, dry_run)
    name = read_json(folder / MANIFEST)["run_fingerprint"]
    staging = f"{root}/{WORK}/{name}"
    there = _sizes(system, root)
    known = frozenset(path for path, size in files.items() if there.get(f"{WORK}/{name}/{path}") == size)
    stale = tuple(sorted(path for path in there if path not in files and not path.startswith((WORK, MANIFEST))))
    plan = Upload(url, files, known, stale)
    if not dry_run:
        reporter.start("upload", sum(files.values()))
        _send(system, folder, staging, plan, reporter)
        _place(system, root, staging, plan, (folder / MANIFEST).read_bytes())
        reporter.finish(f"{len(files)} files at {url}, {len(known)} of them there already")
    return plan


def fetch(url: str) -> Path:
    """A local copy of the run at `url`, brought up to date by its manifest. Raises RecipeError if there is none."""
    system, root = open_place(url)
    try:
        manifest = orjson.loads(system.cat_file(f"{root}/{MANIFEST}"))
    except FileNotFoundError as error:
        raise RecipeError(f"{url} is not a finished run: it has no {MANIFEST}") from error
    folder = platformdirs.user_cache_path("curatrix") / "fetched" / digest(url.rstrip("/").encode()).hex()
    same = (folder / MANIFEST).is_file() and read_json(folder / MANIFEST) == manifest
    digests = {file["path"]: file["digest"] for file in manifest["files"]}
    there = {path: size for path, size in _sizes(system, root).items() if not path.startswith((WORK, MANIFEST))}
    for path, size in there.items():
        _bring(system, f"{root}/{path}", folder / path, size, digests.get(path), same)
    for stale in {*_files(folder)} - there.keys() if folder.is_dir() else ():
        (folder / stale).unlink()
    with replacing(folder / MANIFEST) as temporary:
        temporary.write_bytes(orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
    return folder


def _bring(system: Any, source: str, target: Path, size: int, wanted: str | None, same: bool) -> None:
    """Download a file, unless it is here: by its digest, or by size if the manifest did not change."""
    if target.is_file() and target.stat().st_size == size and (same or file_digest(target) == wanted):
        return
    with replacing(target) as temporary:
        system.get_file(source, str(temporary))


def _files(folder: Path) -> list[str]:
    """Files of a run, but for the manifest and what is not published."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(str(path) for path in paths if not str(path).startswith(".") and str(path) != MANIFEST)


def open_place(url: str) -> tuple[Any, str]:
    """The file system of a URL or path, and where it points there. Raises RecipeError if nothing can be said there."""
    if not is_remote(url):  # `::` and the like are parts of a path
        return fsspec.filesystem("file"), str(Path(url).absolute())
    try:
        system, root = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise RecipeError(f"{url}: {error}; pip install 'curatrix[s3]', or the package named") from error
    except ValueError as error:
        raise RecipeError(f"{url}: {error}") from error
    return system, root.rstrip("/")


def _sizes(system: Any, root: str) -> dict[str, int]:
    """Size in bytes of every object below `root`, by its path there."""
    system.invalidate_cache()
    try:
        found = system.find(root, detail=True)
    except FileNotFoundError:
        return {}
    except Exception as error:  # every file system raises its own errors
        raise RecipeError(f"cannot list {root}: {type(error).__name__}: {error}") from error
    return {name.removeprefix(root).lstrip("/"): int(entry["size"] or 0) for name, entry in found.items()}


def _send(system: Any, folder: Path, staging: str, plan: Upload, reporter: Reporter) -> None:
    for path, size in plan.files.items():
        if path not in plan.known:
            _make_parent(system, f"{staging}/{path}")
            system.put_file(str(folder / path), f"{staging}/{path}")
        reporter.advance(size)
    there = _sizes(system, staging)
    missing = [path for path, size in plan.files.items() if there.get(path) != size]
    if missing:
        raise RunError(f"{plan.url}: {missing[0]} did not arrive whole; run the same command again")


def _place(system: Any, root: str, staging: str, plan: Upload, manifest: bytes) -> None:
    if system.exists(f"{root}/{MANIFEST}"):
        system.rm_file(f"{root}/{MANIFEST}")
    for path in plan.removed:
        system.rm_file(f"{root}/{path}")
    for path in plan.files:
        _make_parent(system, f"{root}/{path}")
        system.cp_file(f"{staging}/{path}", f"{root}/{path}")
    _create(system, f"{root}/{MANIFEST}", manifest, plan.url)
    system.rm(f"{root}/{WORK}", recursive=True)


def _create(system: Any, path: str, content: bytes, url: str) -> None:
    """Write the manifest only if there is none: where the store can tell, a second publisher fails here."""
    write: Callable[..., Any] = system.pipe_file
    try:
        write(path, content, mode="create")
    except FileExistsError as error:
        raise RunError(f"{url}: another run was published there meanwhile; publish again to replace it") from error


def _make_parent(system: Any, path: str) -> None:
    """Object stores have no folders; file systems do."""
    system.makedirs(path.rpartition("/")[0], exist_ok=True)


def _upload_to_hub(folder: Path, url: str, root: str, files: dict[str, int], dry_run: bool) -> Upload:
    """One commit to a dataset repository: the hub shows all of it or nothing."""
    from huggingface_hub import HfApi

    parts = root.split("/")
    if parts[0] != "datasets" or len(parts) < 3:
        raise RecipeError(f"{url}: a dataset repository is named hf://datasets/OWNER/NAME")
    if not dry_run:
        api, name = HfApi(), "/".join(parts[1:3])
        api.create_repo(name, repo_type="dataset", exist_ok=True, private=True)
        api.upload_folder(
            repo_id=name, repo_type="dataset", folder_path=folder, path_in_repo="/".join(parts[3:]) or None,
            allow_patterns=[*files, MANIFEST], delete_patterns=["data/*", "delta/*", "lineage/*", "quarantine/*"],
            commit_message=f"curatrix: {read_json(folder / MANIFEST)['name']}",
        )  # fmt: skip
    return Upload(url, files, frozenset(), ())
