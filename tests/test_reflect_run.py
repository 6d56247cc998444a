"""`reflect` in whole runs: against a server, from a journal, killed, out of budget, and in what it leaves behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from llm_server import Plan
from llm_server import serving as misbehaving
from makes import alpaca_rows, run_here, tree, write_jsonl, write_recipe

from pipelines.demo.journal import JOURNAL, written_journal
from pipelines.demo.teacher import Said, reply_to, serving
from schemas.errors import GateError, RunError

SECRET = "sk-test-5ad0c0ffee5ecret"
PRICE = {"input": 0.5, "output": 1.5}


class Teacher:
    """The rules, with a count of what was asked; `delay_s` per answer."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self.asked: Counter[str] = Counter()
        self.delay_s = delay_s
        self._lock = threading.Lock()

    def __call__(self, prompt: str) -> Said:
        with self._lock:
            self.asked[prompt] += 1
        if "Task 0-3:" in prompt:
            raise ValueError("this one never gets an answer")
        time.sleep(self.delay_s)
        return reply_to(prompt)


@contextmanager
def taught(folder: Path, rows: int = 20, delay_s: float = 0.0, **parameters: Any) -> Iterator[tuple[Path, Teacher]]:
    """A recipe whose `reflect` asks a server, and the server's teacher."""
    teacher = Teacher(delay_s)
    write_jsonl(folder / "rows.jsonl", alpaca_rows(rows))
    with serving(answer=teacher) as url:
        endpoint = {"url": url, "model": "rules", "price": PRICE, "concurrency": 4, "max_attempts": 2}
        yield write_recipe(folder, stages=[{"reflect": {"endpoint": endpoint, **parameters}}]), teacher


def curate(*words: object, store: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CURATRIX_STORE": str(store), "OPENAI_API_KEY": SECRET, "COLUMNS": "200"}
    command = [sys.executable, "-m", "cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200, check=False)


def statuses(out: Path) -> dict[str, int]:
    reasons = [row["reason"] for path in sorted((out / "lineage/decisions").glob("*reflect*"))
               for row in pq.read_table(path).to_pylist()]  # fmt: skip
    return dict(Counter(reason.partition(";")[0] for reason in reasons))


def data(out: Path) -> dict[str, bytes]:
    return {**tree(out / "data"), **tree(out / "lineage/rewrites")}


def test_a_run_from_the_command_line(tmp_path: Path) -> None:
    with taught(tmp_path) as (recipe, teacher):
        planned = curate("plan", recipe, "--json", store=tmp_path / "store")
        assert planned.returncode == 0, planned.stderr
        told = json.loads(planned.stdout)["estimates"]["reflect"]
        assert told["requests"] == "40"
        assert "USD" in told["cost"]
        assert teacher.asked == {}
        done = curate("run", recipe, "--out", tmp_path / "out", store=tmp_path / "store")
    assert done.returncode == 0, done.stderr
    rows = pq.read_table(tmp_path / "out/data").to_pylist()
    old = {row["output"] for row in alpaca_rows(20)}
    changed = [row for row in rows if row["messages"][-1]["content"] not in old]
    found = statuses(tmp_path / "out")
    assert len(changed) == found["rewritten"] >= 15
    assert found["failed: server error"] == 1
    rewrites = pq.read_table(tmp_path / "out/lineage/rewrites").to_pylist()
    assert len(rewrites) == found["rewritten"]
    for row in rewrites:
        assert row["model"] == "rules"
        assert row["prompt_version"].startswith("instruction-1@")
        assert row["cost"] == pytest.approx((row["tokens_in"] * 0.5 + row["tokens_out"] * 1.5) / 1e6)
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    summary = str(manifest["stages"][0]["warnings"])
    assert f"{found['rewritten']} of 20 records rewritten" in summary
    assert "USD" in summary
    told = curate("explain", tmp_path / "out", rewrites[0]["record_id"], store=tmp_path / "store")
    for word in ("reflect rewritten", "rules", rewrites[0]["prompt_version"], f"{rewrites[0]['tokens_in']} tokens in",
                 "USD", "{+", "Here is what matters"):  # fmt: skip
        assert word in told.stdout
    everything = [*tree(tmp_path / "out").values(), *tree(tmp_path / "store").values(), done.stderr, done.stdout]
    assert not any(SECRET in (text if isinstance(text, str) else text.decode("latin-1")) for text in everything)


def test_a_server_that_repeats_the_key_does_not_bring_it_out(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(3))
    with misbehaving(Plan(key="another")) as server:
        recipe = write_recipe(tmp_path, stages=[{"reflect": {"endpoint": server.url, "model": "m"}}])
        done = curate("run", recipe, "--out", tmp_path / "out", store=tmp_path / "store")
        assert server.seen.received
    assert done.returncode == 1
    assert "401" in done.stderr
    assert SECRET not in done.stderr + done.stdout
    assert not any(SECRET.encode() in text for text in tree(tmp_path).values())


def test_a_failure_is_not_repeated_for_ever_and_costs_its_neighbours_nothing(tmp_path: Path) -> None:
    with taught(tmp_path) as (recipe, teacher):
        run_here(recipe, tmp_path / "out", tmp_path / "store")
    stubborn = [count for prompt, count in teacher.asked.items() if "Task 0-3:" in prompt]
    assert stubborn == [2, 2]  # two calls, two attempts each
    assert {count for prompt, count in teacher.asked.items() if "Task 0-3:" not in prompt} == {1}
    with taught(tmp_path) as (recipe, teacher):
        run_here(recipe, tmp_path / "again", tmp_path / "store")
        assert teacher.asked == {}
        run_here(recipe, tmp_path / "again", tmp_path / "store", ["stages.reflect.attempt=2"])
    assert all("Task 0-3:" in prompt for prompt in teacher.asked)
    assert data(tmp_path / "out") == data(tmp_path / "again")


def test_killed_and_run_again_nothing_is_lost_or_paid_twice(tmp_path: Path) -> None:
    with taught(tmp_path, 40, 0.02) as (recipe, teacher):
        command = [sys.executable, "-m", "cli", "run", str(recipe), "--out", str(tmp_path / "out")]
        environment = {**os.environ, "CURATRIX_STORE": str(tmp_path / "store")}
        for least in (20, 45):
            process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, start_new_session=True)
            while sum(teacher.asked.values()) < least and process.poll() is None:
                time.sleep(0.01)
            os.killpg(process.pid, signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
        kept = [line for path in (tmp_path / "store/journals/reflect").glob("*.jsonl") for line in path.open("rb")]
        assert len(kept) >= 45 - 2 * 4 - 4
        sent = sum(teacher.asked.values())
        manifest = run_here(recipe, tmp_path / "out", tmp_path / "store")
        again = sum(count - 1 for prompt, count in teacher.asked.items() if "Task 0-3:" not in prompt)
        assert again <= 2 * 4  # what was under way at either kill, and had not arrived
        assert sum(teacher.asked.values()) > sent
        whole = run_here(recipe, tmp_path / "whole", tmp_path / "other")
    assert data(tmp_path / "out") == data(tmp_path / "whole")
    assert manifest["stages"][0]["kept"] == whole["stages"][0]["kept"] == 40


def test_a_used_up_budget_stops_cleanly_and_only_the_rest_is_paid(tmp_path: Path) -> None:
    with taught(tmp_path, budget={"requests": 12}) as (recipe, teacher):
        stopped = curate("run", recipe, "--out", tmp_path / "out", store=tmp_path / "store")
        assert stopped.returncode == 3
        for word in ("budget", "run again", "only for the rest"):
            assert word in stopped.stderr
        assert not (tmp_path / "out/manifest.json").exists()
        answered = [prompt for prompt in teacher.asked if "Task 0-3:" not in prompt]
        assert 8 <= len(answered) <= 12
        run_here(recipe, tmp_path / "out", tmp_path / "store", ["stages.reflect.budget.requests=100"])
        assert {count for prompt, count in teacher.asked.items() if "Task 0-3:" not in prompt} == {1}
        run_here(recipe, tmp_path / "whole", tmp_path / "other", ["stages.reflect.budget={}"])
    assert data(tmp_path / "out") == data(tmp_path / "whole")


def test_the_journal_is_the_run_without_the_server(tmp_path: Path) -> None:
    with taught(tmp_path) as (recipe, _):
        write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(20, seed=1))
        run_here(recipe, tmp_path / "out", tmp_path / "store")
    shutil.copytree(tmp_path / "store/journals/reflect", tmp_path / "journal")
    stage = {"reflect": {"model": "rules", "replay": "journal"}}
    recipe = write_recipe(tmp_path, stages=[stage])
    run_here(recipe, tmp_path / "offline", tmp_path / "other")
    assert data(tmp_path / "out") == data(tmp_path / "offline")
    write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(21, seed=1))
    with pytest.raises(RunError, match="no journal has a reply"):
        run_here(recipe, tmp_path / "offline", tmp_path / "other")


