"""`dedup: {against: previous}`: what the output directory holds wins over what is new, night after night."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from makes import alpaca_rows, nothing, run_here, tree, write_jsonl, write_recipe

from pipelines.executor import LocalExecutor
from pipelines.inspection import describe_stage
from pipelines.lineage import stored_fingerprint
from pipelines.plan import plan
from pipelines.progress import Silent
from pipelines.publish import WORK
from pipelines.recipe_file import load_recipe
from pipelines.redecide import redecide
from pipelines.remote import upload
from pipelines.run import Settings, run
from pipelines.shipped import shipped_recipe
from pipelines.store import Store
from schemas.errors import RecipeError, RunError
from stages.dedup import Dedup

ROWS = alpaca_rows(30)
LONGER = {**ROWS[3], "output": ROWS[3]["output"] + " and so on"}
NEW = [LONGER, ROWS[5], *alpaca_rows(2, seed=1)]
"""A longer near copy, an exact copy, and two rows like no other; read before the others, where it counts."""


# --- nights ---------------------------------------------------------------------------------------------------------


def nightly(folder: Path, stages: Sequence[Any] = ({"dedup": {"against": "previous"}},), **keys: Any) -> Path:
    """The recipe, and the sources of its first night."""
    write_jsonl(folder / "in/b.jsonl", ROWS)
    sources = [{"name": "s", "path": "in/*.jsonl"}]
    return write_recipe(folder, sources=sources, stages=list(stages), export={"delta": True}, **keys)


def curate(folder: Path, *words: object) -> str:
    command = [sys.executable, "-m", "cli", *map(str, words)]
    environment = {**os.environ, "CURATRIX_STORE": str(folder / "store")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def ids_of(folder: Path) -> list[str]:
    """Where each record of a dataset's part came from, in its order."""
    files = sorted(folder.glob("*.parquet"))
    return [origin for path in files for origin in pq.read_table(path, columns=["origin"])["origin"].to_pylist()]


def decisions(out: Path, stage: str = "dedup") -> dict[str, dict[str, Any]]:
    """What a stage decided, by origin."""
    table = pq.read_table(out / "lineage/decisions").to_pylist()
    origin = {row["record_id"]: json.loads(row["detail"])["origin"] for row in table if row["stage"] == "ingest"}
    found = [{**row, "related": origin.get(row["related_id"])} for row in table if row["stage"] == stage]
    return {origin[row["record_id"]]: row for row in found}


def counters(manifest: Mapping[str, Any], stage: str = "dedup") -> dict[str, Any]:
    found = next(entry["counters"] for entry in manifest["stages"] if entry["stage"] == stage)
    return dict(found)


PUBLISHED = [f"b.jsonl#{k}" for k in range(30)]


def test_two_nights_and_a_third(tmp_path: Path) -> None:
    recipe, out = nightly(tmp_path), tmp_path / "out"
    first = json.loads(curate(tmp_path, "run", recipe, "--out", out, "--json"))
    assert first["previous"] == {"run_fingerprint": None, "rows": 0}
    assert ids_of(out / "data") == PUBLISHED
    shutil.copytree(out, tmp_path / "first")
    write_jsonl(tmp_path / "in/a.jsonl", NEW)

    second = json.loads(curate(tmp_path, "run", recipe, "--out", out, "--json"))
    assert second["previous"] == {"run_fingerprint": first["run_fingerprint"], "rows": 30}
    assert ids_of(out / "data") == ["a.jsonl#2", "a.jsonl#3", *PUBLISHED]
    assert ids_of(out / "delta") == ["a.jsonl#2", "a.jsonl#3"]
    told = decisions(out)
    assert [told[f"a.jsonl#{k}"]["related"] for k in range(2)] == ["b.jsonl#3", "b.jsonl#5"]
    assert [told[f"a.jsonl#{k}"]["reason"] for k in range(2)] == ["duplicate: near", "duplicate: exact"]
    assert counters(second) == {"scored": 3, "cached": 31, "decided": True}
    found = json.loads(curate(tmp_path, "diff", tmp_path / "first", out, "--json"))
    assert found["counts"] == {"added": 2, "changed": 0, "removed": 0}
    assert found["transitions"] == []

    data = tree(out / "data")
    third = json.loads(curate(tmp_path, "run", recipe, "--out", out, "--json"))
    assert third == second  # nothing to do
    forced = run_here(recipe, out, tmp_path / "store", ["lineage=drops"])
    assert counters(forced) == {"scored": 0, "cached": 34, "decided": True}
    assert tree(out / "data") == data
    assert not list(out.glob("delta/*"))
    assert forced["previous"] == {"run_fingerprint": second["run_fingerprint"], "rows": 32}
    free = run_here(recipe, tmp_path / "free", tmp_path / "store", ["stages.dedup.against=[]"])
    lost = {"b.jsonl#3", "b.jsonl#5"}
    assert ids_of(tmp_path / "free/data")[:6] == [*(f"a.jsonl#{k}" for k in range(4)), *PUBLISHED[:2]]
    assert not lost & {*ids_of(tmp_path / "free/data")}
    assert "previous" not in free


