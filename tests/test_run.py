"""Whole runs in one process: every row accounted for, nothing computed twice, and the output opens everywhere."""

from __future__ import annotations

import gzip
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import datasets
import duckdb
import fsspec
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from makes import alpaca_rows, nothing, run_here, tree, write_jsonl, write_recipe

from pipelines import registry
from pipelines.executor import LocalExecutor
from pipelines.progress import Silent
from pipelines.recipe_file import load_recipe
from pipelines.run import Settings, run
from pipelines.store import Store
from reports.catalog import catalog_sql
from schemas.errors import GateError, RecipeError, RunError
from stages.contract import Decisions, Scores, Stage, State

STAGES = [{"dedup": {"threshold": 0.8}}, "length", {"sample": {"keep": 0.9}}]


def entry(manifest: Mapping[str, Any], label: str) -> dict[str, Any]:
    return next(stage for stage in manifest["stages"] if stage["stage"] == label)


def test_every_row_is_accounted_for(tmp_path: Path) -> None:
    rows = alpaca_rows(300)
    write_jsonl(tmp_path / "rows.jsonl", [*rows, *rows[:50], {**rows[60], "output": rows[60]["output"] + " indeed"}])
    manifest = run_here(write_recipe(tmp_path, stages=STAGES), tmp_path / "out", tmp_path / "store")
    for stage in manifest["stages"]:
        assert stage["rows_in"] == stage["kept"] + stage["dropped"] + stage["quarantined"]
        assert stage["rows_in"] == sum(source["rows_in"] for source in stage["by_source"].values())
    assert entry(manifest, "dedup")["reasons"] == {"duplicate: exact": 50, "duplicate: near": 1}
    decisions = pq.read_table(tmp_path / "out/lineage/decisions").to_pylist()
    assert sum(row["stage"] == "ingest" for row in decisions) == 351
    assert sum(row["stage"] == "dedup" for row in decisions) == 351
    assert sum(row["stage"] == "length" for row in decisions) == 300
    kept = {row["record_id"] for row in decisions if row["stage"] == "sample" and row["keep"]}
    data = pq.read_table(tmp_path / "out/data")
    assert set(data["record_id"].to_pylist()) == kept
    assert manifest["splits"] == {"train": len(kept)}
    origins = [json.loads(row["detail"])["origin"] for row in decisions if row["stage"] == "ingest"]
    assert origins[7] == "rows.jsonl#7"


def test_same_bytes_whatever_the_workers_the_store_and_the_folder(tmp_path: Path) -> None:
    for name, workers in (("a", 1), ("b", 2)):
        write_jsonl(tmp_path / name / "rows.jsonl", alpaca_rows(200) + alpaca_rows(20))
        recipe = write_recipe(
            tmp_path / name, stages=STAGES, export={"splits": {"validation": 0.2}, "rows_per_file": 70}
        )
        run_here(recipe, tmp_path / name / "out", tmp_path / f"store-{name}", workers=workers)
    for part in ("data", "lineage"):
        assert tree(tmp_path / "a/out" / part) == tree(tmp_path / "b/out" / part)


def test_a_second_run_has_nothing_to_do_and_a_changed_one_rescores_only_what_it_must(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(200))
    recipe, out, store = write_recipe(tmp_path, stages=STAGES), tmp_path / "out", tmp_path / "store"
    first = run_here(recipe, out, store)
    before = tree(out)
    assert run_here(recipe, out, store) == first
    assert tree(out) == before
    second = run_here(recipe, out, store, ["stages.dedup.threshold=0.5"])
    assert entry(second, "dedup")["counters"] == {"scored": 0, "cached": 200, "decided": True}
    assert second["ingest"]["chunks_read"] == 0
    third = run_here(recipe, out, store, ["stages.dedup.shingle_size=3"])
    assert entry(third, "dedup")["counters"]["scored"] == 200
    assert entry(third, "length")["counters"]["scored"] == 0


