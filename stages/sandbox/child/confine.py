"""What a freshly forked process does to itself before any untrusted code runs."""

from __future__ import annotations

import fcntl
import itertools
import os
import resource
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from . import bpf, kernel
from .syscalls import machine

NOBODY: Final = 65534
PAYLOAD, RESULT, RPC_IN, RPC_OUT = 3, 4, 5, 6
_PARKING: Final = 300
_LAST: Final = 1 << 30
_READ: Final = kernel.READ_FILE | kernel.READ_DIR
# CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: kept, without a namespace, only where nobody could not read the interpreter.
_DAC_OVERRIDE, _DAC_READ_SEARCH = 1, 2


@dataclass(frozen=True)
class Caps:
    """Resource limits of one process: seconds, bytes, counts."""

    cpu: float
    wall: float
    memory: int
    data: int
    output: int
    processes: int
    stack: int


@dataclass(frozen=True)
class Setting:
    """What all processes of this fork server share."""

    namespaces: bool
    was_root: bool
    landlock: int
    paths: tuple[str, ...]
    scratch: str
    private_interpreter: bool
    tasks: int


class Prepared:
    """What every process needs and the fork server can make once: Landlock rulesets and seccomp programs."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.rulesets = {kind: _ruleset(setting, kind) for kind in ("python", "native")} if setting.landlock else {}
        self._filters: dict[str, bytes] = {}

    def ruleset(self, kind: str) -> int | None:
        """The Landlock ruleset for a kind of process; a compiler's is made on the spot, around its scratch folder."""
        if not self.setting.landlock:
            return None
        return self.rulesets[kind] if kind in self.rulesets else _ruleset(self.setting, kind)

    def filter(self, kind: str) -> bytes:
        """The seccomp program; in a namespace of its own a process always has the id 1."""
        if not self.setting.namespaces:
            return bpf.program(machine(), os.getpid(), kind)
        if kind not in self._filters:
            self._filters[kind] = bpf.program(machine(), 1, kind)
        return self._filters[kind]

    def warm(self) -> None:
        """Build the filters now, in the fork server."""
        for kind in ("python", "native", "compiler"):
            self.filter(kind)


def place_descriptors(wanted: Mapping[int, int], ruleset: int | None) -> None:
    """Put descriptors at their places, close all others, and enter Landlock on the way."""
    parked = {place: fcntl.fcntl(fd, fcntl.F_DUPFD, _PARKING) for place, fd in wanted.items()}
    if ruleset is not None:
        kernel.landlock_enter(ruleset)
    for place, fd in parked.items():
        os.dup2(fd, place, inheritable=place <= RPC_OUT)
        os.close(fd)
    edges = [-1, *sorted(wanted), _LAST]
    for before, after in itertools.pairwise(edges):
        kernel.close_between(before + 1, after - 1)


def _ruleset(setting: Setting, kind: str) -> int:
    ruleset = kernel.landlock_ruleset(setting.landlock)
    rights = _READ | (0 if kind == "python" else kernel.EXECUTE)
    for path in setting.paths:
        kernel.landlock_allow(ruleset, path, rights)
    for path in ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"):
        kernel.landlock_allow(ruleset, path, kernel.READ_FILE | kernel.WRITE_FILE)
    if kind == "compiler":
        kernel.landlock_allow(ruleset, setting.scratch, kernel.landlock_all(setting.landlock))
    return ruleset


def limit(caps: Caps, tasks: int) -> None:
    """Set every resource limit, soft and hard."""
    seconds = int(caps.cpu) + 2
    for what, value in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, caps.memory),
        (resource.RLIMIT_DATA, caps.data),
        (resource.RLIMIT_FSIZE, caps.output),
        (resource.RLIMIT_NPROC, caps.processes + tasks),
        (resource.RLIMIT_STACK, caps.stack),
        (resource.RLIMIT_NOFILE, 128),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        _lower(what, value)


def _lower(what: int, value: int) -> None:
    hard = resource.getrlimit(what)[1]
    cap = value if hard == resource.RLIM_INFINITY or value < hard else hard
    if value < 0:
        return
    resource.setrlimit(what, (cap, cap))


def drop_user(setting: Setting) -> None:
    """Become nobody, without capabilities and without a way to get any."""
    kept = _kept_capabilities(setting)
    if setting.was_root:
        if kept:
            kernel.keep_capabilities()
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    kernel.set_capabilities(kept)


def _kept_capabilities(setting: Setting) -> int:
    """Landlock confines reading to the listed folders, so this only lets nobody read an interpreter under /root."""
    if setting.namespaces or not setting.was_root or not setting.private_interpreter:
        return 0
    effective = _effective()
    for capability in (_DAC_READ_SEARCH, _DAC_OVERRIDE):
        if effective >> capability & 1:
            return 1 << capability
    return 0


def _effective() -> int:
    with open("/proc/self/status", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("CapEff:"):
                return int(line.split()[1], 16)
    return 0


def lock_down(filter: bytes) -> None:
    """The last step: the system call allow-list."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    kernel.seccomp(filter)