def test_a_row_that_is_no_longer_there_takes_no_part(tmp_path: Path) -> None:
    recipe, out = nightly(tmp_path), tmp_path / "out"
    run_here(recipe, out, tmp_path / "store")
    write_jsonl(tmp_path / "in/a.jsonl", [{**ROWS[29], "output": ROWS[29]["output"][:-5]}])
    write_jsonl(tmp_path / "in/b.jsonl", ROWS[:29])
    run_here(recipe, out, tmp_path / "store")
    assert ids_of(out / "data") == ["a.jsonl#0", *PUBLISHED[:29]]


def test_a_changed_row_is_a_new_one_and_a_moved_row_is_not(tmp_path: Path) -> None:
    """Row 3 is changed, row 0 goes, so that every other row stands at another's place; each gets a longer copy."""
    recipe, out = nightly(tmp_path), tmp_path / "out"
    run_here(recipe, out, tmp_path / "store")
    shorter = {**ROWS[3], "output": ROWS[3]["output"][:-7]}
    write_jsonl(tmp_path / "in/a.jsonl", [LONGER, {**ROWS[20], "output": ROWS[20]["output"] + " and so on"}])
    write_jsonl(tmp_path / "in/b.jsonl", [*ROWS[1:3], shorter, *ROWS[4:]])
    run_here(recipe, out, tmp_path / "store")
    assert ids_of(out / "data") == ["a.jsonl#0", *(f"b.jsonl#{k}" for k in range(29) if k != 2)]
    assert decisions(out)["a.jsonl#1"]["related"] == "b.jsonl#19"


@pytest.mark.parametrize("stages", [["clean", "dedup"], ["dedup", "clean"]])
@pytest.mark.parametrize("lineage", ["all", "drops"])
def test_rewritten_rows_are_known_by_what_they_were(tmp_path: Path, stages: list[str], lineage: str) -> None:
    chosen = [{"dedup": {"against": "previous"}} if name == "dedup" else name for name in stages]
    recipe, out = nightly(tmp_path, chosen, lineage=lineage), tmp_path / "out"
    write_jsonl(tmp_path / "in/b.jsonl", [{**row, "output": row["output"] + "\u0007\r\n"} for row in ROWS])
    assert run_here(recipe, out, tmp_path / "store")["stages"][0]["rows_in"] == 30
    assert len(pq.read_table(out / "lineage/rewrites")) == 30
    write_jsonl(tmp_path / "in/a.jsonl", NEW)
    manifest = run_here(recipe, out, tmp_path / "store")
    assert manifest["previous"]["rows"] == 30
    assert ids_of(out / "data") == ["a.jsonl#2", "a.jsonl#3", *PUBLISHED]