def test_two_percent_new_rows_score_two_percent(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in/a.jsonl", alpaca_rows(500))
    recipe = write_recipe(tmp_path, sources=[{"name": "s", "path": "in/*.jsonl"}], stages=STAGES)
    run_here(recipe, tmp_path / "out", tmp_path / "store")
    write_jsonl(tmp_path / "in/b.jsonl", alpaca_rows(10, seed=1))
    manifest = run_here(recipe, tmp_path / "out", tmp_path / "store")
    assert entry(manifest, "dedup")["counters"] == {"scored": 10, "cached": 500, "decided": True}
    assert manifest["ingest"] == {"chunks_read": 1, "chunks_cached": 1}


def test_the_output_opens_in_everything_when_one_part_lost_every_row(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in/a.jsonl", alpaca_rows(40))
    write_jsonl(tmp_path / "in/b.jsonl", alpaca_rows(40))  # all duplicates of a
    write_jsonl(
        tmp_path / "in/c.jsonl",
        [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}],
    )
    recipe = write_recipe(
        tmp_path, sources=[{"name": "s", "path": "in"}], stages=["dedup"], export={"rows_per_file": 25}
    )
    out = tmp_path / "out"
    manifest = run_here(recipe, out, tmp_path / "store")
    (out / "catalog.sql").write_text(catalog_sql(out, manifest))
    files = sorted(str(path) for path in (out / "data").glob("*.parquet"))
    assert [Path(name).name for name in files] == ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]
    assert all(pq.read_metadata(name).row_group(0).num_rows > 0 for name in files)
    assert len(datasets.load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))) == 41
    assert duckdb.sql(f"SELECT count(*) FROM '{out}/data/*.parquet'").fetchall() == [(41,)]
    assert len(pl.read_parquet(f"{out}/data/*.parquet")) == 41
    assert len(pd.read_parquet(out / "data")) == 41


def test_a_run_that_keeps_nothing_says_so(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(5))
    manifest = run_here(
        write_recipe(tmp_path, stages=[{"length": {"min_words": 9999}}]), tmp_path / "out", tmp_path / "store"
    )
    assert manifest["splits"] == {}
    assert not (tmp_path / "out/data").exists()


def test_bad_rows_are_quarantined_with_their_bytes_and_their_neighbours_live(tmp_path: Path) -> None:
    good = [json.dumps(row).encode() for row in alpaca_rows(4)]
    bad = [
        b'{"instruction": "cut',
        b'{"instruction": "\xff"}',
        b'{"instruction": "x"}',
        b'{"instruction": 3, "output": 4}',
    ]
    lines = [line for pair in zip(good, bad, strict=True) for line in pair]
    (tmp_path / "rows.jsonl").write_bytes(b"\n".join(lines))
    recipe = write_recipe(tmp_path, max_quarantine=0.5)
    manifest = run_here(recipe, tmp_path / "out", tmp_path / "store")
    quarantine = pq.read_table(tmp_path / "out/quarantine").to_pylist()
    assert [row["raw"] for row in quarantine] == bad
    assert [row["line"] for row in quarantine] == [2, 4, 6, 8]
    assert manifest["quarantine"]["rows"] == 4
    assert manifest["splits"] == {"train": 4}


def test_too_much_quarantine_stops_the_run_and_names_rows(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps(alpaca_rows(1)[0]) + "\n{broken\n")
    with pytest.raises(GateError, match=r"(?s)1 of 2 rows \(50\.0%\).*invalid_json 1.*rows\.jsonl, line 2"):
        run_here(write_recipe(tmp_path), tmp_path / "out", tmp_path / "store")
    assert not (tmp_path / "out/manifest.json").exists()


def test_max_source_loss_is_a_gate(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(10) * 2)
    recipe = write_recipe(tmp_path, stages=["dedup"], max_source_loss=0.4)
    with pytest.raises(GateError, match="'rows' lost 10 of 20"):
        run_here(recipe, tmp_path / "out", tmp_path / "store")


class Fussy(Stage):
    """Fails on rows that mention a word; counts characters of the others."""

    name: ClassVar[str] = "fussy"
    reads: ClassVar[tuple[str, ...]] = ("completion",)

    def score(self, batch: pa.RecordBatch, state: State) -> pa.RecordBatch:
        texts = batch["completion"].to_pylist()
        if any("poison" in text for text in texts):
            raise ValueError("poison found")
        return pa.RecordBatch.from_pydict({"chars": [len(text) for text in texts]})

    def decide(self, scores: Scores) -> Decisions:
        chars = scores.table(["chars"])["chars"].to_numpy()
        return Decisions(chars > 0, ["long enough"] * len(chars), score=chars.astype(float))


@pytest.fixture
def fussy(monkeypatch: pytest.MonkeyPatch) -> None:
    known = registry.stage_class
    monkeypatch.setattr("pipelines.recipe_file.stage_class", lambda name: Fussy if name == "fussy" else known(name))


