"""A repeat has the machine to itself."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from stages.sandbox import Limits, Sandbox
from stages.sandbox.gate import MACHINE, Gate
from stages.verify import verify_problem


def _watch(gate: Gate, threads: int, rounds: int) -> list[tuple[int, bool]]:
    """(others running, whether alone) seen inside each turn of many threads that mix both kinds."""
    running: set[tuple[int, int]] = set()
    lock, seen = threading.Lock(), []

    def turn(number: int, alone: bool) -> None:
        with gate.alone() if alone else gate.together():
            with lock:
                running.add((number, threading.get_ident()))
            time.sleep(0.001)
            with lock:
                seen.append((len(running) - 1, alone))
                running.discard((number, threading.get_ident()))

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(turn, range(rounds), [number % 5 == 0 for number in range(rounds)]))
    return seen


def test_nothing_runs_beside_who_is_alone_and_others_do_run_together() -> None:
    seen = _watch(Gate(), 8, 200)
    assert len(seen) == 200
    assert {others for others, alone in seen if alone} == {0}
    assert max(others for others, alone in seen if not alone) > 0


def test_who_is_alone_may_run_and_enter_again() -> None:
    gate = Gate()
    with gate.alone(), gate.alone(), gate.together():
        pass
    with gate.together():
        pass


def test_a_forked_child_does_not_wait_for_threads_it_does_not_have() -> None:
    with MACHINE.together():
        pid = os.fork()
        if pid == 0:
            with MACHINE.alone():
                os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_failures_are_repeated_with_nothing_else_running() -> None:
    """While a wrong program is repeated, the runs of the others have ended or not begun."""
    spans: list[tuple[float, float, bool]] = []

    class Timed(Sandbox):
        def run_python(self, code, stdin=b"", limits=None):  # type: ignore[no-untyped-def]
            with MACHINE.together():
                started = time.monotonic()
                result = super().run_python(code, stdin, limits)
                spans.append((started, time.monotonic(), MACHINE._alone is not None))
            return result

    def record(wrong: bool) -> dict[str, object]:
        code = f"import time; time.sleep(0.02); print(int(input()) + {int(wrong)})"
        tests = [{"input": f"{number}\n", "output": f"{number}\n"} for number in range(3)]
        solutions = [{"code": code, "language": "python"}]
        return {"tests": tests, "test_type": "stdio", "language": "python", "solutions": solutions}

    with Timed(workers=3) as sandbox:
        limits = Limits(cpu_s=2)
        records = [record(number % 3 == 0) for number in range(9)]
        verdicts = list(sandbox.map(lambda each: verify_problem(each, sandbox, limits), records))
    assert [verdict.verified for verdict in verdicts] == [number % 3 != 0 for number in range(9)]
    alone = [span for span in spans if span[2]]
    assert len(alone) == 9  # three checks of each of the three wrong programs
    for start, end, _ in alone:
        assert [span for span in spans if span[0] < end and span[1] > start] == [(start, end, True)]


def test_users_whose_programs_fail_as_a_rule_need_not_wait() -> None:
    with MACHINE.together(), Sandbox(quiet_repeats=False) as sandbox, sandbox.alone():
        assert MACHINE._alone is None
