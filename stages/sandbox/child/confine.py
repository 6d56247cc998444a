"""What a freshly forked process does to itself before any untrusted code runs."""

from __future__ import annotations

import itertools
import os
import resource
import signal
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from . import bpf, kernel
from .syscalls import machine

NOBODY: Final = 65534
PAYLOAD, RESULT, RPC_IN, RPC_OUT = 3, 4, 5, 6
_FIRST_RECEIVED: Final = 20
_ALONE: Final = (0, 1, 2, PAYLOAD, RESULT)
_PAIRED: Final = (*_ALONE, RPC_IN, RPC_OUT)
_SOMEBODY: Final = 0x7FFF1234  # stands for the process id in a filter that is not finished
_LAST: Final = 1 << 30
_READ: Final = kernel.READ_FILE | kernel.READ_DIR
# CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: kept, without a namespace, only where nobody could not read the interpreter.
_DAC_OVERRIDE, _DAC_READ_SEARCH = 1, 2


@dataclass(frozen=True)
class Setting:
    """What all processes of this fork server share."""

    namespaces: bool
    was_root: bool
    landlock: int
    paths: tuple[str, ...]
    scratch: str
    private_interpreter: bool


class Prepared:
    """Everything the fork server can make once, so that a new process has few steps left to take.

    A new process shares its memory with the fork server until it writes to it, and in Python even looking at an
    object writes to it. Each page that `enter` does without is a microsecond or two.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.capabilities = kernel.Capabilities(_kept_capabilities(setting))
        kinds = ("python", "native") if setting.landlock else ()
        self._landlock = {kind: kernel.landlock_entry(_ruleset(setting, kind)) for kind in kinds}
        self._templates = {kind: bpf.program(machine(), _SOMEBODY, kind) for kind in ("python", "native", "compiler")}
        self._filters = {kind: self._filter(kind, 1) for kind in self._templates} if setting.namespaces else {}
        self._gaps: dict[tuple[int, ...], list[Callable[[], None]]] = {
            places: _closings(places) for places in (_ALONE, _PAIRED)
        }

    def enter(self, kind: str, limits: Iterable[tuple[int, int]], places: Mapping[int, int]) -> None:
        """Confine this process for good: user, limits, Landlock, system calls, descriptors."""
        drop_user(self.setting, self.capabilities)
        seal = self._filters[kind] if self._filters else self._filter(kind, os.getpid())
        limit(limits)
        if self.setting.landlock:
            self._under_landlock(kind)
        for place, fd in places.items():
            os.dup2(fd, place, place <= RPC_OUT)
        gaps = self._gaps.get(tuple(places)) or _closings(tuple(places))
        seal.enter()
        for close in gaps:
            close()

    def _under_landlock(self, kind: str) -> None:
        """A compiler's ruleset is made on the spot, around its scratch folder."""
        known = self._landlock.get(kind)
        if known is None:
            known = kernel.landlock_entry(_ruleset(self.setting, kind))
        known()

    def _filter(self, kind: str, pid: int) -> kernel.Filter:
        template = self._templates[kind]
        return kernel.Filter(template.replace(struct.pack("=I", _SOMEBODY), struct.pack("=I", pid)))


def settle(setting: Setting) -> None:
    """What the fork server does to itself once, for all its children to inherit."""
    for what in (resource.RLIMIT_CORE, resource.RLIMIT_MEMLOCK, resource.RLIMIT_MSGQUEUE):
        resource.setrlimit(what, (0, 0))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    kernel.lock_privileges()
    if setting.was_root:
        kernel.drop_bounding_set()
    while os.dup(0) < _FIRST_RECEIVED - 1:  # so that descriptors we are sent never lie where a child wants its own
        pass


def _closings(places: tuple[int, ...]) -> list[Callable[[], None]]:
    """Calls that close every descriptor but those in `places`."""
    ends = [-1, *sorted(places), _LAST + 1]
    gaps = [(before + 1, after - 1) for before, after in itertools.pairwise(ends)]
    return [kernel.closing(first, last) for first, last in gaps if first <= last]


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


def limit(limits: Iterable[tuple[int, int]]) -> None:
    """Set this process's own resource limits (number and value), soft and hard."""
    for what, value in limits:
        try:
            resource.setrlimit(what, (value, value))
        except ValueError:  # the host's own hard limit is lower
            hard = resource.getrlimit(what)[1]
            resource.setrlimit(what, (hard, hard))


def drop_user(setting: Setting, capabilities: kernel.Capabilities) -> None:
    """Become nobody, without capabilities and without a way to get any."""
    if setting.was_root:
        if capabilities.mask:
            kernel.keep_capabilities()
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    capabilities.set()


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