@pytest.mark.usefixtures("fussy")
def test_a_row_that_a_stage_cannot_score_goes_to_quarantine_with_its_twins(tmp_path: Path) -> None:
    rows = alpaca_rows(60)
    rows[17]["output"] = "poison"
    write_jsonl(tmp_path / "rows.jsonl", [*rows, rows[17]])
    manifest = run_here(
        write_recipe(tmp_path, stages=["fussy"], max_quarantine=0.1), tmp_path / "out", tmp_path / "store"
    )
    stage = entry(manifest, "fussy")
    assert (stage["rows_in"], stage["kept"], stage["quarantined"]) == (61, 59, 2)
    assert stage["counters"]["scored"] == 59
    held = pq.read_table(tmp_path / "out/quarantine/01-fussy.parquet").to_pylist()
    assert {row["error"] for row in held} == {"poison found"}
    assert json.loads(held[0]["raw"])["completion"] == "poison"
    assert len({row["record_id"] for row in held}) == 2


def test_a_rewrite_changes_content_and_says_what_it_was(tmp_path: Path) -> None:
    rows = alpaca_rows(3)
    rows[1]["output"] = "with\r\nold line ends"
    write_jsonl(tmp_path / "rows.jsonl", rows)
    manifest = run_here(write_recipe(tmp_path, stages=["clean", "length"]), tmp_path / "out", tmp_path / "store")
    changed = pq.read_table(tmp_path / "out/lineage/rewrites").to_pylist()
    assert len(changed) == 1
    assert json.loads(changed[0]["before"])["completion"] == "with\r\nold line ends"
    assert json.loads(changed[0]["after"])["completion"] == "with\nold line ends"
    data = {row["record_id"]: row for row in pq.read_table(tmp_path / "out/data").to_pylist()}
    row = data[changed[0]["record_id"]]
    assert row["completion"] == "with\nold line ends"
    assert row["content_hash"] == changed[0]["content_hash_after"] != changed[0]["content_hash_before"]
    assert entry(manifest, "clean")["counters"]["scored"] == 3


def test_splits_follow_content(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(200) * 2)
    recipe = write_recipe(tmp_path, export={"splits": {"validation": 0.2, "test": 0.1}})
    manifest = run_here(recipe, tmp_path / "out", tmp_path / "store")
    parts = {
        name: set(pq.read_table(next((tmp_path / "out/data").glob(f"{name}-*")))["content_hash"].to_pylist())
        for name in ("train", "validation", "test")
    }
    assert sum(map(len, parts.values())) == 200
    assert 20 <= len(parts["validation"]) <= 60
    assert sum(manifest["splits"].values()) == 400


def test_lineage_drops_keeps_only_drops(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(20) + alpaca_rows(3))
    run_here(write_recipe(tmp_path, stages=["dedup", "length"], lineage="drops"), tmp_path / "out", tmp_path / "store")
    files = sorted(path.name for path in (tmp_path / "out/lineage/decisions").iterdir())
    assert files == ["01-dedup.parquet"]
    assert pq.read_table(tmp_path / "out/lineage/decisions")["keep"].to_pylist() == [False] * 3


def test_a_new_run_replaces_the_old_one_and_leaves_nothing_of_it(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(20) + alpaca_rows(3))
    recipe = write_recipe(tmp_path, stages=["dedup"])
    run_here(recipe, tmp_path / "out", tmp_path / "store", ["export.rows_per_file=5"])
    run_here(recipe, tmp_path / "out", tmp_path / "store", ["stages=[]"])
    assert sorted(path.name for path in (tmp_path / "out/data").iterdir()) == ["train-00000-of-00001.parquet"]
    assert not (tmp_path / "out/lineage/decisions/01-dedup.parquet").exists()
    assert not (tmp_path / "out/.curatrix").exists()


def test_foreign_directories_are_left_alone(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(2))
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter1.tex").write_text("precious")
    with pytest.raises(RecipeError, match=r"not empty.*chapter1\.tex"):
        run_here(write_recipe(tmp_path), tmp_path / "thesis", tmp_path / "store")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("row.jsonl", r"rows\.jsonl"),
        ("*.parquet", "parquet"),
        ("nowhere/x.jsonl", "nowhere"),
        ("memory://no/such.jsonl", "such"),
    ],
)
def test_missing_inputs_are_recipe_errors(tmp_path: Path, path: str, words: str) -> None:
    write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(2))
    recipe = write_recipe(tmp_path, sources=[{"name": "s", "path": path}])
    with pytest.raises(RecipeError, match=words):
        run_here(recipe, tmp_path / "out", tmp_path / "store")
    assert not (tmp_path / "out").exists()


def test_an_input_without_a_record_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("\n\n")
    with pytest.raises(RunError, match="no source has a single usable record"):
        run_here(write_recipe(tmp_path), tmp_path / "out", tmp_path / "store")


