"""Every file of the real data, against the row counts that its README states; datasets read offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest
from reading import rows_of, values_of

from pipelines.readers import RawRow, Unreadable, decode
from pipelines.readers.hf import dataset_digest, read_dataset
from pipelines.sources import list_files
from schemas.errors import RecipeError

NOT_STATED = {
    "problemtools_examples.tar.gz": 4,
    "gpteacher_roleplay.yaml": 1923,
    "logic_rl_kk_3ppl_train.parquet": 900,
    "opengpt_prepared_generated.csv": 306,
}


def stated_rows(readme: str) -> dict[str, int]:
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in readme.splitlines() if line[:1] == "|"]
    return {Path(row[0]).name: int(row[1]) for row in cells if len(row) > 3 and row[1].isdigit()}


def test_every_real_file_has_the_stated_rows(shared_data: Path) -> None:
    stated = stated_rows((shared_data / "README.md").read_text()) | NOT_STATED
    files = list_files(".", shared_data)
    assert len(files) == 107
    counts: dict[str, int] = {}
    for file in files:
        rows = rows_of(Path(file.url))
        assert not [row for row in rows if isinstance(row, Unreadable)], file.path
        counts[Path(file.path).name] = len(rows)
    assert counts == {name: stated[name] for name in counts}


def test_yaml_and_jsonl_of_the_same_data_agree(shared_data: Path) -> None:
    as_yaml = values_of(rows_of(shared_data / "raw_formats" / "gpteacher_roleplay.yaml"))
    as_json = values_of(rows_of(shared_data / "instruct" / "gpteacher_roleplay.jsonl.gz"))
    assert len(as_yaml) == len(as_json)
    same = sum(a["instruction"] == b["instruction"] for a, b in zip(as_yaml, as_json, strict=True))
    assert same > 0.99 * len(as_json)


def test_real_id_lines_and_packages(shared_data: Path) -> None:
    lines = values_of(rows_of(shared_data / "raw_formats" / "mccormick_articles_1000.train"))
    assert lines == values_of(rows_of(shared_data / "neardup" / "mccormick_articles_1000.jsonl.gz"))
    packages = values_of(rows_of(shared_data / "code" / "raw_packages" / "problemtools_examples.tar.gz"))
    by_name = {row["package"]: row for row in packages}
    different = by_name["examples/different"]
    assert [test["group"] for test in different["tests"]] == ["sample", "secret", "secret"]
    assert {item["expected"] for item in different["submissions"]} >= {"accepted", "wrong_answer"}
    assembled = values_of(rows_of(shared_data / "code" / "icpc_packages_misc_mzuenni.jsonl.gz"))[0]
    assert set(assembled) - {"repo", "commit", "license"} <= set(different)


def dataset_rows(*arguments: Any, **more: Any) -> list[RawRow | Unreadable]:
    return [row for chunk in read_dataset(*arguments, **more) for row in decode(chunk)]


ROWS = [{"instruction": f"do {n}", "tags": [{"k": "a", "n": n}]} for n in range(3000)]


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.usefixtures("offline")
def test_a_saved_dataset(tmp_path: Path) -> None:
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "one")
    assert values_of(dataset_rows("one", None, "train", tmp_path, chunk_bytes=9000)) == ROWS
    files = list_files("one", tmp_path)
    assert [file.path for file in files] == ["data-00000-of-00001.arrow"]
    assert values_of(rows_of(Path(files[0].url))) == ROWS


@pytest.mark.usefixtures("offline")
def test_a_saved_dataset_with_splits(tmp_path: Path) -> None:
    split = datasets.Dataset.from_list(ROWS).train_test_split(0.1, shuffle=False)
    split.save_to_disk(tmp_path / "two")
    assert values_of(dataset_rows("two", None, "test", tmp_path)) == ROWS[2700:]
    with pytest.raises(RecipeError, match="did you mean 'train'"):
        read_dataset("two", None, "trian", tmp_path)


@pytest.mark.usefixtures("offline")
def test_a_folder_that_datasets_can_load(tmp_path: Path) -> None:
    (tmp_path / "three").mkdir()
    datasets.Dataset.from_list(ROWS).to_json(tmp_path / "three" / "train.jsonl")
    assert values_of(dataset_rows(str(tmp_path / "three"), None, "train")) == ROWS


def test_dataset_digests(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"a": 1}\n')
    first = dataset_digest(str(tmp_path), None, "train")
    assert first == dataset_digest(str(tmp_path), None, "train")
    assert first != dataset_digest(str(tmp_path), None, "test")
    (tmp_path / "x.jsonl").write_text('{"a": 2}\n')
    assert first != dataset_digest(str(tmp_path), None, "train")
    with pytest.raises(RecipeError, match="does not exist"):
        dataset_digest("./nowhere", None, "train", tmp_path)


def test_the_readme_table_is_understood() -> None:
    assert stated_rows("| a/b.jsonl | 12 | 1 | z |\n| c | - | 1 | z |\n| file | rows | MB | s |") == {"b.jsonl": 12}
