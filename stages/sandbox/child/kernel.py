"""Thin wrappers around the Linux calls that Python's standard library does not have. All raise OSError."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import Final

from .syscalls import number

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_holding = ctypes.PyDLL(None, use_errno=True)  # calls that keep the interpreter's lock

NEWNS, NEWCGROUP, NEWUTS, NEWIPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
NEWUSER, NEWPID, NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 8, 4096, 16384, 1 << 18
MNT_DETACH: Final = 2
ATTR_RDONLY, ATTR_NOSUID, ATTR_NODEV, ATTR_NOEXEC = 1, 2, 4, 8
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_KEEPCAPS, _PR_SET_SECCOMP = 1, 4, 8, 22
_PR_CAPBSET_DROP, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 24, 36, 38
_CAPABILITY_VERSION_3: Final = 0x20080522
_RULE_PATH_BENEATH: Final = 1

READ_FILE, READ_DIR, EXECUTE, WRITE_FILE = 1 << 2, 1 << 3, 1 << 0, 1 << 1
# Every file-system right up to the ABI level at the index (linux/landlock.h).
_FS_RIGHTS: Final = (0, (1 << 13) - 1, (1 << 14) - 1, (1 << 15) - 1, (1 << 15) - 1, (1 << 16) - 1)


def _check(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def _call(name: str, *args: object) -> int:
    words = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]
    return _check(int(_libc.syscall(ctypes.c_long(number(name)), *words)), name)


def prepared(name: str, *args: object) -> Callable[[], None]:
    """A call whose arguments are known beforehand. A new process then touches little memory, and so copies little."""
    words = [ctypes.c_long(number(name)), *(ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args)]
    syscall = _libc.syscall

    def call() -> None:
        if syscall(*words) < 0:
            _check(-1, name)

    return call


def _text(value: str | None) -> ctypes.c_char_p:
    return ctypes.c_char_p(None if value is None else os.fsencode(value))


def fork() -> int:
    """fork(2) of a single-threaded process, without Python's hooks.

    They cost a third of a millisecond and would seed `random` anew: here every run starts from the same state.
    """
    return _check(int(_holding.fork()), "fork")


def unshare(flags: int) -> None:
    """Leave the namespaces named by `flags`."""
    _call("unshare", flags)


def setns(fd: int, flags: int) -> None:
    """Enter the namespace behind `fd`."""
    _call("setns", fd, flags)


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """mount(2)."""
    _call("mount", _text(source), _text(target), _text(kind), flags, _text(data))


class _MountAttr(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]


def mount_flags(target: str, attributes: int, recursive: bool) -> None:
    """Add mount attributes (ATTR_*) to a mount, and to all below it where `recursive`. Needs Linux 5.12."""
    attr = _MountAttr(attributes, 0, 0, 0)
    flags = _AT_RECURSIVE if recursive else 0
    _call("mount_setattr", _AT_FDCWD, _text(target), flags, ctypes.byref(attr), ctypes.sizeof(attr))


def enter_root(path: str) -> None:
    """Make `path` (a mount point) the root directory and detach everything else."""
    os.chdir(path)
    _call("pivot_root", _text("."), _text("."))
    _call("umount2", _text("."), MNT_DETACH)
    os.chdir("/")


def prctl(option: int, value: int = 0) -> None:
    """prctl(2) with one argument."""
    _call("prctl", option, value, 0, 0, 0)


def die_with_parent(signal: int) -> None:
    """Get `signal` when the parent dies."""
    prctl(_PR_SET_PDEATHSIG, signal)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1)


def lock_privileges() -> None:
    """No new privileges by any exec, and no debugger may attach."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1)
    prctl(_PR_SET_DUMPABLE, 0)


def keep_capabilities() -> None:
    """Do not drop capabilities when the user id changes from root."""
    prctl(_PR_SET_KEEPCAPS, 1)


def drop_bounding_set() -> None:
    """Drop every capability that an exec could regain. Quietly does nothing where that is not allowed."""
    for capability in range(64):
        try:
            prctl(_PR_CAPBSET_DROP, capability)
        except OSError:
            return


class _CapHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _CapData(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]


class Capabilities:
    """A set of capabilities (bits 0-31), ready to become exactly what a process has."""

    def __init__(self, mask: int) -> None:
        self.mask = mask
        self._header = _CapHeader(_CAPABILITY_VERSION_3, 0)
        self._data = (_CapData * 2)(_CapData(mask, mask, 0), _CapData(0, 0, 0))
        self.set = prepared("capset", ctypes.byref(self._header), ctypes.byref(self._data))
        """Have these and no others, effective and permitted."""


def landlock_abi() -> int:
    """The kernel's Landlock level, 0 where there is none."""
    try:
        return _call("landlock_create_ruleset", ctypes.c_void_p(None), 0, 1)
    except (OSError, KeyError):
        return 0


class _Ruleset(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("fs", "net", "scoped")]


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("parent_fd", ctypes.c_int32)]


def landlock_ruleset(abi: int) -> int:
    """A ruleset that handles (so: refuses) everything the kernel's level knows; returns its descriptor."""
    net, scoped = (3 if abi >= 4 else 0), (3 if abi >= 6 else 0)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    attr = _Ruleset(_FS_RIGHTS[min(abi, 5)], net, scoped)
    return _call("landlock_create_ruleset", ctypes.byref(attr), size, 0)


def landlock_allow(ruleset: int, path: str, rights: int) -> None:
    """Allow `rights` at and below `path`; a path that does not exist is left out."""
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        below = rights if os.path.isdir(path) else rights & ~READ_DIR
        rule = _PathBeneath(below, fd)
        _call("landlock_add_rule", ruleset, _RULE_PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(fd)


def landlock_entry(ruleset: int) -> Callable[[], None]:
    """A call that puts this thread, for good, under the ruleset."""
    return prepared("landlock_restrict_self", ruleset, 0)


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


class Filter:
    """A filter made by `bpf.program`, ready to be entered."""

    def __init__(self, program: bytes) -> None:
        self._buffer = ctypes.create_string_buffer(program, len(program))
        self._program = _Program(len(program) // 8, ctypes.cast(self._buffer, ctypes.c_void_p))
        self.enter = prepared("prctl", _PR_SET_SECCOMP, 2, ctypes.byref(self._program), 0, 0)
        """Put this thread, for good, under the filter."""


def closing(first: int, last: int) -> Callable[[], None]:
    """A call that closes every descriptor from `first` to `last`, both included."""
    return prepared("close_range", first, last, 0)


def landlock_all(abi: int) -> int:
    """Every file-system right of the kernel's level."""
    return _FS_RIGHTS[min(abi, 5)]