def test_together_with_an_earlier_release(tmp_path: Path) -> None:
    """A release wins over what is published, which wins over what is new."""
    recipe, out, store = nightly(tmp_path), tmp_path / "out", tmp_path / "store"
    run_here(recipe, out, store)
    write_jsonl(tmp_path / "march.jsonl", ROWS[:2])
    write_jsonl(tmp_path / "in/a.jsonl", NEW)
    run_here(recipe, out, store, ["stages.dedup.against=[previous, march.jsonl]"])
    assert ids_of(out / "data") == ["a.jsonl#2", "a.jsonl#3", *PUBLISHED[2:]]
    assert decisions(out)["b.jsonl#0"]["reason"] == "duplicate: exact of an earlier release"


# --- interruptions --------------------------------------------------------------------------------------------------


class Killed(Exception):
    """Stands for a kill."""


def killed(recipe: Path, out: Path, store: Path, at: str) -> None:
    """Run until the step `at` would begin."""

    def step(name: str, work: Any) -> Any:
        if name == at:
            raise Killed
        return work()

    with LocalExecutor(1) as executor, pytest.raises(Killed):
        run(load_recipe(recipe), Settings(out, Store(store), executor, Silent(), nothing, step=step))


@pytest.mark.parametrize("at", ["export", "publish"])
def test_an_interrupted_night_ends_as_an_undisturbed_one(tmp_path: Path, at: str) -> None:
    recipe, store = nightly(tmp_path), tmp_path / "store"
    for name in ("out", "undisturbed"):
        run_here(recipe, tmp_path / name, store)
    write_jsonl(tmp_path / "in/a.jsonl", NEW)
    killed(recipe, tmp_path / "out", store, at)
    again = run_here(recipe, tmp_path / "out", store)
    whole = run_here(recipe, tmp_path / "undisturbed", store)
    assert counters(again)["decided"] is False
    assert counters(whole)["decided"] is True
    for part in ("data", "delta", "lineage"):
        assert tree(tmp_path / "out" / part) == tree(tmp_path / "undisturbed" / part)


def test_what_was_begun_against_something_else_is_not_gone_on_with(tmp_path: Path) -> None:
    recipe, out, store = nightly(tmp_path), tmp_path / "out", tmp_path / "store"
    run_here(recipe, out, store)
    write_jsonl(tmp_path / "in/a.jsonl", NEW)
    killed(recipe, out, store, "publish")
    begun = stored_fingerprint(next(out.glob(f"{WORK}/*/lineage/decisions/01-dedup.parquet")))
    (out / "manifest.json").unlink()  # what is published is not what it was
    manifest = run_here(recipe, out, store)
    assert manifest["previous"]["rows"] == 0
    assert counters(manifest) == {"scored": 0, "cached": 34, "decided": True}
    assert ids_of(out / "data")[0] == "a.jsonl#0"
    assert stored_fingerprint(out / "lineage/decisions/01-dedup.parquet") != begun


def test_a_publication_killed_half_way_still_counts_the_next_night(tmp_path: Path) -> None:
    """Even if the sources have changed by then, so that the next run is another one."""
    recipe, out, store = nightly(tmp_path), tmp_path / "out", tmp_path / "store"
    manifest = run_here(recipe, out, store)
    work = out / WORK / "any"
    work.mkdir(parents=True)
    (out / "data").rename(work / "data")  # as if the kill came before `data` was moved
    (out / "manifest.json").unlink()
    names = ["data", "delta", "lineage"]
    (work / ".publishing.json").write_text(json.dumps({"names": names, "manifest": manifest}))
    write_jsonl(tmp_path / "in/a.jsonl", NEW)
    assert run_here(recipe, out, store)["previous"]["rows"] == 30
    assert ids_of(out / "data") == ["a.jsonl#2", "a.jsonl#3", *PUBLISHED]


# --- other commands and places --------------------------------------------------------------------------------------


