"""What `trajectories` keeps of real agent traces, and whether it agrees with the traces' own flags.

    python bench/trajectories.py FOLDER

FOLDER holds tau_bench*, mint*, fireact*, intercode*, webdancer*, swe_agent*, reflexion*, *pcmb* as .jsonl.gz; those
that are missing are left out. `flag` is read straight from the files, without Curatrix. Each file runs with the
parameters of `_FILES`, and once more with `per_task: 1`. Prints Markdown.
"""

from __future__ import annotations

import argparse
import gzip
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson
import pyarrow.parquet as pq
import yaml

from pipelines.executor import LocalExecutor
from pipelines.progress import Silent
from pipelines.recipe_file import load_recipe
from pipelines.run import Settings, run
from pipelines.store import Store

Row = Mapping[str, Any]


class Trace(NamedTuple):
    """A file, its own flag (None: it has none), and how the stage is told to read it."""

    pattern: str
    flag: Callable[[Row], bool] | None
    parameters: Mapping[str, Any] = {}


_FILES: Final = (
    Trace("tau_bench*", lambda row: row["reward"] == 1, {"task": "source_id"}),
    Trace("mint*", lambda row: row["state"]["success"]),
    Trace("fireact_hotpotqa*", lambda row: row["reward"], {"task": "source_id"}),
    Trace("intercode*", lambda row: row["summary"]["max_reward"] == 1),
    Trace("reflexion_humaneval*", lambda row: row["is_solved"], {"kinds": "all", "flag": {"field": "is_solved"}}),
    Trace("*pcmb*", lambda row: row["answer_letter"] == row["predicted_letter"], {"kinds": "all"}),
    Trace("webdancer*", None),
    Trace("swe_agent*", None, {"flag": {"field": "info.exit_status", "values": ["submitted"]}}),
)


def flagged(path: Path, flag: Callable[[Row], bool] | None) -> str:
    """How many rows of a file its own flag marks."""
    lines = [line for line in gzip.decompress(path.read_bytes()).split(b"\n") if line]
    marked = "–" if flag is None else str(sum(bool(flag(orjson.loads(line))) for line in lines))
    return f"{marked} of {len(lines)}"


def judged(path: Path, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The decisions of a run of the stage over one file."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name, LocalExecutor(1) as executor:
        folder = Path(name)
        sources = [{"name": "trace", "path": str(path)}]
        recipe = {"name": "bench", "sources": sources, "stages": [{"trajectories": dict(parameters)}]}
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        settings = Settings(folder / "out", Store(folder / "store"), executor, Silent(), lambda *_: {})
        run(load_recipe(folder / "recipe.yaml", ()), settings)
        files = sorted((folder / "out/lineage/decisions").glob("*trajectories*.parquet"))
        return [row for file in files for row in pq.read_table(file).to_pylist()]


def line(path: Path, trace: Trace) -> str:
    """One file's row of the table."""
    rows = judged(path, trace.parameters)
    best = sum(row["keep"] for row in judged(path, {**trace.parameters, "per_task": 1}))
    successes = sum(orjson.loads(row["detail"]).get("success", False) for row in rows if row["detail"])
    dropped = Counter(row["reason"].partition(";")[0] for row in rows if not row["keep"])
    why = ", ".join(f"{count} {kind}" for kind, count in dropped.most_common())
    kept = sum(row["keep"] for row in rows)
    return f"| {path.name.split('.')[0]} | {flagged(path, trace.flag)} | {successes} | {kept} | {why} | {best} |"


def main() -> None:
    """Print a table, one row per file found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    print(
        "| file | flag in the file | successes found | kept | dropped | kept, 1 per task |\n|---|---|---|---|---|---|"
    )
    for trace in _FILES:
        for path in sorted(options.folder.glob(f"{trace.pattern}.jsonl.gz")):
            print(line(path, trace))


if __name__ == "__main__":
    main()
