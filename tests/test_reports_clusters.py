"""`curate clusters`: the largest clusters, and the pairs on either side of the threshold."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from makes import alpaca_rows, run_here, write_jsonl, write_recipe
from rich.console import Console

from reports.clusters import clusters, render
from schemas.errors import RecipeError


def shown(found: object) -> str:
    console = Console(file=io.StringIO(), width=400)
    console.print(found)
    output = console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue()


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Fifty rows; the first four times over, the second once more with a word added, the third half rewritten."""
    rows = alpaca_rows(50)
    near = {**rows[1], "output": rows[1]["output"] + " indeed"}
    half = {**rows[2], "output": " ".join(f"other{k}" for k in range(12)) + rows[2]["output"][80:]}
    write_jsonl(tmp_path / "rows.jsonl", [*rows, rows[0], rows[0], rows[0], near, half])
    recipe = write_recipe(tmp_path, stages=[{"dedup": {"bands": 128, "rows": 1}}])
    run_here(recipe, tmp_path / "out", tmp_path / "store")
    return tmp_path / "out"


def test_the_largest_cluster_and_the_pairs_next_to_the_threshold(made: Path) -> None:
    (found,) = clusters(made)
    assert (found.stage, found.threshold, found.dropped, found.clusters) == ("dedup", 0.8, 4, 2)
    first, second = found.largest
    assert (first.dropped, first.least, len(first.members)) == (3, 1.0, 3)
    assert first.text is not None
    assert first.text.startswith("prompt: Task 0-0:")
    assert second.dropped == 1
    (removed,) = found.removed  # exact copies are beyond doubt
    assert 0.9 < removed.similarity < 1
    assert ("removed", " indeed") in removed.changes  # the longer text survived
    kept = found.kept[0]
    assert 0.2 < kept.similarity < 0.8
    assert any(kind == "removed" and "other" in text for kind, text in kept.changes)
    assert len({frozenset((pair.first, pair.second)) for pair in found.kept}) == len(found.kept)
    assert json.loads(json.dumps(found.to_dict()))["stage"] == "dedup"


def test_what_people_see(made: Path) -> None:
    text = shown(render(clusters(made)))
    assert "dedup: 4 rows dropped in 2 clusters, threshold 0.8" in text
    assert "least similar pairs that were still removed" in text
    assert "most similar pairs that were both kept" in text
    assert "indeed" in text


def test_limits_and_names(made: Path) -> None:
    (found,) = clusters(made, "dedup", limit=1)
    assert len(found.largest) == len(found.removed) == len(found.kept) == 1
    with pytest.raises(RecipeError, match=r"no stage 'dedupe' grouped copies in this run; .*dedup"):
        clusters(made, "dedupe")


def test_without_the_store_dropped_texts_are_missing_but_nothing_fails(made: Path) -> None:
    for path in (made.parent / "store/pool").rglob("*.parquet"):
        path.unlink()
    (found,) = clusters(made)
    assert found.largest[0].text is not None
    assert found.largest[0].members[0][1] is None
    assert found.removed[0].changes == ()
    assert "not held by this run" in shown(render([found]))


def test_a_run_that_groups_nothing(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(5))
    run_here(write_recipe(tmp_path, stages=["length"]), tmp_path / "out", tmp_path / "store")
    assert clusters(tmp_path / "out") == []
    assert "no stage" in shown(render([]))
    with pytest.raises(RecipeError):
        clusters(tmp_path)