def test_redecide_prefers_what_the_run_holds(tmp_path: Path) -> None:
    recipe, out, store = nightly(tmp_path), tmp_path / "out", tmp_path / "store"
    run_here(recipe, out, store)
    write_jsonl(tmp_path / "in/a.jsonl", NEW)
    manifest = run_here(recipe, out, store)
    with LocalExecutor(1) as executor:
        chosen = Settings(tmp_path / "again", Store(store), executor, Silent(), nothing)
        again = redecide(out, [], chosen, write=True)
        strict = redecide(out, ["stages.dedup.threshold=1"], chosen, write=False)
        free = redecide(out, ["stages.dedup.against=[]"], chosen, write=False)
    assert again["previous"] == {"run_fingerprint": manifest["run_fingerprint"], "rows": 32}
    assert tree(tmp_path / "again/data") == tree(out / "data")
    assert strict["stages"][0]["kept"] == 33  # the longer copy is not one any more
    assert counters(again)["scored"] == counters(strict)["scored"] == counters(free)["scored"] == 0
    assert "previous" not in free


def test_plan_and_help_know_the_word(tmp_path: Path) -> None:
    stage = plan(load_recipe(nightly(tmp_path)), Store(tmp_path / "store"))["stages"][0]
    assert stage["parameters"]["against"] == ["previous"]
    about = next(item for item in describe_stage(Dedup)["parameters"] if item["name"] == "against")
    assert "`./previous`" in about["description"]
    assert about["rescoring"] is False


def test_what_is_published_on_an_object_store_counts_on_another_machine(tmp_path: Path, memory: Any) -> None:
    recipe = nightly(tmp_path)
    run_here(recipe, tmp_path / "first", tmp_path / "store")
    upload(tmp_path / "first", "memory://sets/one", Silent())
    write_jsonl(tmp_path / "in/a.jsonl", NEW)
    with LocalExecutor(1) as executor:
        for name, place in (("one", "memory://sets/one"), ("two", "memory://sets/two")):
            store = Store(tmp_path / f"store of {name}")
            run(load_recipe(recipe), Settings(tmp_path / name, store, executor, Silent(), nothing, place=place))
    assert ids_of(tmp_path / "one/data") == ["a.jsonl#2", "a.jsonl#3", *PUBLISHED]
    assert ids_of(tmp_path / "two/data")[0] == "a.jsonl#0"


def test_a_damaged_publication_stops_the_run(tmp_path: Path) -> None:
    recipe, out, store = nightly(tmp_path), tmp_path / "out", tmp_path / "store"
    run_here(recipe, out, store)
    next(out.glob("data/*.parquet")).unlink()
    with pytest.raises(RunError, match=r"data/train-00000-of-00001.parquet of the published run is missing"):
        run_here(recipe, out, store)


def test_other_stages_take_the_word_for_a_path(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", ROWS)
    recipe = write_recipe(tmp_path, stages=[{"decontaminate": {"against": ["previous"]}}])
    with pytest.raises(RecipeError, match="previous"):
        run_here(recipe, tmp_path / "out", tmp_path / "store")


def test_the_nightly_deployment_uses_it() -> None:
    deployments = yaml.safe_load((Path(__file__).parents[1] / "prefect.yaml").read_text())["deployments"]
    chosen = next(entry["parameters"]["overrides"] for entry in deployments if entry["name"] == "nightly-code")
    assert load_recipe(shipped_recipe("code"), chosen).stages[0].stage.prefers_published()


def test_random_nights_lose_nothing_that_is_still_there(tmp_path: Path) -> None:
    """Whatever comes and goes: a published row that stays in the sources stays in the data."""
    recipe, out, rng = nightly(tmp_path), tmp_path / "out", random.Random(5)
    rows = list(ROWS)
    for night in range(4):
        rows = [row for row in rows if rng.random() > 0.1]
        copies = [{**row, "output": row["output"] + f" and {night}"} for row in rng.sample(rows, 8)]
        rows = [*copies, *rows, *alpaca_rows(3, seed=100 + night)]
        rng.shuffle(rows)
        write_jsonl(tmp_path / "in/b.jsonl", rows)
        before = outputs(out) if night else set()
        run_here(recipe, out, tmp_path / "store")
        there = {row["output"] for row in rows}
        assert before & there <= outputs(out)


def outputs(out: Path) -> set[str]:
    found = pq.read_table(out / "data", columns=["messages"])["messages"].to_pylist()
    return {messages[-1]["content"] for messages in found}
