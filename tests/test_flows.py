"""Prefect flows, under one temporary Prefect server for the whole module."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from makes import alpaca_rows, run_here, tree, write_jsonl, write_recipe

prefect = pytest.importorskip("prefect")

from prefect.client.orchestration import get_client  # noqa: E402
from prefect.client.schemas.sorting import TaskRunSort  # noqa: E402
from prefect.testing.utilities import prefect_test_harness  # noqa: E402

import flows  # noqa: E402
from pipelines.recipe_file import load_recipe  # noqa: E402
from pipelines.shipped import shipped_recipe  # noqa: E402
from pipelines.sources import list_files  # noqa: E402
from schemas.errors import GateError, RecipeError  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def harness() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120):
        yield


def test_the_flow_writes_what_the_command_writes_and_shows_its_funnel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CURATRIX_STORE", str(tmp_path / "store"))
    write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(100) + alpaca_rows(10))
    recipe = write_recipe(tmp_path, stages=["dedup", "length"])
    out = Path(flows.curate(recipe, str(tmp_path / "flow")))
    run_here(recipe, tmp_path / "direct", tmp_path / "other-store")
    assert tree(out / "data") == tree(tmp_path / "direct/data")
    with get_client(sync_client=True) as client:
        runs = client.read_task_runs(limit=100, sort=TaskRunSort.NAME_ASC)
        found = client.request("GET", "/artifacts/{key}/latest", path_params={"key": "funnel"}).json()
    assert {"ingest", "dedup", "length", "export", "publish"} <= {run.name for run in runs}
    assert "dedup" in found["data"]
    assert "110" in found["data"]
    with get_client(sync_client=True) as client:
        losses = client.request("GET", "/artifacts/{key}/latest", path_params={"key": "losses"}).json()
        report = client.request("GET", "/artifacts/{key}/latest", path_params={"key": "report"}).json()
    assert json.loads(losses["data"])[1] == {
        "source": "rows",
        "stage": "dedup",
        "rows in": 110,
        "kept": 100,
        "lost": "9.1%",
    }
    assert (out / "report.html").absolute().as_uri() in report["data"]


def test_a_failed_flow_leaves_a_note_and_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATRIX_STORE", str(tmp_path / "store"))
    write_jsonl(tmp_path / "rows.jsonl", [{"instruction": "", "output": ""}] * 4)
    recipe = write_recipe(tmp_path, stages=["length"])
    with pytest.raises(GateError):
        flows.curate(recipe, str(tmp_path / "out"))
    note = json.loads((tmp_path / "out/.curatrix/flow.json").read_text())
    assert note["state"] == "Failed"
    write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(10))
    flows.curate(recipe, str(tmp_path / "out"))  # the note is not in the way
    assert not (tmp_path / "out/.curatrix").exists()


def test_a_foreign_folder_is_not_marked_and_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATRIX_STORE", str(tmp_path / "store"))
    write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(10))
    recipe = write_recipe(tmp_path)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter1.tex").write_text("years of work")
    for _night in range(2):  # what the first leaves must not open the door to the second
        with pytest.raises(RecipeError, match="not empty"):
            flows.curate(recipe, str(tmp_path / "thesis"))
        assert tree(tmp_path / "thesis") == {"chapter1.tex": b"years of work"}
    flows.curate(recipe, str(tmp_path / "out"))
    write_jsonl(tmp_path / "rows.jsonl", [{"instruction": "", "output": ""}] * 4)
    with pytest.raises(GateError):
        flows.curate(recipe, str(tmp_path / "out"))
    assert (tmp_path / "out/.curatrix/flow.json").exists()  # a run's folder is


def test_a_foreign_url_is_refused_before_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATRIX_STORE", str(tmp_path / "store"))
    recipe = write_recipe(tmp_path)  # without its rows: reading them would be another error
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter1.tex").write_text("years of work")
    with pytest.raises(RecipeError, match=r"not empty.*chapter1\.tex"):
        flows.curate(recipe, (tmp_path / "thesis").as_uri())


@pytest.mark.parametrize(
    ("data", "meant"),
    [
        ("in", {"a.jsonl"}), ("*.jsonl", {"a #1.jsonl", "no: 'é😀\".jsonl"}), ("a #1.jsonl", {"a #1.jsonl"}),
        ("no: 'é😀\".jsonl", {"no: 'é😀\".jsonl"}), ("{home}/in", {"a.jsonl"}), ("~/in", {"a.jsonl"}),
        ("file://{home}/in", {"a.jsonl"}),
    ],
)  # fmt: skip
def test_data_of_shipped_flows_starts_at_the_working_directory(
    data: str, meant: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    for number, name in enumerate(["in/a.jsonl", "a #1.jsonl", "no: 'é😀\".jsonl"]):
        write_jsonl(Path(name), alpaca_rows(1, seed=number))
    loaded = load_recipe(shipped_recipe("sft"), [flows._source(data.replace("{home}", str(tmp_path / "home")))])
    (path,) = loaded.sources[0].paths
    assert {file.path for file in list_files(path, loaded.base)} == meant


def test_the_shipped_code_deployment_reads_below_its_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATRIX_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)  # its pull step goes to CURATRIX_HOME
    write_jsonl(Path("data/problems/a.jsonl"), [_problem(number, 5) for number in range(3)])
    document = yaml.safe_load((Path(flows.__file__).parent / "prefect.yaml").read_text())
    chosen = next(entry for entry in document["deployments"] if entry["name"] == "nightly-code")
    flows.curate_code(**chosen["parameters"])
    assert json.loads((tmp_path / "datasets/code/manifest.json").read_text())["splits"] == {"train": 3}


def test_the_shipped_code_flow_needs_enough_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATRIX_STORE", str(tmp_path / "store"))
    rows = [_problem(number, count) for number, count in enumerate([1, 4, 5, 9])]
    write_jsonl(tmp_path / "problems.jsonl", rows)
    out = Path(flows.curate_code(str(tmp_path / "problems.jsonl"), str(tmp_path / "out")))
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["stages"][-1]["stage"] == "tests"
    assert manifest["stages"][-1]["dropped"] == 2
    assert manifest["splits"] == {"train": 2}


def _problem(number: int, tests: int) -> dict[str, str]:
    words = " ".join(row["output"] for row in alpaca_rows(1, seed=number))
    asserts = "".join(f"    assert candidate({n}) == {n + number}\n" for n in range(tests))
    return {
        "task_id": f"t/{number}", "prompt": f'def f{number}(n):\n    """{words}"""\n', "entry_point": f"f{number}",
        "canonical_solution": f"    return n + {number}\n", "test": f"def check(candidate):\n{asserts}",
    }  # fmt: skip


def test_deployments_name_flows_and_parameters_that_exist() -> None:
    document = yaml.safe_load((Path(flows.__file__).parent / "prefect.yaml").read_text())
    assert document["deployments"]
    for deployment in document["deployments"]:
        flow = getattr(flows, deployment["entrypoint"].partition(":")[2])
        known = set(flow.parameters.properties)
        assert set(deployment["parameters"]) <= known
        assert all("cron" in schedule and "timezone" in schedule for schedule in deployment["schedules"])


def test_a_model_is_fine_tuned_on_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    from small_models import save_llama

    monkeypatch.setenv("CURATRIX_STORE", str(tmp_path / "store"))
    chats = [
        {"messages": [{"role": "user", "content": f"say {n}"}, {"role": "assistant", "content": f"{n}!"}]}
        for n in range(12)
    ]
    write_jsonl(tmp_path / "rows.jsonl", chats)
    run = flows.curate(write_recipe(tmp_path), str(tmp_path / "run"))
    template = "{% for m in messages %}<{{ m.role[0] }}>{{ m.content }}</s>{% endfor %}"
    model = save_llama(tmp_path / "llama", template, 64)
    job = tmp_path / "job.yaml"
    settings = {"model": str(model), "out": "trained", "context": 64, "batch": 2, "cpu": True, "log_steps": 1}
    job.write_text(yaml.safe_dump(settings))
    out = Path(flows.finetune(Path(run), job))
    manifest = json.loads((tmp_path / "run/manifest.json").read_text())
    assert manifest["run_fingerprint"] in (out / "model/curatrix.json").read_text()
    with get_client(sync_client=True) as client:
        losses = client.request("GET", "/artifacts/{key}/latest", path_params={"key": "training-loss"}).json()
    assert json.loads(losses["data"])
