"""A week of nightly runs: work in proportion to what is new, and the same dataset as one run over the last state."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
from makes import alpaca_rows, run_here, tree, write_jsonl, write_recipe

from pipelines.files import read_json
from pipelines.publish import WORK, finish_publishing

ROWS, NIGHTS = 2_000, 7
STAGES: list[Any] = ["clean", {"dedup": {"threshold": 0.8}}, "length", {"sample": {"keep": 0.9}}]


def _tonight(rows: list[dict[str, str]], night: int, rng: random.Random) -> list[dict[str, str]]:
    """3% new rows, 1% changed, 0.5% removed."""
    rows = [row for row in rows if rng.random() >= 0.005]
    changed = [{**row, "output": f"{row['output']} night {night}"} if rng.random() < 0.01 else row for row in rows]
    return changed + alpaca_rows(round(0.03 * len(rows)), seed=1000 + night)


def test_a_week_of_nights(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, stages=STAGES, export={"delta": True})
    rng, rows = random.Random(7), alpaca_rows(ROWS)
    before: set[str] = set()
    for night in range(NIGHTS):
        rows = _tonight(rows, night, rng) if night else rows
        write_jsonl(tmp_path / "rows.jsonl", rows)
        manifest = run_here(recipe, tmp_path / "out", tmp_path / "store")
        now = _hashes(tmp_path / "out/data")
        assert _hashes(tmp_path / "out/delta") == now - before
        for stage in manifest["stages"]:
            counters = stage["counters"]
            assert night == 0 or counters["scored"] <= 0.06 * len(rows), stage["stage"]
        before = now
    run_here(recipe, tmp_path / "whole", tmp_path / "fresh-store")
    assert tree(tmp_path / "out/data") == tree(tmp_path / "whole/data")
    assert tree(tmp_path / "out/lineage") == tree(tmp_path / "whole/lineage")


def _hashes(folder: Path) -> set[str]:
    return {value for path in folder.glob("*.parquet") for value in pq.read_table(path)["content_hash"].to_pylist()}


def test_the_first_run_is_all_new(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(20))
    recipe = write_recipe(tmp_path, export={"delta": True})
    manifest = run_here(recipe, tmp_path / "out", tmp_path / "store")
    assert manifest["delta"] == {"splits": {"train": 20}, "since": None}


def test_a_publication_that_was_killed_is_finished(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(20))
    recipe = write_recipe(tmp_path, export={"delta": True})
    manifest = run_here(recipe, tmp_path / "out", tmp_path / "store")
    run_here(recipe, tmp_path / "other", tmp_path / "store")
    wanted = tree(tmp_path / "other/data")
    work = tmp_path / "out" / WORK / manifest["run_fingerprint"]  # as if the kill came after `data` was moved
    work.mkdir(parents=True)
    (tmp_path / "out/delta").rename(work / "delta")
    (tmp_path / "out/lineage").rename(work / "lineage")
    (tmp_path / "out/manifest.json").unlink()
    names = ["data", "delta", "lineage"]
    (work / ".publishing.json").write_bytes(orjson.dumps({"names": names, "manifest": manifest}))
    assert run_here(recipe, tmp_path / "out", tmp_path / "store") == manifest
    assert tree(tmp_path / "out/data") == wanted
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir()) == names
    assert read_json(tmp_path / "out/manifest.json") == manifest
    assert finish_publishing(tmp_path / "out", work) is None
