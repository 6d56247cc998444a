"""The sandbox as its users see it: a pool of fork servers, one per worker."""

from __future__ import annotations

import os
import platform
import queue
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final, TypeVar

from .child.modes import OUT_OF_MEMORY
from .closing import Closing
from .errors import SandboxError
from .gate import MACHINE
from .model import MEBIBYTE, Limits, Process, Result, Status, Tier
from .probe import tier as best_tier
from .worker import Config, Died, Outcome, Request, Worker

_ATTEMPTS: Final = 3
_T = TypeVar("_T")
_R = TypeVar("_R")


class Sandbox(Closing):
    """Runs untrusted programs. Safe to share between threads; each run takes one of `workers` fork servers.

    Without `tier`, the strongest that works here is used; where none does, SandboxError says how to mend it.
    `interpreter` names version and machine, for cache keys. `python` is the interpreter for Python programs
    (default: this one, standard library only); `packages` are folders of extra packages they may import.
    Without `quiet_repeats`, `alone` does nothing: for users whose programs fail as a rule.
    """

    def __init__(
        self,
        workers: int = 1,
        tier: Tier | None = None,
        python: str | None = None,
        packages: Sequence[Path] = (),
        quiet_repeats: bool = True,
    ) -> None:
        self.tier: Tier = tier or best_tier()
        self.workers = workers
        self.quiet_repeats = quiet_repeats
        config = Config.of(self.tier, python or sys.executable, packages)
        self.interpreter = f"{config.version} {platform.machine()}"
        self._idle: queue.LifoQueue[Worker] = queue.LifoQueue()
        self._all = [Worker(config) for _ in range(workers)]
        for worker in self._all:
            self._idle.put(worker)

    def close(self) -> None:
        """Stop every process of this sandbox."""
        for worker in self._all:
            worker.stop()

    def run_python(self, code: str, stdin: bytes | str = b"", limits: Limits | None = None) -> Result:
        """Run `code` as a script with `stdin`."""
        data = stdin.encode("utf-8", "surrogatepass") if isinstance(stdin, str) else stdin
        return self.run(Process("program", {"code": code}, data, limits or Limits()))

    def run(self, process: Process) -> Result:
        """Run one process."""
        return self._exchange(Request((process,)))[0]

    def run_pair(self, first: Process, second: Process, wire: str = "rpc") -> tuple[Result, Result]:
        """Run two processes connected by two pipes. The run ends with the first; the second never outlives it.

        `wire`: `rpc` puts the pipes on descriptors of their own, `stdio` on standard input and output.
        """
        results = self._exchange(Request((first, second), wire))
        return results[0], results[1]

    def map(self, function: Callable[[_T], _R], items: Iterable[_T]) -> Iterator[_R]:
        """`function` over `items` with as many threads as there are workers, results in order."""
        with ThreadPoolExecutor(self.workers) as pool:
            yield from pool.map(function, items)

    def alone(self) -> AbstractContextManager[None]:
        """While this lasts, nothing else runs in any sandbox of this process: for repeating what failed.

        Waits for the runs that have begun; other threads' runs wait until it is over.
        """
        return MACHINE.alone() if self.quiet_repeats else nullcontext()

    @contextmanager
    def _worker(self) -> Iterator[Worker]:
        with MACHINE.together():
            worker = self._idle.get()
            try:
                yield worker
            finally:
                self._idle.put(worker)

    def _exchange(self, request: Request) -> list[Result]:
        """Run a request; a fork server that died is replaced, and the request tried again."""
        with self._worker() as worker:
            for attempt in range(_ATTEMPTS):
                try:
                    outcomes = worker.run(request)
                except Died as death:
                    worker.stop()
                    last = death
                    if attempt + 1 == _ATTEMPTS:
                        break
                else:
                    pairs = zip(request.processes, outcomes, strict=True)
                    return [_result(process, outcome) for process, outcome in pairs]
        raise SandboxError(f"the sandbox's fork server died {_ATTEMPTS} times on the same program: {last}")


def _result(process: Process, outcome: Outcome) -> Result:
    report = outcome.report
    status, detail = _status(process, report, outcome)
    return Result(
        status=status,
        stdout=outcome.stdout,
        stderr=outcome.stderr,
        returned=outcome.returned,
        exit_code=int(report["exit"]),
        cpu_ms=1000 * float(report["cpu"]),
        wall_ms=1000 * float(report["wall"]),
        peak_mb=float(report["peak_kb"]) / 1024,
        detail=detail,
    )


def _status(process: Process, report: dict[str, Any], outcome: Outcome) -> tuple[Status, str]:
    code, why = int(report["exit"]), str(report["why"])
    if why == "cpu" or code == -signal.SIGXCPU:
        return "time_limit", f"over {process.limits.cpu_s:g} s of CPU time"
    if why == "wall":
        return "time_limit", f"over {process.limits.wall():g} s of wall time"
    if code == -signal.SIGXFSZ or outcome.full(process.limits.output_bytes):
        return "output_limit", f"over {process.limits.output_bytes / MEBIBYTE:g} MiB of output"
    if code == OUT_OF_MEMORY or (code == -signal.SIGKILL and not why):
        return "memory_limit", f"over {process.limits.memory_mb} MiB of memory"
    if why == "ended":
        return "runtime_error", "stopped: the process it talked to had ended"
    if code < 0:
        return "runtime_error", f"killed by {_signal(-code)}"
    return ("passed", "") if code == 0 else ("runtime_error", f"exit status {code}")


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def default_workers() -> int:
    """One per processor this process may use."""
    return len(os.sched_getaffinity(0))
