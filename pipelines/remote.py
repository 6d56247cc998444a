"""Runs on object stores: published without a rename, fetched by manifest.

Object stores cannot move a folder at once. A run is therefore uploaded beside its place, under `.curatrix/<run>/`;
only when every file is there are they copied, within the store, to where they belong, the manifest last. A reader that
goes by the manifest sees the old run, none, or the new one. An upload that breaks off while files are sent leaves the
place as it was; one that breaks off during the copies leaves it without a manifest, until it is gone on with.

A place may hold other files beside a run: they are neither removed nor fetched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import fsspec
import orjson
import platformdirs

from pipelines.exporting import EXPORTED
from pipelines.files import file_digest, read_json, replacing
from pipelines.progress import Reporter
from pipelines.publish import DOCUMENTS, FOLDERS, LOCK, WORK, finished_manifest, held_still, parse_manifest
from schemas.errors import RecipeError, RunError
from schemas.hashing import digest
from schemas.lineage import EXPORTS, MANIFEST

_HUB: Final = "hf"
_BESIDE: Final = {_HUB: ("README.md", ".gitattributes")}
"""What a repository may have been made with; it keeps what is written over."""
_PLACING: Final = f"{WORK}/placing.json"
"""Says, while there is no manifest, which files are parts of runs."""


@dataclass(frozen=True)
class Upload:
    """What publishing did or would do: the files with their sizes in bytes, and those that were there already."""

    url: str
    files: dict[str, int]
    known: frozenset[str]
    removed: tuple[str, ...]


@dataclass(frozen=True)
class _Place:
    """What lies at a URL: the size in bytes of every file, and which files are parts of a run published there."""

    url: str
    system: Any
    root: str
    there: Mapping[str, int]
    ours: frozenset[str]


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

    What was published there goes, as far as the new run does not have it; other files stay.

    Raises:
        RecipeError: if `folder` is no finished run, `url` holds something else, or nothing can be said there.
        RunError: if a run is writing in `folder`, or another run was published at `url` meanwhile.
    """
    finished_manifest(folder)
    with held_still(folder):
        manifest = finished_manifest(folder)
        files = {name: (folder / name).stat().st_size for name in sorted(_parts_here(folder, manifest))}
        if url.startswith(f"{_HUB}://"):
            return _upload_to_hub(folder, url, files, dry_run)
        place = _look(url)
        content = (folder / MANIFEST).read_bytes()
        staging = f"{WORK}/{digest(content).hex()}"
        known = frozenset(path for path, size in files.items() if place.there.get(f"{staging}/{path}") == size)
        plan = Upload(url, files, known, _stale(place, files))
        if not dry_run:
            reporter.start("upload", sum(files.values()))
            _send(place.system, folder, f"{place.root}/{staging}", plan, reporter)
            _put_in_place(place, f"{place.root}/{staging}", plan, content)
            reporter.finish(f"{len(files)} files at {url}, {len(known)} of them there already")
        return plan


def check_place(url: str) -> None:
    """Refuse a URL that holds something else, before a run is made for it. Raises RecipeError."""
    _look(url)


