"""Funnel, dataset card and report page."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import datasets
import orjson
import pytest
import yaml
from rich.console import Console, RenderableType
from rundir import TEXTS, record, record_id, write_run

import reports
from reports.card import card
from reports.catalog import connect
from reports.counts import problems, render, to_dict
from reports.histogram import histograms
from reports.html import html
from reports.manifest import load, parse
from schemas.errors import RunError


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")


@pytest.fixture
def manifest(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads((run / "manifest.json").read_bytes())
    return found


def shown(view: RenderableType, width: int = 140) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(view)
    return console.export_text()


def test_funnel_adds_up(manifest: dict[str, Any]) -> None:
    found = to_dict(parse(manifest))
    assert found["problems"] == []
    assert [(step["stage"], step["rows_in"], step["kept"]) for step in found["stages"]] == [
        ("ingest", 11, 10), ("length", 10, 9), ("dedup", 9, 7), ("reflect", 7, 7)
    ]  # fmt: skip
    assert found["rows_out"] == 7
    assert found["stages"][2]["by_source"]["beta"] == {"rows_in": 3, "kept": 2, "dropped": 1, "quarantined": 0}
    text = shown(render(parse(manifest)))
    assert "every row is accounted for" in text
    assert re.search(r"near_duplicate +│ +│ +│ +-1 ", text)
    assert "from beta" in text
    assert "from" not in shown(render(parse(manifest), by_source=False))


@pytest.mark.parametrize(
    ("stage", "key", "value", "message"),
    [
        (1, "kept", 6, "dedup: 9 rows in, but 6 kept"),
        (1, "rows_in", 8, "length kept 9 rows, but dedup got 8"),
        (2, "kept", 6, "reflect kept 6 rows, but data/ has 7"),
        (1, "reasons", {"exact_duplicate": 1}, "the reasons together"),
        (0, "by_source", {"alpha": {"rows_in": 6, "kept": 6}}, "the sources together"),
        (0, "by_source", {"alpha": {"rows_in": 10, "kept": 9}}, "source 'alpha': 10 rows in"),
    ],
)
def test_lost_rows_are_found(manifest: dict[str, Any], stage: int, key: str, value: object, message: str) -> None:
    manifest["stages"][stage][key] = value
    assert any(message in problem for problem in problems(parse(manifest)))
    assert "NOT add up" in shown(render(parse(manifest)), width=400)


def test_decisions_tried_out_without_writing_are_no_problem(manifest: dict[str, Any]) -> None:
    assert problems(parse({**manifest, "splits": {}, "files": []})) == []


def _header(text: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(text.split("---\n")[1])
    return found


def test_card_header_is_what_datasets_reads(run: Path, manifest: dict[str, Any], tmp_path: Path) -> None:
    (run / "README.md").write_text(card(manifest))
    assert _header(card(manifest))["configs"] == [
        {"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]}
    ]
    loaded = datasets.load_dataset(str(run), cache_dir=str(tmp_path / "cache"))
    assert {name: split.num_rows for name, split in loaded.items()} == {"train": 7}


def test_card_says_what_matters(manifest: dict[str, Any]) -> None:
    text = card(manifest)
    for fact in (
        "7 rows (train 7)",
        "| dedup | 9 | 7 | 2 | 0 | exact_duplicate 1, near_duplicate 1 |",
        "| alpha | MIT | 1 | 7 | 1 | 5 |",
        "- **dedup**: `threshold: 0.8`",
        "- dedup: source 'beta' loses 25% of its rows",
        "invalid_json 1",
        "Licence not stated for: beta",
        manifest["run_fingerprint"],
        "| seed | 7 |",
    ):
        assert fact in text


@pytest.mark.parametrize(
    ("licences", "expected"), [(("MIT", "MIT"), "mit"), (("MIT", "Apache-2.0"), "other"), (("MIT", None), None)]
)
def test_card_licence(manifest: dict[str, Any], licences: tuple[str | None, str | None], expected: str | None) -> None:
    for source, licence in zip(manifest["sources"], licences, strict=True):
        source["licence"] = licence
    assert _header(card(manifest)).get("license") == expected


def test_card_survives_names_that_break_yaml_and_tables(manifest: dict[str, Any]) -> None:
    manifest["name"] = "a: b # c"
    manifest["sources"][0]["name"] = "pipe | and\nnewline <script>"
    text = card(manifest)
    assert _header(text)["pretty_name"] == "a: b # c"
    assert "| pipe \\| and newline &lt;script> | MIT |" in text


def test_card_of_a_run_without_rows(manifest: dict[str, Any]) -> None:
    assert "0 rows" in card({**manifest, "splits": {}})


def test_what_damage_hides_is_not_called_accounted_for(run: Path, manifest: dict[str, Any]) -> None:
    manifest["quarantine"]["by_kind"]["truncated_file"] = 2
    assert to_dict(parse(manifest))["truncated"] == 2
    text = " ".join(shown(render(parse(manifest)), 400).split())
    assert "how many are lost behind 2 damaged places in source files is unknown (truncated_file in quarantine)" in text
    page = html(run, manifest)
    assert "Source files are damaged" in page
    assert "Every row is accounted for" not in page


def test_page_is_self_contained(run: Path, manifest: dict[str, Any]) -> None:
    page = html(run, manifest)
    assert not re.search(r"""(?:src|href)\s*=|url\(|@import|<script|https?://""", page)
    for fact in (
        "tiny",
        "near_duplicate",
        "invalid_json",
        "beta",
        "threshold 0.8",
        "Every row is accounted for",
        "63.6%",
    ):
        assert fact in page


def test_page_shows_dropped_rows_beside_their_twins(run: Path, manifest: dict[str, Any]) -> None:
    page = html(run, manifest, lambda ids: {record_id(key): record(key, TEXTS[key]) for key in TEXTS})
    assert "two <del>numbers</del><ins>integers</ins> and" in page


def test_page_escapes_what_rows_say(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {**TEXTS, "a1": "<script>alert(1)</script> & more of it"})
    manifest = orjson.loads((run / "manifest.json").read_bytes())
    manifest["name"] = "<b>name</b>"
    page = html(run, manifest)
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in page
    assert "<script>" not in page
    assert "<b>" not in page


def test_page_is_the_same_for_the_same_run(run: Path, manifest: dict[str, Any]) -> None:
    assert html(run, manifest) == html(run, manifest)


def test_page_of_bare_and_empty_runs(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", bare=True)
    manifest = orjson.loads((run / "manifest.json").read_bytes())
    assert "Quarantine</h2>" not in html(run, manifest)
    assert "curation report" in html(run, {"name": "nothing"})


def test_scores_beyond_all_bounds_still_make_a_histogram(tmp_path: Path) -> None:
    texts = {f"a{number}": "x" * (number + 1) for number in range(1, 1000)} | {"a1000": "x" * 1_000_000}
    run = write_run(tmp_path / "run", texts)
    page = html(run, orjson.loads((run / "manifest.json").read_bytes()))
    assert "nan" not in page.lower().split("</style>")[1]
    assert "min_chars 10" in page


def test_whole_numbers_get_a_bar_each(tmp_path: Path) -> None:
    """A threshold on a count then lies between two bars, not inside one."""
    run = write_run(tmp_path / "run", {f"a{length}": "x" * length for length in range(2, 21)})
    with connect(run) as catalog:
        (chart,) = histograms(catalog, load(run).stages)
    assert [(bar.low, bar.kept + bar.dropped) for bar in chart.bars] == [(length, 1) for length in range(2, 21)]
    (line,) = chart.lines
    assert line.x == pytest.approx(next(bar.x for bar in chart.bars if bar.low == 10))


def test_documents_are_made_before_the_manifest_is_written(run: Path, manifest: dict[str, Any]) -> None:
    (run / "manifest.json").unlink()
    made = reports.documents(run, manifest)
    assert sorted(made) == ["README.md", "catalog.sql", "report.html"]
    assert all(made.values())


def test_report_is_written_anew(run: Path) -> None:
    path = reports.write_report(run)
    assert path == run / "report.html"
    assert b"tiny" in path.read_bytes()


def test_manifest_that_does_not_fit_is_named() -> None:
    with pytest.raises(RunError, match=r"stages\.0\.position"):
        card({"stages": [{"stage": "dedup"}]})
