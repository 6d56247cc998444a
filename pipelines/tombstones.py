"""Contents that people asked to have removed: the store remembers their hashes, and no run takes them in again."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.files import read_json, write_json
from pipelines.ids import Ids, Index, from_hex, join
from pipelines.pool import RunPool
from schemas.hashing import fingerprint
from stages.contract import BoolArray

REASON = "forgotten"


def read_tombstones(store: Path) -> dict[str, dict[str, Any]]:
    """Why and when (UTC, ISO 8601) each content was removed, by content hash."""
    path = _path(store)
    found: dict[str, dict[str, Any]] = read_json(path) if path.exists() else {}
    return found


def add_tombstones(store: Path, hashes: Iterable[str], reason: str) -> None:
    """Remember contents as removed; what was remembered before stays as it was."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    known = read_tombstones(store)
    write_json(_path(store), {**{name: {"at": now, "reason": reason} for name in sorted(hashes)}, **known})


def tombstones_fingerprint(store: Path) -> str:
    """Changes with every removal; empty while there was none."""
    known = read_tombstones(store)
    return fingerprint(sorted(known)) if known else ""


def bury(pool: RunPool, store: Path) -> BoolArray:
    """Take forgotten records out of the pool; returns which they were, shape (all records,)."""
    known = read_tombstones(store)
    if not known:
        return np.zeros(len(pool.alive), np.bool_)
    gone = contained(pool.content_hashes, known)
    pool.alive &= ~gone
    return gone


def contained(ids: Ids, hashes: Iterable[str]) -> BoolArray:
    """Which of `ids` are among the hex `hashes`, shape (n,)."""
    wanted = from_hex(pa.array(sorted(hashes), pa.string()))
    return Index(wanted).find(join([ids])) >= 0


def _path(store: Path) -> Path:
    return store / "forgotten.json"
