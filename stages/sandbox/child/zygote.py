"""The fork server: one request in, one or two confined processes, one report out. It never sees a payload.

After a fork, the fork server too pays for every page of memory that it writes to, and Python writes wherever it looks:
what happens once per request takes few steps, few functions and few kinds of objects.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import time
import traceback
from typing import Any, Final

from . import bpf, confine, kernel, modes, tree

_TICK: Final = 0.002
_FAILED: Final = 70
_MOST_FDS: Final = 16
_REPORT: Final = '{"exit": %d, "why": "%s", "cpu": %.6f, "wall": %.6f, "peak_kb": %d}'
_read_json: Final = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
Spec = dict[str, Any]


class Running:
    """One confined process while it runs."""

    __slots__ = ("cpu_s", "pid", "pidfd", "report", "started", "wall_s", "why")

    def __init__(self, pid: int, spec: Spec) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self.cpu_s: float = spec["cpu_s"]
        self.wall_s: float = spec["wall_s"]
        self.started = time.monotonic()
        self.why = ""
        self.report = ""

    def kill(self, why: str) -> None:
        """End it; the first reason counts."""
        self.why = self.why or why
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def enforce(self) -> float:
        """Kill it if it is over a limit; the seconds until it may be, by CPU time (all threads) and wall time."""
        try:
            cpu = self.cpu_s - time.clock_gettime((~self.pid) << 3 | 2)
        except OSError:
            cpu = self.cpu_s
        wall = self.wall_s - (time.monotonic() - self.started)
        if cpu <= 0 or wall <= 0:
            self.kill("cpu" if cpu <= 0 else "wall")
        return min(cpu, wall)

    def reap(self) -> None:
        """Collect it and write its report."""
        _, status, usage = os.wait4(self.pid, 0)
        wall = time.monotonic() - self.started
        os.close(self.pidfd)
        cpu = usage.ru_utime + usage.ru_stime
        self.report = _REPORT % (os.waitstatus_to_exitcode(status), self.why, cpu, wall, usage.ru_maxrss)


class Zygote:
    """Serves requests from `link` until it closes."""

    def __init__(self, link: socket.socket, setting: confine.Setting, pid_space: int | None) -> None:
        self.link = link
        self.setting = setting
        self.new_space = kernel.prepared("unshare", kernel.NEWPID)
        self.old_space = None if pid_space is None else kernel.prepared("setns", pid_space, kernel.NEWPID)
        self.prepared = confine.Prepared(setting)
        self.heard, self.complain = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.poll = select.poll()
        self.poll.register(link, 0)  # only hang-up and error: the host is gone

    def serve(self) -> None:
        """Answer requests until the host goes away."""
        room = socket.CMSG_SPACE(4 * _MOST_FDS)
        while True:
            message, sent, _, _ = self.link.recvmsg(1 << 16, room)
            if not message:
                return
            fds = memoryview(sent[0][2]).cast("i").tolist()
            self.link.send(self._run(_read_json(message.decode(), 0)[0], fds))

    def _run(self, request: list[Spec], fds: list[int]) -> bytes:
        """The reports on a request, as JSON."""
        pipes = [*os.pipe(), *os.pipe()] if len(request) == 2 else []
        running: list[Running] = []
        first = 0
        for spec in request:
            own = fds[first : first + spec["fds"]]  # stdin, stdout, stderr, payload, result, program
            running.append(self._start(spec, _places(spec, own, pipes, len(running))))
            first += len(own)
        for fd in fds:
            os.close(fd)
        for fd in pipes:
            os.close(fd)
        self._supervise(running)
        reports = ", ".join([process.report for process in running])
        broken = self._complaint() if f'"exit": {_FAILED},' in reports else '""'
        return f'{{"broken": {broken}, "reports": [{reports}]}}'.encode()

    def _complaint(self) -> str:
        """What a process said that could not confine itself, as JSON. A program may end with that status too."""
        try:
            return json.dumps(os.read(self.heard, 4096).decode("utf-8", "replace"))
        except BlockingIOError:
            return '""'

    def _start(self, spec: Spec, places: dict[int, int]) -> Running:
        """Fork; with namespaces, into a process-id namespace of its own, where the child is process 1."""
        if self.old_space is not None:
            self.new_space()
        pid = kernel.fork()
        if pid == 0:
            self._child(spec, places)
        if self.old_space is not None:
            self.old_space()
        return Running(pid, spec)

    def _child(self, spec: Spec, places: dict[int, int]) -> None:
        """Nothing returns from here into the fork server's loop."""
        try:
            try:
                self._confine(spec, places)
            except BaseException as error:
                os.write(self.complain, f"{type(error).__name__}: {error}"[:1000].encode())
                os._exit(_FAILED)
            modes.run(spec["mode"])
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(_FAILED)

    def _confine(self, spec: Spec, places: dict[int, int]) -> None:
        kind = modes.KINDS[spec["mode"]]
        if kind == "compiler":
            os.environ["TMPDIR"] = self.setting.scratch
            if self.setting.namespaces:
                kernel.unshare(kernel.NEWNS)
                tree.scratch(256)
        if self.old_space is None:
            kernel.die_with_parent(signal.SIGKILL)
            os.setsid()
        self.prepared.enter(kind, spec["limits"], places)

    def _supervise(self, running: list[Running]) -> None:
        """Wait until the first process ends; the second, where there is one, does not outlive it."""
        for process in running:
            self.poll.register(process.pidfd, select.POLLIN)
        wait = min([min(process.cpu_s, process.wall_s) for process in running])
        while not running[0].report:
            for fd, _ in self.poll.poll(max(_TICK, wait) * 1000):
                self._collect(fd, running)
            if not running[0].report:
                wait = min([process.enforce() for process in running if not process.report])
        for process in running:
            if not process.report:
                process.kill("ended")
                self._reap(process)

    def _collect(self, fd: int, running: list[Running]) -> None:
        if fd == self.link.fileno():
            _abandon(running)
        for process in running:
            if process.pidfd == fd and not process.report:
                self._reap(process)

    def _reap(self, process: Running) -> None:
        self.poll.unregister(process.pidfd)
        process.reap()
        if self.old_space is None:  # without namespaces: what a compiler may have left
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)


def _places(spec: Spec, fds: list[int], pipes: list[int], at: int) -> dict[int, int]:
    """Which descriptor goes where. The first of the two pipes carries bytes from process 0 to 1, the other back."""
    places = {0: fds[0], 1: fds[1], 2: fds[2], confine.PAYLOAD: fds[3], confine.RESULT: fds[4]}
    if spec["mode"] == "native":
        places[bpf.EXEC_FD] = fds[5] if len(fds) > 5 else os.open(spec["program"], os.O_RDONLY | os.O_CLOEXEC)
    if pipes:
        ends = (pipes[2 - 2 * at], pipes[2 * at + 1])
        target = (0, 1) if spec["wire"] == "stdio" else (confine.RPC_IN, confine.RPC_OUT)
        places.update(zip(target, ends, strict=True))
    return places


def _abandon(running: list[Running]) -> None:
    for process in running:
        process.kill("host gone")
    os._exit(0)
