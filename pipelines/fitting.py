"""Fitting: what a stage learns from files or from the pool, stored under everything it depends on."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import xxhash

from pipelines.extras import Extras
from pipelines.ids import digest_ids
from pipelines.pool import RunPool
from pipelines.scoring import save_state
from pipelines.store import Store
from schemas.hashing import fingerprint
from stages.contract import Stage, State

Tell = Callable[[str], None]


def fit_stage(stage: Stage, scorer: str, pool: RunPool, extras: Extras, store: Store, tell: Tell) -> Path | None:
    """The fitted state's file, fitted now if the store does not have it; None for a stage that does not fit.

    `scorer` is the fingerprint of the stage's parameters and versions; `tell` shows people what `fit` is doing.
    """
    if stage.fits_on() == "nothing":
        return None
    seen = digest_ids(pool.living_hashes()).hex() if stage.fits_on() == "pool" else ""
    path = store.state(stage.name, fingerprint({"fit": scorer, "pool": seen, "inputs": extras.keys}))
    with _alone(path.parent):
        if not path.exists():
            pool.scratch = path.parent / "scratch"
            pool.scratch.mkdir(exist_ok=True)
            pool.progress = lambda doing, done, total: tell(f"{doing}: {done:,} of {total:,}")
            save_state(path, stage.fit(pool, extras.pools))
        shutil.rmtree(path.parent / "scratch", ignore_errors=True)
    return path


def state_digest(state: State) -> bytes:
    """A digest of a fitted state's names and values; nothing for an empty one."""
    if not state:
        return b""
    hasher = xxhash.xxh3_128()
    for name, array in sorted(state.items()):
        hasher.update(name.encode())
        hasher.update(array.tobytes())
    return hasher.digest()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two runs that need the same state do not fit it twice: the second waits."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
