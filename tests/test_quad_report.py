"""The cluster report of a run with `quad`."""

from __future__ import annotations

import random
from pathlib import Path
from xml.etree import ElementTree

import pytest
from makes import alpaca_rows, run_here, write_jsonl, write_recipe
from quad_stages import Counting
from rich.console import Console

from pipelines import registry
from reports.quad_report import plot, quad_report, render
from schemas.errors import RecipeError


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over good, bad and plain rows, selected by a `quad` that needs no model."""
    folder = tmp_path_factory.mktemp("report")
    draw = random.Random(0)
    topics = {"oven dough butter flour": "good", "mast harbour tide rope": "bad", "loop array index parse": ""}
    rows = [
        {"text": f"{' '.join(draw.choices(words.split(), k=9))} {verdict} {number}"}
        for number in range(60)
        for words, verdict in topics.items()
    ]
    write_jsonl(folder / "rows.jsonl", rows)
    write_jsonl(folder / "t.jsonl", [{"text": "oven"}])
    stages = [{"quad": {"target": "t.jsonl", "keep": 30, "clusters": 6, "arms": 2, "draws": 3, "threshold": 0.5}}]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "pipelines.recipe_file.stage_class", lambda name: Counting if name == "quad" else registry.stage_class(name)
        )
        run_here(write_recipe(folder, stages=stages), folder / "out", folder / "store")
    return folder / "out"


def test_clusters_add_up(out: Path) -> None:
    found = quad_report(out)
    assert (found.stage, found.rows, found.kept) == ("quad", 180, 30)
    assert sum(cluster.size for cluster in found.clusters) == 180
    assert sum(cluster.taken for cluster in found.clusters) == 30
    assert sum(cluster.draws for cluster in found.clusters) == sum(c.scored for c in found.clusters) == found.scored
    means = [cluster.influence for cluster in found.clusters if cluster.influence is not None]
    assert means == sorted(means, reverse=True)
    assert means[0] == 1
    assert means[-1] == -1
    assert "good" in str(found.clusters[0].examples[0].text)
    assert len(found.points) == 180
    assert sum(point.kept for point in found.points) == 30


def test_it_reads_as_a_table_and_as_a_map(out: Path) -> None:
    found = quad_report(out)
    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(render(found, limit=4))
    text = console.export_text()
    assert "30 of 180 rows kept" in text
    assert "mean influence" in text
    drawing = ElementTree.fromstring(plot(found))
    dots = drawing.findall(".//{http://www.w3.org/2000/svg}circle")
    assert len(dots) == 2 * 180 + 5
    assert found.to_dict()["clusters"][0]["size"] == found.clusters[0].size


def test_a_run_without_quad_is_refused(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(4))
    run_here(write_recipe(tmp_path), tmp_path / "out", tmp_path / "store")
    with pytest.raises(RecipeError, match="no stage of this run selected by influence"):
        quad_report(tmp_path / "out")


def test_a_wrong_stage_name_is_refused(out: Path) -> None:
    with pytest.raises(RecipeError, match="quad"):
        quad_report(out, "quod")
