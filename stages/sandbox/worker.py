"""One fork server seen from the host: start it, send requests, watch it, stop it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .errors import SandboxError
from .model import MEBIBYTE, Process, Tier

_MAIN: Final = str(Path(__file__).parent / "child" / "main.py")
_SYSTEM: Final = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/alternatives",
)  # fmt: skip
_START_S: Final = 30.0
_GRACE_S: Final = 5.0
_FAREWELL_S: Final = 1.0
_NOBODY: Final = 65534
_MOST_DESCRIPTORS: Final = 128
_CHANGE_USER: Final = 1 << 6 | 1 << 7  # CAP_SETGID, CAP_SETUID
_F_ADD_SEALS, _EVERY_SEAL = 1033, 0xF
_ENVIRONMENT: Final = {
    "PYTHONHASHSEED": "0",
    "PYTHONUTF8": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "LANG": "C.UTF-8",
    "LD_BIND_NOW": "1",  # once in the fork server, not again in every run
    "PATH": "/usr/bin:/bin",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}


class Died(Exception):
    """The fork server went away in the middle of a request."""


@dataclass(frozen=True)
class Request:
    """One or two processes to run together."""

    processes: tuple[Process, ...]
    wire: str = ""


@dataclass(frozen=True)
class Outcome:
    """The fork server's report about one process, and what the process wrote."""

    report: dict[str, Any]
    stdout: bytes
    stderr: bytes
    returned: bytes

    def full(self, limit: int) -> bool:
        """Whether any of its outputs reached the limit."""
        return max(len(self.stdout), len(self.stderr), len(self.returned)) >= limit


@dataclass(frozen=True)
class Config:
    """How fork servers of one sandbox are started."""

    tier: Tier
    python: str
    version: str
    paths: tuple[str, ...]
    packages: tuple[str, ...]
    private_interpreter: bool

    @classmethod
    def of(cls, tier: Tier, python: str, packages: Sequence[Path]) -> Config:
        """Work out which folders the interpreter needs. Raises SandboxError if there is no such interpreter."""
        found = shutil.which(python)
        if found is None:
            raise SandboxError(f"no interpreter at {python!r}")
        prefix, binary, version = _interpreter(found)
        folders = tuple(str(folder.resolve()) for folder in packages)
        paths = (*_SYSTEM, *(path for path in (prefix, *folders) if not path.startswith("/usr/")))
        return cls(tier, binary, version, paths, folders, not all(_public(path) for path in (prefix, *folders)))


