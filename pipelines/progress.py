"""Telling people what a run does: bars on a terminal, one line per step elsewhere, always on stderr."""

from __future__ import annotations

import os
import socket
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

_EVERY_SECONDS, _LINE_SECONDS = 2.0, 10.0
EVENTS = "events.jsonl"
"""What a run tells while it runs, beside its unfinished output."""


class Reporter(Protocol):
    """Hears of every step of a run: its start, its advance in rows, its end, and warnings."""

    def start(self, step: str, total: int | None = None) -> None:
        """A step begins; `total` rows where known."""

    def advance(self, rows: int) -> None:
        """Rows of the current step done."""

    def tell(self, doing: str) -> None:
        """What the current step is about and how far that is, where it is not a matter of rows; told often."""

    def finish(self, summary: str) -> None:
        """The current step is over."""

    def warn(self, text: str) -> None:
        """Something people should look at."""


class Seldom:
    """True when called for the first time, and again once so many seconds have passed since it was last true."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._last = seconds, -seconds

    def __call__(self) -> bool:
        """Whether it is time."""
        now = time.monotonic()
        if now - self._last < self._seconds:
            return False
        self._last = now
        return True


class Silent:
    """Says nothing."""

    def start(self, step: str, total: int | None = None) -> None:
        """Nothing."""

    def advance(self, rows: int) -> None:
        """Nothing."""

    def tell(self, doing: str) -> None:
        """Nothing."""

    def finish(self, summary: str) -> None:
        """Nothing."""

    def warn(self, text: str) -> None:
        """Nothing."""


class Lines:
    """One line per step, for logs and pipes."""

    def __init__(self) -> None:
        self._step, self._since, self._now = "", time.monotonic(), Seldom(_LINE_SECONDS)

    def start(self, step: str, total: int | None = None) -> None:
        """Remember the step."""
        self._step, self._since = step, time.monotonic()

    def advance(self, rows: int) -> None:
        """Lines do not move."""

    def tell(self, doing: str) -> None:
        """Print a line now and then."""
        if self._now():
            print(f"{self._step:<16} {doing}", file=sys.stderr, flush=True)

    def finish(self, summary: str) -> None:
        """Print the step's line."""
        print(f"{self._step:<16} {summary}  ({time.monotonic() - self._since:.1f} s)", file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        """Print a warning."""
        print(f"warning: {text}", file=sys.stderr, flush=True)


class JsonLines:
    """One JSON object per event on stderr, for log collectors."""

    def __init__(self) -> None:
        self._step, self._since, self._now = "", time.monotonic(), Seldom(_LINE_SECONDS)

    def start(self, step: str, total: int | None = None) -> None:
        """Log the start."""
        self._step, self._since = step, time.monotonic()
        self._log("start", rows=total)

    def advance(self, rows: int) -> None:
        """Lines do not move."""

    def tell(self, doing: str) -> None:
        """Log it now and then."""
        if self._now():
            self._log("doing", text=doing)

    def finish(self, summary: str) -> None:
        """Log the end, with its seconds."""
        self._log("finish", summary=summary, seconds=round(time.monotonic() - self._since, 3))

    def warn(self, text: str) -> None:
        """Log a warning."""
        self._log("warning", text=text)

    def _log(self, event: str, **fields: str | float | None) -> None:
        line = {"time": datetime.now(UTC).isoformat(), "event": event, "step": self._step, **fields}
        print(orjson.dumps(line).decode(), file=sys.stderr, flush=True)


class Bars:
    """A live bar for the current step and a line for each finished one."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._step, self._since = "", time.monotonic()

    def start(self, step: str, total: int | None = None) -> None:
        """Show a bar."""
        self._close()
        self._step, self._since = step, time.monotonic()
        self._bar = Progress(
            SpinnerColumn(), TextColumn("{task.description:<16}"), BarColumn(), MofNCompleteColumn(),
            TimeElapsedColumn(), console=self._console, transient=True,
        )  # fmt: skip
        self._task = self._bar.add_task(step, total=total)
        self._bar.start()

    def advance(self, rows: int) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(self._task, advance=rows, description=self._step)

    def tell(self, doing: str) -> None:
        """Show it beside the bar."""
        if self._bar is not None:
            self._bar.update(self._task, description=f"{self._step:<16} {doing}")

    def finish(self, summary: str) -> None:
        """Replace the bar by a line."""
        self._close()
        seconds = time.monotonic() - self._since
        self._console.print(f"[green]✓[/] {self._step:<16} {summary}  [dim]{seconds:.1f} s[/]", highlight=False)

    def warn(self, text: str) -> None:
        """Print a warning above the bar."""
        self._console.print(f"[yellow]warning:[/] {text}", highlight=False)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class Logged:
    """Passes everything on and appends it as JSON lines to a file."""

    def __init__(self, inner: Reporter, path: Path) -> None:
        self._inner, self._path, self._step = inner, path, ""
        self._done, self._now, self._saying = 0, Seldom(_EVERY_SECONDS), Seldom(_EVERY_SECONDS)
        path.parent.mkdir(parents=True, exist_ok=True)

    def begin(self, steps: list[str]) -> None:
        """Log that a run begins, and which steps it will take."""
        self._log("begin", steps=steps, pid=os.getpid(), host=socket.gethostname())

    def fail(self, error: BaseException) -> None:
        """Log why the run stops."""
        self._log("fail", error=f"{type(error).__name__}: {error}")

    def start(self, step: str, total: int | None = None) -> None:
        """Log and pass on."""
        self._step, self._done = step, 0
        self._log("start", total=total)
        self._inner.start(step, total)

    def advance(self, rows: int) -> None:
        """Pass on, and log now and then."""
        self._done += rows
        if self._now():
            self._log("progress", done=self._done)
        self._inner.advance(rows)

    def tell(self, doing: str) -> None:
        """Pass on, and log now and then."""
        if self._saying():
            self._log("doing", text=doing)
        self._inner.tell(doing)

    def finish(self, summary: str) -> None:
        """Log and pass on."""
        self._log("finish", summary=summary)
        self._inner.finish(summary)

    def warn(self, text: str) -> None:
        """Log and pass on."""
        self._log("warning", text=text)
        self._inner.warn(text)

    def _log(self, event: str, **fields: str | int | list[str] | None) -> None:
        line = {"time": round(time.time(), 3), "event": event, "step": self._step, **fields}
        with self._path.open("ab") as handle:
            handle.write(orjson.dumps(line) + b"\n")


def reporter_for_terminal(quiet: bool = False) -> Reporter:
    """Bars where stderr is a terminal, lines elsewhere, silence when asked for; JSON with CURATRIX_LOG=json."""
    if quiet:
        return Silent()
    if os.environ.get("CURATRIX_LOG") == "json":
        return JsonLines()
    console = Console(stderr=True)
    return Bars(console) if console.is_terminal else Lines()
