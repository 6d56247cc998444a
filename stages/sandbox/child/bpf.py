"""The seccomp allow-lists as raw BPF programs: no compiler, no library."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from .syscalls import TABLES

_LD, _AND, _JA, _JEQ, _JGE, _RET = 0x20, 0x54, 0x05, 0x15, 0x35, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_X32_BIT = 0x40000000
_MASK32 = 0xFFFFFFFF

EXEC_FD: Final = 100
"""The one descriptor `execveat` may name: a program sets it up for itself once, close-on-exec."""


class Test(NamedTuple):
    """One condition on a 32-bit word of the arguments: `word & mask` must be one of `values`."""

    argument: int
    values: tuple[int, ...]
    mask: int = _MASK32
    high: bool = False


Insn = tuple[int, int, int, int]
Rule = tuple[str, tuple[Test, ...]]

# fmt: off
_PLAIN: Final = [
    "read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev", "close", "close_range",
    "fstat", "stat", "lstat", "newfstatat", "statx", "lseek", "mmap", "mprotect", "munmap", "brk", "mremap",
    "madvise", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigpending", "rt_sigtimedwait",
    "rt_sigsuspend", "sigaltstack", "access", "faccessat", "faccessat2", "open", "openat", "getdents64",
    "getcwd", "readlink", "readlinkat", "dup", "dup2", "dup3", "pipe", "pipe2", "recvfrom", "shutdown",
    "nanosleep", "clock_nanosleep", "clock_gettime", "clock_getres", "gettimeofday", "time", "getpid", "gettid",
    "getppid", "getuid", "geteuid", "getgid", "getegid", "getpgrp", "getpgid", "getgroups", "getresuid",
    "getresgid", "getrandom", "futex", "set_robust_list", "get_robust_list", "set_tid_address", "rseq",
    "sched_yield", "sched_getaffinity", "sched_getparam", "sched_getscheduler", "getrlimit", "getrusage",
    "times", "sysinfo", "uname", "exit", "exit_group", "restart_syscall", "poll", "ppoll", "select", "pselect6",
    "epoll_create", "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "eventfd2", "arch_prctl",
    "membarrier", "setitimer", "getitimer", "alarm", "pause", "wait4", "waitid", "ftruncate", "fadvise64",
    "capget",
]
# fmt: on
# fmt: off
_COMPILER: Final = [
    "clone", "fork", "vfork", "execve", "chdir", "mkdir", "mkdirat", "unlink", "unlinkat", "rename", "renameat",
    "renameat2", "rmdir", "chmod", "fchmod", "fchmodat", "utimensat", "umask",
]
# fmt: on
_MISSING: Final = ("clone3", "openat2")  # answered "no such call", so that libc falls back to the older one

# CLONE_VM | CLONE_THREAD must both be set: a thread, never a process.
_THREAD = Test(0, (0x00010100,), 0x00010100)
_FCNTL = (*range(8), 1030, 1032)  # dup, get/set flags, locks, F_DUPFD_CLOEXEC, F_GETPIPE_SZ
_IOCTL = (0x5401, 0x5413, 0x5451, 0x5450, 0x5421, 0x541B)  # TCGETS, TIOCGWINSZ, FIOCLEX, FIONCLEX, FIONBIO, FIONREAD
_PRCTL = (3, 15, 16, 39, 0x53564D41)  # get dumpable, set and get the thread's name, get no_new_privs, name a mapping
_AT_EMPTY_PATH = 0x1000


def _conditional(pid: int, native: bool) -> list[Rule]:
    rules: list[Rule] = [
        ("fcntl", (Test(1, _FCNTL),)),
        ("ioctl", (Test(1, _IOCTL),)),
        ("prctl", (Test(0, _PRCTL),)),
        ("prlimit64", (Test(0, (0, pid)),)),
        ("kill", (Test(0, (pid,)),)),
        ("tgkill", (Test(0, (pid,)),)),
        # An anonymous stream pair is as private as a pipe (asyncio needs one); a datagram socket could name others.
        ("socketpair", (Test(0, (socket.AF_UNIX,)), Test(1, (socket.SOCK_STREAM,), 0xF))),
        ("sendto", (Test(4, (0,)), Test(4, (0,), high=True))),
    ]
    if native:
        rules.append(("execveat", (Test(0, (EXEC_FD,)), Test(4, (_AT_EMPTY_PATH,)))))
    return rules


def _insn(code: int, k: int, jt: int = 0, jf: int = 0) -> Insn:
    return code, jt, jf, k & _MASK32


def _offset(test: Test) -> int:
    return 16 + 8 * test.argument + (4 if test.high else 0)


def _checks(tests: Sequence[Test]) -> list[Insn]:
    """Instructions that end in ALLOW when every test holds, in EPERM otherwise."""
    tail = [_insn(_RET, _ALLOW), _insn(_RET, _ERRNO | errno.EPERM)]
    code: list[Insn] = tail
    for test in reversed(tests):
        refuse = len(code) - 1  # distance from the instruction before `code` to the final refusal
        head = [_insn(_LD, _offset(test)), _insn(_AND, test.mask)]
        count = len(test.values)
        for at, value in enumerate(test.values):
            last = at == count - 1
            head.append(_insn(_JEQ, value, count - 1 - at, refuse if last else 0))
        code = head + code
    return code


def _search(starts: Sequence[int], bodies: Sequence[list[Insn]]) -> list[Insn]:
    """A binary search: `bodies[i]` runs for numbers from `starts[i]` up to the next start.

    The kernel runs a new filter once for every system call there is, so a long chain of comparisons costs at start.
    """
    if len(starts) == 1:
        return bodies[0]
    middle = len(starts) // 2
    left, right = _search(starts[:middle], bodies[:middle]), _search(starts[middle:], bodies[middle:])
    if len(left) < 256:
        return [_insn(_JGE, starts[middle], len(left), 0), *left, *right]
    return [_insn(_JGE, starts[middle], 0, 1), _insn(_JA, len(left)), *left, *right]


def program(machine: str, pid: int, kind: str = "python") -> bytes:
    """The filter for one process, as an array of `struct sock_filter`.

    `kind`: `python` (no new process, no new program), `native` (one `execveat` of `EXEC_FD`), `compiler` (processes
    and programs, for g++ on untrusted source). `pid` is the only process that may be signalled.
    """
    numbers, arch = TABLES[machine]
    actions = {numbers[name]: body for name, body in _actions(pid, kind).items() if name in numbers}
    refuse = [_insn(_RET, _ERRNO | errno.EPERM)]
    starts, bodies = [0], [refuse]
    for number in sorted({*actions, *(number + 1 for number in actions)}):
        body = actions.get(number, refuse)
        if number and body != bodies[-1]:
            starts.append(number)
            bodies.append(body)
        elif not number:
            bodies[0] = body
    head = [
        _insn(_LD, 4),
        _insn(_JEQ, arch, 1, 0),
        _insn(_RET, _KILL),
        _insn(_LD, 0),
        _insn(_JGE, _X32_BIT, 0, 1),
        _insn(_RET, _KILL),
    ]
    return b"".join(struct.pack("=HBBI", *insn) for insn in [*head, *_search(starts, bodies)])


def _actions(pid: int, kind: str) -> dict[str, list[Insn]]:
    """What happens on each system call that is not simply refused."""
    allow = [_insn(_RET, _ALLOW)]
    actions = dict.fromkeys(_PLAIN + (_COMPILER if kind == "compiler" else []), allow)
    if kind != "compiler":
        actions["clone"] = _checks([_THREAD])
    actions.update((name, _checks(tests)) for name, tests in _conditional(pid, kind == "native"))
    actions.update((name, [_insn(_RET, _ERRNO | errno.ENOSYS)]) for name in _MISSING)
    return actions
