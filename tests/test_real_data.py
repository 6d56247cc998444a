"""A recipe over real public files in their wild schemas: nothing unaccounted for, and the known facts come out."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from makes import run_here, write_recipe

INSTRUCT = (
    "alpaca_52k_rows_00000_42147", "alpagasus_random_9k", "alpagasus_claude_t45", "cherry_alpaca_5_percent",
    "alpaca_data_cleaned_first_1000", "fastchat_dummy_conversation", "gpteacher_codegen", "new_codealpaca",
    "llamafactory_dpo_en_demo", "llamafactory_kto_en_demo", "llamafactory_glaive_toolcall_en_demo",
    "llamafactory_v1_sft_demo", "natural_instructions_tasks", "oasst_en_100_trees", "self_instruct_seed_tasks",
    "pandalm_testset", "arena_hard_v0.1_gpt4_answers",
)  # fmt: skip
CODE = (
    "mbpp_001_600", "mbpp_plus_v0.1.0_ids_le_600", "humaneval", "leetcode_dataset_v0.2.0_train",
    "leetcode_dataset_v0.3.0_test_minus_v0.3.1", "reflexion_leetcode_hard_296", "icpc_packages_misc_mzuenni",
    "exercism_python_practice", "quixbugs_python", "sandboxfusion_code_eval_code_contests",
)  # fmt: skip


@pytest.fixture(scope="module")
def instruct(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("instruct")
    sources = [{"name": name, "path": str(shared_data / f"instruct/{name}.jsonl.gz")} for name in INSTRUCT]
    recipe = write_recipe(folder, sources=sources, stages=[{"dedup": {"mode": "exact"}}])
    return folder / "out", run_here(recipe, folder / "out", folder / "store", workers=2)


@pytest.fixture(scope="module")
def code(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("code")
    sources = [{"name": name, "path": str(shared_data / f"code/{name}.jsonl.gz")} for name in CODE]
    recipe = write_recipe(folder, sources=sources, stages=["tests"])
    return folder / "out", run_here(recipe, folder / "out", folder / "store", workers=2)


def test_the_funnel_adds_up_per_source(
    instruct: tuple[Path, dict[str, Any]], code: tuple[Path, dict[str, Any]]
) -> None:
    for _, manifest in (instruct, code):
        left = {source["name"]: source["rows"] for source in manifest["sources"]}
        for stage in manifest["stages"]:
            for name, counts in stage["by_source"].items():
                assert counts["rows_in"] == left[name]
                assert counts["rows_in"] == counts["kept"] + counts["dropped"] + counts["quarantined"]
                left[name] = counts["kept"]
        assert sum(left.values()) == sum(manifest["splits"].values())


def test_row_counts_are_the_documented_ones(instruct: tuple[Path, dict[str, Any]]) -> None:
    rows = {source["name"]: source["rows"] for source in instruct[1]["sources"]}
    assert rows["alpaca_52k_rows_00000_42147"] == 42_148
    assert rows["natural_instructions_tasks"] == 18_969
    assert instruct[1]["quarantine"] == {"rows": 6, "by_kind": {"wrong_type": 6}}  # pandalm: `true` for an answer


def test_alpaca_subsets_are_duplicates_of_the_alpaca_slice(instruct: tuple[Path, dict[str, Any]]) -> None:
    out, manifest = instruct
    by_source = manifest["stages"][0]["by_source"]
    assert by_source["alpagasus_random_9k"] == {"rows_in": 7474, "kept": 0, "dropped": 7474, "quarantined": 0}
    assert by_source["alpagasus_claude_t45"]["dropped"] == 4323
    assert by_source["cherry_alpaca_5_percent"]["dropped"] == 2067
    decisions = pq.read_table(out / "lineage/decisions/01-dedup.parquet").to_pylist()
    source_of = {row["record_id"]: row["source"] for row in decisions}
    twins = [source_of[row["related_id"]] for row in decisions if row["source"] == "alpagasus_random_9k"]
    assert set(twins) == {"alpaca_52k_rows_00000_42147"}


def test_code_problems_with_too_few_tests_fall(code: tuple[Path, dict[str, Any]]) -> None:
    out, manifest = code
    by_source = manifest["stages"][0]["by_source"]
    assert by_source["mbpp_001_600"]["dropped"] == 600
    assert by_source["reflexion_leetcode_hard_296"]["dropped"] == 296
    assert by_source["leetcode_dataset_v0.2.0_train"]["dropped"] == 1844
    assert by_source["leetcode_dataset_v0.3.0_test_minus_v0.3.1"]["dropped"] == 104
    assert by_source["icpc_packages_misc_mzuenni"]["dropped"] == 12  # 11 have fewer than five, one repeats a test
    decisions = pq.read_table(out / "lineage/decisions/01-tests.parquet").to_pylist()
    reasons = {row["reason"] for row in decisions if row["source"] == "reflexion_leetcode_hard_296"}
    assert reasons == {"tests: none"}


def test_planted_pairs_are_found_and_no_other(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "neardup"
    source = {"name": "news", "path": str(folder / "mccormick_articles_1000.jsonl.gz")}
    recipe = write_recipe(tmp_path, sources=[source], stages=[{"dedup": {"threshold": 0.9}}])
    run_here(recipe, tmp_path / "out", tmp_path / "store")
    decisions = pq.read_table(tmp_path / "out/lineage/decisions/01-dedup.parquet").to_pylist()
    name = {row["record_id"]: row["source_id"] for row in decisions}
    found = {frozenset((row["source_id"], name[row["related_id"]])) for row in decisions if not row["keep"]}
    lines = gzip.decompress((folder / "mccormick_articles_1000_truth.jsonl.gz").read_bytes()).splitlines()
    truth = {frozenset((row["id_a"], row["id_b"])) for row in map(json.loads, lines)}
    assert found == truth
    assert len(truth) == 10


def test_content_hashes_survive_arrow_for_every_real_record(
    instruct: tuple[Path, dict[str, Any]], code: tuple[Path, dict[str, Any]]
) -> None:
    from schemas.record import CONTENT_COLUMNS, content_hash, content_of

    for out, _ in (instruct, code):
        parts = sorted((out.parent / "store").glob("pool/*/part-*.parquet"))
        for part in parts:
            for row in pq.read_table(part).slice(0, 300).to_pylist():
                content = content_of({key: row[key] for key in CONTENT_COLUMNS})
                assert content_hash(content).hex() == row["content_hash"]
