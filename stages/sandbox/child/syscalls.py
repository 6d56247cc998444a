"""System call numbers of the two supported machines, from the kernel's own headers (asm/unistd_64.h, asm-generic)."""

from __future__ import annotations

import platform
from typing import Final

# fmt: off
X86_64: Final[dict[str, int]] = {
    "read": 0, "write": 1, "readv": 19, "writev": 20, "pread64": 17, "pwrite64": 18, "preadv": 295, "pwritev":
    296, "close": 3, "close_range": 436, "fstat": 5, "stat": 4, "lstat": 6, "newfstatat": 262, "statx": 332,
    "lseek": 8, "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12, "mremap": 25, "madvise": 28, "rt_sigaction":
    13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "rt_sigpending": 127, "rt_sigtimedwait": 128, "rt_sigsuspend":
    130, "sigaltstack": 131, "ioctl": 16, "access": 21, "faccessat": 269, "faccessat2": 439, "open": 2,
    "openat": 257, "getdents64": 217, "getcwd": 79, "chdir": 80, "readlink": 89, "readlinkat": 267, "dup": 32,
    "dup2": 33, "dup3": 292, "fcntl": 72, "pipe": 22, "pipe2": 293, "socketpair": 53, "sendto": 44, "recvfrom":
    45, "shutdown": 48, "getsockopt": 55, "nanosleep": 35, "clock_nanosleep": 230, "clock_gettime": 228,
    "clock_getres": 229, "gettimeofday": 96, "time": 201, "getpid": 39, "gettid": 186, "getppid": 110, "getuid":
    102, "geteuid": 107, "getgid": 104, "getegid": 108, "getpgrp": 111, "getpgid": 121, "getgroups": 115,
    "getresuid": 118, "getresgid": 120, "getrandom": 318, "futex": 202, "set_robust_list": 273,
    "get_robust_list": 274, "set_tid_address": 218, "rseq": 334, "sched_yield": 24, "sched_getaffinity": 204,
    "sched_getparam": 143, "sched_getscheduler": 145, "getrlimit": 97, "prlimit64": 302, "getrusage": 98,
    "times": 100, "sysinfo": 99, "uname": 63, "exit": 60, "exit_group": 231, "restart_syscall": 219, "poll": 7,
    "ppoll": 271, "select": 23, "pselect6": 270, "epoll_create": 213, "epoll_create1": 291, "epoll_ctl": 233,
    "epoll_wait": 232, "epoll_pwait": 281, "eventfd2": 290, "arch_prctl": 158, "prctl": 157, "membarrier": 324,
    "setitimer": 38, "getitimer": 36, "alarm": 37, "pause": 34, "kill": 62, "tgkill": 234, "wait4": 61,
    "waitid": 247, "ftruncate": 77, "fadvise64": 221, "clone": 56, "clone3": 435, "execve": 59, "execveat": 322,
    "vfork": 58, "fork": 57, "mkdir": 83, "mkdirat": 258, "unlink": 87, "unlinkat": 263, "rename": 82,
    "renameat": 264, "renameat2": 316, "rmdir": 84, "chmod": 90, "fchmod": 91, "fchmodat": 268, "utimensat":
    280, "umask": 95, "capget": 125, "openat2": 437, "landlock_create_ruleset": 444, "landlock_add_rule": 445,
    "landlock_restrict_self": 446, "unshare": 272, "setns": 308, "pivot_root": 155, "mount": 165, "umount2":
    166, "mount_setattr": 442, "capset": 126,
}
# fmt: on
# fmt: off
AARCH64: Final[dict[str, int]] = {
    "read": 63, "write": 64, "readv": 65, "writev": 66, "pread64": 67, "pwrite64": 68, "preadv": 69, "pwritev":
    70, "close": 57, "close_range": 436, "fstat": 80, "newfstatat": 79, "statx": 291, "lseek": 62, "mmap": 222,
    "mprotect": 226, "munmap": 215, "brk": 214, "mremap": 216, "madvise": 233, "rt_sigaction": 134,
    "rt_sigprocmask": 135, "rt_sigreturn": 139, "rt_sigpending": 136, "rt_sigtimedwait": 137, "rt_sigsuspend":
    133, "sigaltstack": 132, "ioctl": 29, "faccessat": 48, "faccessat2": 439, "openat": 56, "getdents64": 61,
    "getcwd": 17, "chdir": 49, "readlinkat": 78, "dup": 23, "dup3": 24, "fcntl": 25, "pipe2": 59, "socketpair":
    199, "sendto": 206, "recvfrom": 207, "shutdown": 210, "getsockopt": 209, "nanosleep": 101,
    "clock_nanosleep": 115, "clock_gettime": 113, "clock_getres": 114, "gettimeofday": 169, "getpid": 172,
    "gettid": 178, "getppid": 173, "getuid": 174, "geteuid": 175, "getgid": 176, "getegid": 177, "getpgid": 155,
    "getgroups": 158, "getresuid": 148, "getresgid": 150, "getrandom": 278, "futex": 98, "set_robust_list": 99,
    "get_robust_list": 100, "set_tid_address": 96, "rseq": 293, "sched_yield": 124, "sched_getaffinity": 123,
    "sched_getparam": 121, "sched_getscheduler": 120, "getrlimit": 163, "prlimit64": 261, "getrusage": 165,
    "times": 153, "sysinfo": 179, "uname": 160, "exit": 93, "exit_group": 94, "restart_syscall": 128, "ppoll":
    73, "pselect6": 72, "epoll_create1": 20, "epoll_ctl": 21, "epoll_pwait": 22, "eventfd2": 19, "prctl": 167,
    "membarrier": 283, "setitimer": 103, "getitimer": 102, "kill": 129, "tgkill": 131, "wait4": 260, "waitid":
    95, "ftruncate": 46, "fadvise64": 223, "clone": 220, "clone3": 435, "execve": 221, "execveat": 281,
    "mkdirat": 34, "unlinkat": 35, "renameat": 38, "renameat2": 276, "fchmod": 52, "fchmodat": 53, "utimensat":
    88, "umask": 166, "capget": 90, "openat2": 437, "landlock_create_ruleset": 444, "landlock_add_rule": 445,
    "landlock_restrict_self": 446, "unshare": 97, "setns": 268, "pivot_root": 41, "mount": 40, "umount2": 39,
    "mount_setattr": 442, "capset": 91,
}
# fmt: on
# AUDIT_ARCH_* of linux/audit.h: what the kernel reports in seccomp_data.arch.
TABLES: Final = {"x86_64": (X86_64, 0xC000003E), "aarch64": (AARCH64, 0xC00000B7)}
ALIASES: Final = {"amd64": "x86_64", "arm64": "aarch64"}


def machine() -> str:
    """The machine's name as used in `TABLES`."""
    name = platform.machine().lower()
    return ALIASES.get(name, name)


def supported() -> bool:
    """Whether this machine has a system call table."""
    return machine() in TABLES


def number(name: str) -> int:
    """The number of a system call on this machine. KeyError where the machine does not have it."""
    return TABLES[machine()][0][name]
