"""The fork server: one request in, one or two confined processes, one report out. It never sees a payload."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import time
import traceback
from dataclasses import dataclass, field
from typing import Any, Final

from . import bpf, confine, kernel, modes, tree

_TICK: Final = 0.002
Report = dict[str, Any]


@dataclass
class Running:
    """One confined process while it runs."""

    pid: int
    pidfd: int
    caps: confine.Caps
    started: float
    why: str = ""
    report: Report = field(default_factory=dict)

    def cpu(self) -> float:
        """CPU seconds used so far, all threads."""
        try:
            return time.clock_gettime((~self.pid) << 3 | 2)
        except OSError:
            return 0.0

    def kill(self, why: str) -> None:
        self.why = self.why or why
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


class Zygote:
    """Serves requests from `link` until it closes."""

    def __init__(self, link: socket.socket, setting: confine.Setting, pid_space: int | None) -> None:
        self.link = link
        self.setting = setting
        self.pid_space = pid_space
        self.prepared = confine.Prepared(setting)

    def serve(self) -> None:
        """Answer requests until the host goes away."""
        while True:
            message, fds, _, _ = socket.recv_fds(self.link, 1 << 16, 16)
            if not message:
                return
            reports = self._run(json.loads(message), fds)
            self.link.send(json.dumps(reports).encode())

    def _run(self, request: list[Report], fds: list[int]) -> list[Report]:
        pipes = _pipes(len(request))
        heard, complain = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        running: list[Running] = []
        first = 0
        for at, spec in enumerate(request):
            own = fds[first : first + spec["fds"]]  # stdin, stdout, stderr, payload, result, program
            running.append(self._start(spec, at, own, pipes, complain))
            first += len(own)
        for fd in [*fds, complain, *(end for pair in pipes for end in pair)]:
            os.close(fd)
        self._supervise(running)
        running[0].report["broken"] = os.read(heard, 1000).decode("utf-8", "replace")
        os.close(heard)
        return [process.report for process in running]

    def _start(self, spec: Report, at: int, own: list[int], pipes: list[tuple[int, int]], complain: int) -> Running:
        caps = confine.Caps(*spec["caps"])
        started = time.monotonic()
        pid = self._fork()
        if pid == 0:
            self._child(spec, caps, _places(spec, own, pipes, at), complain)
        return Running(pid, os.pidfd_open(pid), caps, started)

    def _fork(self) -> int:
        """Fork; with namespaces, into a process-id namespace of its own, where the child is process 1."""
        if self.pid_space is None:
            return kernel.fork()
        kernel.unshare(kernel.NEWPID)
        pid = kernel.fork()
        if pid:
            kernel.setns(self.pid_space, kernel.NEWPID)
        return pid

    def _child(self, spec: Report, caps: confine.Caps, places: dict[int, int], complain: int) -> None:
        """Nothing returns from here into the fork server's loop."""
        try:
            self._confine(spec, caps, places)
        except BaseException as error:
            os.write(complain, f"{type(error).__name__}: {error}".encode())
            os._exit(70)
        try:
            modes.run(spec["mode"])
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(70)

    def _confine(self, spec: Report, caps: confine.Caps, places: dict[int, int]) -> None:
        kind = modes.KINDS[spec["mode"]]
        if kind == "compiler":
            os.environ["TMPDIR"] = self.setting.scratch
            if self.setting.namespaces:
                kernel.unshare(kernel.NEWNS)
                tree.scratch(256)
        if self.pid_space is None:
            kernel.die_with_parent(signal.SIGKILL)
            os.setsid()
        confine.drop_user(self.setting, self.prepared.capabilities)
        seal = self.prepared.filter(kind)
        confine.limit(caps, self.setting.tasks)
        confine.place_descriptors(places, self.prepared.ruleset(kind))
        seal.enter()

    def _supervise(self, running: list[Running]) -> None:
        """Wait until the first process ends; the second, where there is one, does not outlive it."""
        poll = select.poll()
        poll.register(self.link, 0)  # only hang-up and error: the host is gone
        for process in running:
            poll.register(process.pidfd, select.POLLIN)
        while not running[0].report:
            for fd, _ in poll.poll(_wait_ms(running)):
                if fd == self.link.fileno():
                    _abandon(running)
                self._collect(fd, running, poll)
            _enforce(running)
        for process in running:
            if not process.report:
                process.kill("ended")
                _reap(process)

    def _collect(self, fd: int, running: list[Running], poll: select.poll) -> None:
        for process in running:
            if process.pidfd == fd and not process.report:
                poll.unregister(fd)
                _reap(process)


def _pipes(count: int) -> list[tuple[int, int]]:
    return [os.pipe(), os.pipe()] if count == 2 else []


def _places(spec: Report, fds: list[int], pipes: list[tuple[int, int]], at: int) -> dict[int, int]:
    """Which descriptor goes where. Pipe 0 carries bytes from process 0 to process 1, pipe 1 the other way."""
    places = {0: fds[0], 1: fds[1], 2: fds[2], confine.PAYLOAD: fds[3], confine.RESULT: fds[4]}
    if spec["mode"] == "native":
        places[bpf.EXEC_FD] = fds[5] if len(fds) > 5 else os.open(spec["program"], os.O_RDONLY | os.O_CLOEXEC)
    if pipes:
        ends = (pipes[1 - at][0], pipes[at][1])
        target = (0, 1) if spec["wire"] == "stdio" else (confine.RPC_IN, confine.RPC_OUT)
        places.update(zip(target, ends, strict=True))
    return places


def _wait_ms(running: list[Running]) -> float:
    now = time.monotonic()
    left = [_left(process, now) for process in running if not process.report]
    return max(_TICK, min(left)) * 1000


def _left(process: Running, now: float) -> float:
    wall = process.caps.wall - (now - process.started)
    return min(wall, process.caps.cpu - process.cpu())


def _enforce(running: list[Running]) -> None:
    now = time.monotonic()
    for process in running:
        if process.report:
            continue
        if process.cpu() >= process.caps.cpu:
            process.kill("cpu")
        elif now - process.started >= process.caps.wall:
            process.kill("wall")


def _reap(process: Running) -> None:
    _, status, usage = os.wait4(process.pid, 0)
    os.close(process.pidfd)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)  # without namespaces: what a compiler may have left
    process.report = {
        "exit": os.waitstatus_to_exitcode(status),
        "why": process.why,
        "cpu": usage.ru_utime + usage.ru_stime,
        "wall": time.monotonic() - process.started,
        "peak_kb": usage.ru_maxrss,
    }


def _abandon(running: list[Running]) -> None:
    for process in running:
        process.kill("host gone")
    os._exit(0)
