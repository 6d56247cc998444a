"""The words of the sandbox: limits, processes to run, results."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal

Status = Literal["passed", "wrong_answer", "runtime_error", "time_limit", "memory_limit", "output_limit", "skipped"]
Tier = Literal["zygote", "no-namespace"]
Mode = Literal["program", "calls", "candidate", "judge", "whole", "native", "compile"]
MEBIBYTE: Final = 1 << 20
SHOWN: Final = 2000
"""Characters of stdout and stderr kept in what people read."""


@dataclass(frozen=True)
class Limits:
    """Limits of one run. CPU time decides; wall time is a backstop far above it, so that load does not decide."""

    cpu_s: float = 6.0
    memory_mb: int = 2048
    output_bytes: int = 16 * MEBIBYTE
    processes: int = 64
    wall_s: float | None = None

    def wall(self) -> float:
        """Seconds of wall time after which a run is stopped whatever it does."""
        return self.wall_s if self.wall_s is not None else 10 + 5 * self.cpu_s


@dataclass(frozen=True)
class Process:
    """One confined process: its mode, the mode's payload (plain JSON values), standard input, limits.

    `program` is the path of an executable inside the sandbox, `binary` the descriptor of one (mode `native`).
    `stack_mb` bounds the stack of the main thread.
    """

    mode: Mode
    payload: dict[str, Any]
    stdin: bytes = b""
    limits: Limits = field(default_factory=Limits)
    program: str = ""
    binary: int | None = None
    stack_mb: int = 120


@dataclass(frozen=True)
class Result:
    """What a process did. `passed` only says that it ended well by itself: nobody has looked at its output yet."""

    status: Status
    stdout: bytes = b""
    stderr: bytes = b""
    returned: bytes = b""
    exit_code: int = 0
    cpu_ms: float = 0.0
    wall_ms: float = 0.0
    peak_mb: float = 0.0
    detail: str = ""

    @property
    def out(self) -> str:
        """Standard output for people: decoded and shortened."""
        return shorten(self.stdout.decode("utf-8", "replace"))

    @property
    def err(self) -> str:
        """Standard error for people: decoded and shortened, the end of it."""
        text = self.stderr.decode("utf-8", "replace")
        return text if len(text) <= SHOWN else "…" + text[-SHOWN:]


def shorten(text: str, limit: int = SHOWN) -> str:
    """`text`, or its beginning and a mark that there is more."""
    return text if len(text) <= limit else text[:limit] + f"… ({len(text)} characters)"
