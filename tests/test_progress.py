"""What a run shows of a long fit: on a terminal, in logs, in `curate status`."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from makes import alpaca_rows, write_jsonl, write_recipe
from rich.console import Console

from pipelines.progress import Bars, JsonLines, Lines, Logged, Reporter, Seldom, Silent
from reports.status import status
from stages.contract import FitsOn, Pool, State
from stages.length import Length


def test_seldom_is_once_per_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([5.0, 6.9, 7.0, 8.0])
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    often = Seldom(2)
    assert [often() for _ in range(4)] == [True, False, True, False]


@pytest.mark.parametrize(("made", "shown"), [(Lines, "quad             warming up: 1 of 9\n"), (Silent, "")])
def test_lines_are_few(made: type[Reporter], shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    reporter = made()
    reporter.start("quad", 5)
    reporter.tell("warming up: 1 of 9")
    reporter.tell("warming up: 2 of 9")
    assert capsys.readouterr().err == shown


def test_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = JsonLines()
    reporter.start("quad", 5)
    reporter.tell("warming up: 1 of 9")
    said = json.loads(capsys.readouterr().err.splitlines()[1])
    assert (said["event"], said["step"], said["text"]) == ("doing", "quad", "warming up: 1 of 9")


def test_a_bar_says_it_until_rows_move() -> None:
    bars = Bars(Console(file=io.StringIO(), force_terminal=True))
    bars.start("quad", 5)
    bars.tell("warming up: 1 of 9")
    assert bars._bar is not None
    assert bars._bar.tasks[0].description.split() == ["quad", "warming", "up:", "1", "of", "9"]
    bars.advance(2)
    assert (bars._bar.tasks[0].description, bars._bar.tasks[0].completed) == ("quad", 2)
    bars.finish("done")


def test_a_fit_under_way_is_seen_from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`curate status` of a run whose stage dies while it fits."""

    class Slow(Length):
        def fits_on(self) -> FitsOn:
            return "pool"

        def fit(self, pool: Pool, inputs: Mapping[str, Pool]) -> State:
            pool.progress("training", 3, 1_200)
            raise KeyboardInterrupt

    from makes import run_here

    monkeypatch.setattr("pipelines.recipe_file.stage_class", lambda name: Slow)
    write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(5))
    with pytest.raises(KeyboardInterrupt):
        run_here(write_recipe(tmp_path, stages=["length"]), tmp_path / "out", tmp_path / "store")
    assert status(tmp_path / "out")["steps"][-1]["doing"] == "training: 3 of 1,200"


def test_the_log_of_a_run_has_it_now_and_then(tmp_path: Path) -> None:
    logged = Logged(Silent(), tmp_path / "events.jsonl")
    logged.start("quad")
    for number in range(50):
        logged.tell(f"training: {number} of 50")
    events: list[dict[str, Any]] = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events] == ["start", "doing"]
    assert np.isfinite(events[1]["time"])
