"""The state of a run that is going on, died, or is done: which step, how far, how long, what is left."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pipelines.progress import EVENTS
from pipelines.publish import WORK
from schemas.errors import RecipeError
from schemas.lineage import MANIFEST

_COLOURS = {"finished": "green", "running": "cyan", "failed": "red", "died": "red"}


def status(directory: Path) -> dict[str, Any]:
    """The state of the newest run in a directory as plain values.

    `state` is `running` (a process holds the directory), `failed` (it stopped with an error), `died` (it stopped
    without a word: killed, or the machine went down) or `finished`. Raises RecipeError if no run was ever here.
    """
    unfinished = sorted((directory / WORK).glob(f"*/{EVENTS}"), key=lambda path: path.stat().st_mtime)
    if unfinished:
        return _told(_last_attempt(unfinished[-1]), _is_held(directory), time.time())
    if (directory / MANIFEST).is_file():
        events = _last_attempt(directory / EVENTS) if (directory / EVENTS).is_file() else []
        return {**_told(events, False, time.time()), "state": "finished", "left": [], "error": None}
    raise RecipeError(f"{directory} holds no run, finished or not")


def status_view(found: Mapping[str, Any]) -> RenderableType:
    """What `curate status` shows."""
    table = Table("step", "state", "rows", "time", "", title_justify="left")
    for step in found["steps"]:
        rows = f"{step['done']:,} of {step['total']:,}" if step["total"] and step["state"] != "done" else ""
        table.add_row(step["step"], step["state"], rows, _span(step["seconds"]), step["summary"] or step["doing"] or "")
    for name in found["left"]:
        table.add_row(name, "to do", "", "", "")
    return Group(Text(f"{found['state']}: {_headline(found)}", _COLOURS[found["state"]]), table)


def _headline(found: Mapping[str, Any]) -> str:
    if found["state"] == "finished":
        return f"{len(found['steps'])} steps, {_span(found['seconds'])}"
    if found["state"] == "running":
        more = f", about {_span(found['eta'])} left in this step" if found["eta"] is not None else ""
        return f"process {found['pid']} on {found['host']}, for {_span(found['seconds'])}{more}"
    why = found["error"] or "it stopped without a word (killed, or the machine went down)"
    return f"{why}; what was finished is kept: run the same command again"


def _last_attempt(path: Path) -> list[dict[str, Any]]:
    """Events of the newest attempt; a line that a kill cut short is left out."""
    events: list[dict[str, Any]] = []
    for line in path.read_bytes().splitlines():
        try:
            event = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        events = [event] if event["event"] == "begin" else [*events, event]
    return events


def _told(events: list[dict[str, Any]], held: bool, now: float) -> dict[str, Any]:
    begin = next((event for event in events if event["event"] == "begin"), {})
    error = next((event["error"] for event in events if event["event"] == "fail"), None)
    end = now if held else events[-1]["time"] if events else now
    steps = _steps(events, end)
    seen = {step["step"] for step in steps}
    return {
        "state": "running" if held else "failed" if error else "died", "error": error,
        "pid": begin.get("pid"), "host": begin.get("host"), "started": begin.get("time"),
        "seconds": round(end - begin.get("time", end), 1), "steps": steps, "eta": _eta(steps) if held else None,
        "left": [name for name in begin.get("steps", []) if name not in seen],
        "warnings": [event["text"] for event in events if event["event"] == "warning"],
    }  # fmt: skip


def _steps(events: list[dict[str, Any]], end: float) -> list[dict[str, Any]]:
    steps: dict[str, dict[str, Any]] = {}
    for event in events:
        name = event["step"]
        if event["event"] == "start":
            steps[name] = {
                "step": name, "state": "under way", "since": event["time"], "total": event["total"], "done": 0,
                "seconds": round(end - event["time"], 1), "summary": None, "doing": None,
            }  # fmt: skip
        elif event["event"] == "progress" and name in steps:
            steps[name] |= {"done": event["done"], "doing": None}
        elif event["event"] == "doing" and name in steps:
            steps[name]["doing"] = event["text"]
        elif event["event"] == "finish" and name in steps:
            seconds = round(event["time"] - steps[name]["since"], 1)
            steps[name] |= {"state": "done", "seconds": seconds, "summary": event["summary"]}
    return list(steps.values())


def _eta(steps: list[dict[str, Any]]) -> float | None:
    """Seconds left in the step under way, if its rows go on as they did."""
    step = steps[-1] if steps else None
    if step is None or step["state"] == "done" or not step["total"] or not step["done"]:
        return None
    return float(round(step["seconds"] * (step["total"] - step["done"]) / step["done"], 1))


def _is_held(directory: Path) -> bool:
    try:
        with (directory / ".lock").open("r") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _span(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))
