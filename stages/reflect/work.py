"""Driving the records of a run through their calls, many at a time, and giving back batches in order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Final

import pyarrow as pa

from schemas.errors import CuratrixError, GateError
from stages.llm import in_order
from stages.llm.client import Client
from stages.reflect.checked import check_failure, is_tested
from stages.reflect.columns import result_batch
from stages.reflect.flow import Outcome, Tools, rewrite
from stages.reflect.selecting import Measure, measure
from stages.reflect.turns import Row, Turn
from stages.sandbox import Limits, Sandbox, default_workers
from stages.student.models import Student

LIMITS: Final = Limits(cpu_s=10.0)


class Testing:
    """Checks new answers beside the event loop, in a sandbox that starts with the first program."""

    __test__ = False  # no class of tests

    def __init__(self) -> None:
        self._exit = ExitStack()
        self._threads = self._exit.enter_context(ThreadPoolExecutor(default_workers()))
        self._lock = Lock()
        self._sandbox: Sandbox | None = None

    async def verify(self, row: Row, answer: str) -> str | None:
        """Why an answer fails its record's own checks; None where it passes or has none."""
        if not is_tested(row):
            return check_failure(row, answer, None, LIMITS)
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._tested, row, answer)

    def close(self) -> None:
        """Stop sandbox and threads."""
        self._exit.close()

    def _tested(self, row: Row, answer: str) -> str | None:
        with self._lock:
            self._sandbox = self._sandbox or self._exit.enter_context(Sandbox(default_workers()))
        return check_failure(row, answer, self._sandbox, LIMITS)


class Scoring:
    """Measures pairs in a thread of its own while requests are under way: a model is used by one thread at a time."""

    def __init__(self, student: Student) -> None:
        self._student = student
        self._thread = ThreadPoolExecutor(1)

    async def measure(self, turn: Turn) -> Measure | str:
        """The losses of a turn's pair."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, measure, self._student, turn)

    def close(self) -> None:
        """Wait for the thread."""
        self._thread.shutdown()


@dataclass
class _Reading:
    """Records taken from the runner's batches. Once `stopped`, no more are begun."""

    batches: Iterator[pa.RecordBatch]
    taken: list[pa.RecordBatch] = field(default_factory=list)
    stopped: bool = False

    def rows(self) -> Iterator[dict[str, Any]]:
        for batch in self.batches:
            self.taken.append(batch)
            for row in batch.to_pylist():
                if self.stopped:
                    return
                yield row


def rewritten_batches(
    batches: Iterator[pa.RecordBatch], tools: Tools, client: Client, ahead: int, share: float
) -> Iterator[pa.RecordBatch]:
    """A result batch for every batch, in order, with up to `ahead` records under way.

    Where no further reply can be had (the budget is used up, the server gone), no record is begun any more, those under
    way are finished, so that what they paid for is in the journal, and then the reason is raised.
    """
    reading = _Reading(batches)
    done: list[Outcome] = []
    failed: CuratrixError | None = None

    async def work(row: dict[str, Any]) -> Outcome | CuratrixError:
        if not in_share(row["content_hash"], share):
            return Outcome("kept: not in the share")
        try:
            return await rewrite(row, tools)
        except CuratrixError as error:
            reading.stopped = True
            return error

    for outcome in in_order(reading.rows(), work, ahead, [client]):
        if isinstance(outcome, CuratrixError):
            failed = failed or outcome
        elif not failed:
            done.append(outcome)
            if len(done) == reading.taken[0].num_rows:
                yield result_batch(reading.taken.pop(0), done)
                done = []
    if failed:
        raise _explained(failed)


def in_share(content_hash: str, share: float) -> bool:
    """Whether a content is among a share of all contents; a larger share holds every smaller one."""
    return int(content_hash[:8], 16) < share * 2**32


def _explained(error: CuratrixError) -> CuratrixError:
    advice = "everything paid for is in the journal, so run again to pay only for the rest"
    if isinstance(error, GateError):
        return GateError(f"reflect: {error}; {advice}, after raising `budget`")
    return type(error)(f"reflect: {error}; {advice}")
