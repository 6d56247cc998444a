"""From a model back to its rows: what every checkpoint says about its data and settings, and what may go on from it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any, Final

from jobs.sft_config import FREE, SftConfig
from jobs.sft_source import Source
from pipelines.files import read_json, write_json
from schemas.errors import RecipeError

TRACE: Final = "curatrix.json"
"""Written into a checkpoint last: a checkpoint without it is unfinished."""
_STEP: Final = re.compile(r"^checkpoint-(\d+)$")


def trace_of(source: Source, config: SftConfig, tokens: str, ranks: int) -> dict[str, Any]:
    """What a checkpoint records: the run (name, fingerprint, digests of manifest and data), the token files' key, the
    settings, and the number of ranks."""
    return {"run": source.trace(), "tokens": tokens, "ranks": ranks, "config": config.model_dump(mode="json")}


def claim(out: Path, trace: dict[str, Any]) -> None:
    """Take the output folder for this job. RecipeError where it holds something else, or another job."""
    if out.is_dir() and any(out.iterdir()):
        if not (out / TRACE).exists():
            raise RecipeError(f"{out} is not empty and not a fine-tuning job; choose another 'out'")
        found = difference(read_json(out / TRACE), trace)
        if found:
            raise RecipeError(f"{out} holds a job with another {found}; choose another 'out', or remove that folder")
    write_json(out / TRACE, trace)


def difference(before: dict[str, Any], now: dict[str, Any]) -> str | None:
    """The first thing in which two traces differ that matters to what is learnt: `key (before, now)`; None: nothing."""
    old, new = _essence(before), _essence(now)
    for key in sorted({*old, *new}):
        if old.get(key) != new.get(key):
            return f"{key} ({old.get(key)}, now {new.get(key)})"
    return None


def _essence(trace: dict[str, Any]) -> dict[str, Any]:
    settings = {key: value for key, value in trace["config"].items() if key not in FREE}
    data = {"data": trace["run"]["data_digest"], "tokens": trace["tokens"], "ranks": trace["ranks"]}
    return {**settings, **data}


def checkpoints(out: Path) -> list[Path]:
    """Finished checkpoints, oldest first."""
    found = [(int(match[1]), path) for path in out.glob("checkpoint-*") if (match := _STEP.match(path.name))]
    return [path for _, path in sorted(found) if (path / TRACE).exists()]


def newest(out: Path) -> Path | None:
    """The newest finished checkpoint; unfinished ones, which a killed job left, are removed."""
    finished = checkpoints(out)
    for path in out.glob("checkpoint-*"):
        if path not in finished:
            shutil.rmtree(path)
    return finished[-1] if finished else None


def forget(out: Path) -> None:
    """Remove all checkpoints: the job starts anew."""
    for path in out.glob("checkpoint-*"):
        shutil.rmtree(path)