def fetch(url: str) -> Path:
    """A local copy of the run at `url`, brought up to date by its manifest. Raises RecipeError if there is none."""
    system, root = open_place(url)
    manifest = _published(system, root)
    if manifest is None:
        raise RecipeError(f"{url} is not a finished run: it has no {MANIFEST} of a run")
    folder = platformdirs.user_cache_path("curatrix") / "fetched" / digest(url.rstrip("/").encode()).hex()
    same = (folder / MANIFEST).is_file() and read_json(folder / MANIFEST) == manifest
    digests = {file["path"]: file["digest"] for file in manifest["files"]}
    sizes = _sizes(system, root)
    there = _parts_there(system, root, manifest, sizes)
    for path in sorted(there):
        _bring(system, f"{root}/{path}", folder / path, sizes[path], digests.get(path), same)
    for stale in {*_files(folder)} - there if folder.is_dir() else ():
        (folder / stale).unlink()
    with replacing(folder / MANIFEST) as temporary:
        temporary.write_bytes(orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
    return folder


def _parts_here(folder: Path, manifest: Mapping[str, Any]) -> frozenset[str]:
    return _parts(manifest, _files(folder), lambda path: (folder / path).read_bytes())


def _parts_there(system: Any, root: str, manifest: Mapping[str, Any], there: Iterable[str]) -> frozenset[str]:
    return _parts(manifest, there, lambda path: system.cat_file(f"{root}/{path}"))


def _parts(manifest: Mapping[str, Any], there: Iterable[str], read: Callable[[str], bytes]) -> frozenset[str]:
    """Which of the files that are `there` belong to a run: those its manifest names, its documents, its exports."""
    named = {file["path"] for file in manifest["files"] if file["path"].partition("/")[0] in FOLDERS} | DOCUMENTS
    for path in there:
        if path.startswith(f"{EXPORTS}/") and path.count("/") == 2 and path.endswith(f"/{EXPORTED}"):
            folder = path.removesuffix(EXPORTED)
            files = [file["path"] for file in orjson.loads(read(path)).get("files", [])]
            named |= {path, f"{folder}README.md", *(f"{folder}{name}" for name in files)}
    return frozenset(named).intersection(there)


def _look(url: str) -> _Place:
    """What lies at a URL. Raises RecipeError if that is something else than a run."""
    system, root = open_place(url)
    there = _sizes(system, root)
    manifest = _published(system, root) if MANIFEST in there else None
    begun = _begun(system, root) if _PLACING in there else None
    ignored = (WORK, LOCK, *_BESIDE.get(url.partition("://")[0], ()))
    others = sorted(path for path in there if path.partition("/")[0] not in ignored)
    if others and manifest is None and begun is None:
        raise RecipeError(
            f"{url} is not empty and not a run of curatrix (it has '{others[0]}'); choose another place, or empty it"
        )
    parts = _parts_there(system, root, manifest, there) if manifest else frozenset()
    return _Place(url, system, root, there, parts | (begun or frozenset()))


def _published(system: Any, root: str) -> dict[str, Any] | None:
    """The manifest of the run at a place, None where there is none, or another program's."""
    try:
        return parse_manifest(system.cat_file(f"{root}/{MANIFEST}"))
    except FileNotFoundError:
        return None


def _begun(system: Any, root: str) -> frozenset[str] | None:
    """Parts of runs at a place where files were being copied, None if that note was never finished."""
    try:
        return frozenset(orjson.loads(system.cat_file(f"{root}/{_PLACING}")))
    except orjson.JSONDecodeError:
        return None


def _stale(place: _Place, files: Mapping[str, int]) -> tuple[str, ...]:
    """Parts of what was published at a place that the new run does not have."""
    return tuple(sorted(path for path in place.ours & place.there.keys() if path not in files))


def _bring(system: Any, source: str, target: Path, size: int, wanted: str | None, same: bool) -> None:
    """Download a file, unless it is here: by its digest, or by size if the manifest did not change."""
    if target.is_file() and target.stat().st_size == size and (same or file_digest(target) == wanted):
        return
    with replacing(target) as temporary:
        system.get_file(source, str(temporary))


def _files(folder: Path) -> list[str]:
    """Files in the directory of a run, but for the manifest and hidden ones."""
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
    return {
        name.removeprefix(root).lstrip("/"): int(entry["size"] or 0)
        for name, entry in found.items()
        if entry["type"] != "directory" and not name.endswith("/")  # some stores keep markers for folders
    }


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


def _put_in_place(place: _Place, staging: str, plan: Upload, manifest: bytes) -> None:
    system, root = place.system, place.root
    parts = place.ours | plan.files.keys()
    _make_parent(system, f"{root}/{_PLACING}")
    system.pipe_file(f"{root}/{_PLACING}", orjson.dumps(sorted(parts)))  # whoever goes on has no manifest to ask
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


def _upload_to_hub(folder: Path, url: str, files: dict[str, int], dry_run: bool) -> Upload:
    """One commit to a dataset repository: the hub shows all of it or nothing."""
    from huggingface_hub import HfApi

    parts = open_place(url)[1].split("/")
    if parts[0] != "datasets" or len(parts) < 3:
        raise RecipeError(f"{url}: a dataset repository is named hf://datasets/OWNER/NAME")
    if dry_run:
        return Upload(url, files, frozenset(), ())
    api, name = HfApi(), "/".join(parts[1:3])
    api.create_repo(name, repo_type="dataset", exist_ok=True, private=True)
    stale = _stale(_look(url), files)
    api.upload_folder(
        repo_id=name, repo_type="dataset", folder_path=folder, path_in_repo="/".join(parts[3:]) or None,
        allow_patterns=[*files, MANIFEST], delete_patterns=list(stale) or None,
        commit_message=f"curatrix: {read_json(folder / MANIFEST)['name']}",
    )  # fmt: skip
    return Upload(url, files, frozenset(), stale)