def _interpreter(python: str) -> tuple[str, str, str]:
    """An interpreter's installation prefix, its real path (not a virtual environment's) and its version."""
    real = os.path.realpath(python)
    if real == os.path.realpath(sys.executable):
        return sys.base_prefix, real, platform.python_version()
    code = "import sys, platform; print(sys.base_prefix, platform.python_version(), sep='\\n')"
    told = subprocess.run([python, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    prefix, version = told.stdout.splitlines()
    return prefix, real, version


def _public(path: str) -> bool:
    """Whether everybody may read below `path`."""
    folder = Path(path)
    return all(parent.stat().st_mode & 1 for parent in (folder, *folder.parents)) and bool(folder.stat().st_mode & 4)


class Worker:
    """A fork server, started on first use and again after it died."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._link: socket.socket | None = None
        self._scratch: str | None = None
        self._tasks = 0
        self._owner = os.getpid()
        weakref.finalize(self, _cleanup, self.__dict__)

    @property
    def pid(self) -> int | None:
        """The process id of the fork server's first process, None while it is not running."""
        return self._process.pid if self._process else None

    def run(self, request: Request) -> list[Outcome]:
        """Run one request. Raises Died if the fork server did not survive it."""
        with self._lock:
            link = self._started()
            descriptors = [_descriptors(process) for process in request.processes]
            try:
                reports = self._ask(link, request, descriptors)
                return [_outcome(report, fds) for report, fds in zip(reports, descriptors, strict=True)]
            finally:
                for fds in descriptors:
                    for fd in fds[:5]:
                        os.close(fd)

    def stop(self) -> None:
        """Kill the fork server and everything it started."""
        _cleanup(self.__dict__)

    def _started(self) -> socket.socket:
        if self._owner != os.getpid():
            self._disown()
        if self._link is None:
            self._start()
        assert self._link is not None
        return self._link

    def _disown(self) -> None:
        """In a forked child of the host: the fork server belongs to the parent, we get one of our own."""
        if self._link is not None:
            self._link.close()
        self._link = self._process = self._scratch = None
        self._owner = os.getpid()

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(_START_S)
        if self._config.tier != "zygote":
            self._scratch = tempfile.mkdtemp(prefix=f"curatrix-scratch-{os.getpid()}-")
            os.chmod(self._scratch, 0o777)
        self._tasks = 8 if self._config.tier == "zygote" else 64 + _tasks_of_user()
        with tempfile.TemporaryFile() as log:
            command = [self._config.python, "-S", "-s", "-P", _MAIN, json.dumps(self._settings())]
            self._process = subprocess.Popen(
                command,
                stdin=theirs.fileno(),
                stdout=log,
                stderr=log,
                env=_ENVIRONMENT,
                cwd="/",
                start_new_session=True,
            )
            theirs.close()
            self._link = ours
            try:
                self._handshake(ours)
            except (OSError, SandboxError) as error:
                log.seek(0)
                said = log.read().decode("utf-8", "replace").strip().splitlines()
                self.stop()
                reason = said[-1] if said else str(error)
                raise SandboxError(f"the sandbox ({self._config.tier}) does not start: {reason}") from error

    def _settings(self) -> dict[str, Any]:
        namespaces = self._config.tier == "zygote"
        return {
            "namespaces": namespaces,
            "root": _can_become_nobody(),
            "paths": self._config.paths,
            "packages": self._config.packages,
            "scratch": self._scratch or "",
            "private_interpreter": self._config.private_interpreter,
        }

    def _handshake(self, link: socket.socket) -> None:
        word = link.recv(16)
        if word == b"unshared" and self._process:
            _map_users(self._process.pid)
            link.send(b"mapped")
            word = link.recv(16)
        if word != b"ready":
            raise SandboxError("it ended while starting")

    def _ask(self, link: socket.socket, request: Request, descriptors: list[list[int]]) -> list[dict[str, Any]]:
        specs = [
            _spec(process, request.wire, len(fds), self._tasks)
            for process, fds in zip(request.processes, descriptors, strict=True)
        ]
        link.settimeout(max(process.limits.wall() for process in request.processes) + _GRACE_S)
        try:
            socket.send_fds(link, [json.dumps(specs).encode()], [fd for fds in descriptors for fd in fds])
            answer = link.recv(1 << 16)
        except OSError as error:
            raise Died(str(error) or type(error).__name__) from error
        if not answer:
            raise Died("the link closed")
        told = json.loads(answer)
        if told["broken"]:
            raise SandboxError(f"a program could not be confined: {told['broken']}")
        reports: list[dict[str, Any]] = told["reports"]
        return reports


def _spec(process: Process, wire: str, fds: int, tasks: int) -> dict[str, Any]:
    return {
        "mode": process.mode,
        "cpu_s": process.limits.cpu_s,
        "wall_s": process.limits.wall(),
        "limits": _resources(process, tasks),
        "wire": wire,
        "fds": fds,
        "program": process.program,
    }


def _resources(process: Process, tasks: int) -> list[tuple[int, int]]:
    """Resource limits by their number; `tasks` are those that this user has besides."""
    limits = process.limits
    memory = limits.memory_mb * MEBIBYTE
    # Programs with a garbage-collected heap reserve address space they never touch: only data counts for them.
    total, data = (memory, -1) if process.mode not in ("native", "compile") else (-1, memory)
    seconds = int(limits.cpu_s) + 2
    values = (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, limits.output_bytes),
        (resource.RLIMIT_AS, total),
        (resource.RLIMIT_DATA, data),
        (resource.RLIMIT_NPROC, limits.processes + tasks),
        (resource.RLIMIT_STACK, process.stack_mb * MEBIBYTE),
        (resource.RLIMIT_NOFILE, _MOST_DESCRIPTORS),
    )
    return [(what, value) for what, value in values if value >= 0]


def _descriptors(process: Process) -> list[int]:
    """stdin, stdout, stderr, payload, result, and the program where it is given by descriptor."""
    fds = [_filled(process.stdin)]
    fds += [os.memfd_create(name, os.MFD_CLOEXEC) for name in ("stdout", "stderr")]
    fds += [_filled(json.dumps(process.payload).encode()), os.memfd_create("result", os.MFD_CLOEXEC)]
    return fds if process.binary is None else [*fds, process.binary]


def _filled(data: bytes) -> int:
    """A descriptor of `data`, at its beginning and sealed: nobody can change it any more."""
    fd = os.memfd_create("input", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    fcntl.fcntl(fd, _F_ADD_SEALS, _EVERY_SEAL)
    return fd


def _outcome(report: dict[str, Any], fds: list[int]) -> Outcome:
    return Outcome(report, _contents(fds[1]), _contents(fds[2]), _contents(fds[4]))


def _contents(fd: int) -> bytes:
    size = os.fstat(fd).st_size
    chunks = []
    at = 0
    while at < size:
        chunk = os.pread(fd, size - at, at)
        if not chunk:
            break
        chunks.append(chunk)
        at += len(chunk)
    return b"".join(chunks)


def _map_users(pid: int) -> None:
    """Give the new user namespace its ids: as root 0 and nobody, otherwise ourselves under nobody's number."""
    folder = Path(f"/proc/{pid}")
    if _can_become_nobody():
        lines = f"0 0 1\n{_NOBODY} {_NOBODY} 1\n"
        users = groups = lines
    else:
        (folder / "setgroups").write_text("deny")
        users, groups = f"{_NOBODY} {os.geteuid()} 1\n", f"{_NOBODY} {os.getegid()} 1\n"
    (folder / "uid_map").write_text(users)
    (folder / "gid_map").write_text(groups)


def _can_become_nobody() -> bool:
    """Whether we are a root that may change to nobody; in a rootless container there is no such user."""
    if os.geteuid() != 0 or Path("/proc/self/setgroups").read_text().strip() == "deny":
        return False
    status = Path("/proc/self/status").read_text()
    effective = int(status.partition("CapEff:")[2].split()[0], 16)
    return _mapped("uid") and _mapped("gid") and effective & _CHANGE_USER == _CHANGE_USER


def _mapped(kind: str) -> bool:
    ranges = [list(map(int, line.split())) for line in Path(f"/proc/self/{kind}_map").read_text().splitlines()]
    return any(first <= _NOBODY < first + count for first, _, count in ranges)


def _tasks_of_user() -> int:
    """How many tasks this user already has: without a namespace they count against the same limit."""
    uid = _NOBODY if _can_become_nobody() else os.geteuid()
    total = 0
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit() and folder.stat().st_uid == uid:
                total += len(os.listdir(folder / "task"))
    return total


def _cleanup(state: dict[str, Any]) -> None:
    if state.get("_owner") != os.getpid():
        return
    link, process, scratch = state.get("_link"), state.get("_process"), state.get("_scratch")
    state["_link"] = state["_process"] = state["_scratch"] = None
    if link is not None:
        with contextlib.suppress(OSError):
            link.shutdown(socket.SHUT_RDWR)  # the fork server ends itself, and its first process collects it
        link.close()
    if process is not None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_FAREWELL_S)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if scratch is not None:
        shutil.rmtree(scratch, ignore_errors=True)