def test_without_server_and_journal_nothing_runs(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(3))
    recipe = write_recipe(tmp_path, stages=["clean", {"reflect": {"endpoint": "${NO_SUCH_URL:-}", "model": "m"}}])
    done = curate("run", recipe, "--out", tmp_path / "out", store=tmp_path / "store")
    assert done.returncode == 2
    assert "no model to ask and no journal" in done.stderr
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "store").rglob("*.parquet"))


def test_a_larger_share_pays_only_for_what_it_adds(tmp_path: Path) -> None:
    with taught(tmp_path, 40, share=0.4) as (recipe, teacher):
        run_here(recipe, tmp_path / "pilot", tmp_path / "store")
        pilot = set(teacher.asked)
        assert 8 <= len(pilot) <= 60
        run_here(recipe, tmp_path / "out", tmp_path / "store", ["stages.reflect.share=1.0"])
        assert all(teacher.asked[prompt] == 1 for prompt in pilot if "Task 0-3:" not in prompt)
    assert statuses(tmp_path / "pilot")["kept: not in the share"] >= 10


def test_the_budget_error_keeps_its_class(tmp_path: Path) -> None:
    with taught(tmp_path, budget={"tokens": 1}) as (recipe, _), pytest.raises(GateError, match="budget"):
        run_here(recipe, tmp_path / "out", tmp_path / "store")


def test_the_demos_journal_is_what_the_rules_say(tmp_path: Path) -> None:
    """It cannot be out of date: a changed template or rule changes requests or replies."""
    made = [json.loads(line) for line in written_journal(tmp_path).splitlines()]
    assert made == [json.loads(line) for line in JOURNAL.read_bytes().splitlines()]
    found = statuses(tmp_path / "dataset")
    assert found["rewritten"] > 30
    decided = pq.read_table(tmp_path / "dataset/lineage/decisions").to_pylist()
    reflected = {row["source"] for row in decided if row["stage"] == "reflect" and row["reason"] == "rewritten"}
    assert {"alpaca", "chats", "code"} <= reflected
    assert sum(count for status, count in found.items() if status.startswith("kept: refusal")) > 0