def test_an_evaluation_set_that_breaks_off_is_an_error(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(3))
    whole = gzip.compress(b"".join(json.dumps(row).encode() + b"\n" for row in alpaca_rows(2_000, seed=1)))
    (tmp_path / "evals.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    recipe = write_recipe(tmp_path, stages=[{"decontaminate": {"against": ["evals.jsonl.gz"]}}])
    with pytest.raises(RecipeError, match=r"'decontaminate', .*evals\.jsonl\.gz breaks off"):
        run_here(recipe, tmp_path / "out", tmp_path / "store")


def test_a_mapping_names_columns_by_hand(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", [{"q": {"de": "Wie spät?"}, "a": "Neun.", "x": 1}])
    source = {"name": "s", "path": "rows.jsonl", "mapping": {"prompt": "q.de", "completion": "a"}}
    run_here(write_recipe(tmp_path, sources=[source]), tmp_path / "out", tmp_path / "store")
    row = pq.read_table(tmp_path / "out/data").to_pylist()[0]
    assert (row["prompt"], row["completion"]) == ("Wie spät?", "Neun.")
    assert json.loads(row["meta"])["x"] == 1
    assert [turn["content"] for turn in row["messages"]] == ["Wie spät?", "Neun."]


def test_an_earlier_run_is_a_source_with_the_same_content(tmp_path: Path) -> None:
    chat = [{"role": "system", "content": "s"}, {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    write_jsonl(tmp_path / "rows.jsonl", [*alpaca_rows(30), {"messages": chat}, {"text": "plain text", "id": "t1"}])
    run_here(write_recipe(tmp_path), tmp_path / "first", tmp_path / "store")
    again = write_recipe(tmp_path, sources=[{"name": "old", "path": "first"}])
    run_here(again, tmp_path / "second", tmp_path / "store")
    first, second = (pq.read_table(tmp_path / name / "data").to_pylist() for name in ("first", "second"))
    assert [row["content_hash"] for row in second] == [row["content_hash"] for row in first]
    assert [row["messages"] for row in second] == [row["messages"] for row in first]


def test_every_related_id_is_a_record_of_the_run(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in/a.jsonl", alpaca_rows(40))
    write_jsonl(tmp_path / "in/b.jsonl", alpaca_rows(40))
    recipe = write_recipe(tmp_path, sources=[{"name": "s", "path": "in"}], stages=["dedup"])
    run_here(recipe, tmp_path / "out", tmp_path / "store")
    known = set(pq.read_table(tmp_path / "out/lineage/decisions/00-ingest.parquet")["record_id"].to_pylist())
    decisions = pq.read_table(tmp_path / "out/lineage/decisions/01-dedup.parquet").to_pylist()
    related = {row["related_id"] for row in decisions if not row["keep"]}
    assert len(related) == 40
    assert related <= known


def test_a_datasets_folder_and_an_fsspec_url_are_sources(tmp_path: Path) -> None:
    rows = alpaca_rows(30)
    datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "saved"))
    url = "memory://made/rows.jsonl"
    with fsspec.open(url, "w") as handle:
        handle.write("".join(json.dumps(row) + "\n" for row in alpaca_rows(20, seed=1)))
    sources = [{"name": "saved", "dataset": "saved"}, {"name": "remote", "path": url}]
    manifest = run_here(write_recipe(tmp_path, sources=sources), tmp_path / "out", tmp_path / "store")
    assert {source["name"]: source["rows"] for source in manifest["sources"]} == {"saved": 30, "remote": 20}
    prompts = pq.read_table(tmp_path / "out/data")["prompt"].to_pylist()
    assert prompts[:30] == [row["instruction"] for row in rows]


def test_files_of_an_archive_are_understood_one_by_one(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in/a.jsonl", alpaca_rows(5))
    write_jsonl(tmp_path / "in/b.jsonl", [{"text": f"plain text number {n}"} for n in range(5)])
    with tarfile.open(tmp_path / "both.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "in", arcname="in")
    recipe = write_recipe(tmp_path, sources=[{"name": "s", "path": "both.tar.gz"}])
    manifest = run_here(recipe, tmp_path / "out", tmp_path / "store")
    assert manifest["sources"][0]["files"][0]["adapter"] == "alpaca, text"
    assert manifest["splits"] == {"train": 10}


def test_limit_reads_only_the_first_rows_of_every_file(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in/a.jsonl", alpaca_rows(50))
    write_jsonl(tmp_path / "in/b.jsonl", alpaca_rows(3, seed=1))
    recipe = load_recipe(write_recipe(tmp_path, sources=[{"name": "s", "path": "in"}]))
    with LocalExecutor(1) as executor:
        settings = Settings(tmp_path / "out", Store(tmp_path / "store"), executor, Silent(), nothing, limit=10)
        manifest = run(recipe, settings)
    assert manifest["splits"] == {"train": 13}
