"""The read-only root directory: system libraries, the interpreter, four device nodes, and nothing to write to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from . import kernel

_HARDENED: Final = kernel.ATTR_RDONLY | kernel.ATTR_NOSUID | kernel.ATTR_NODEV
_DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
SCRATCH: Final = "/tmp"


def build(paths: Sequence[str]) -> None:
    """Make a new root that holds `paths` (each at its own place) and enter it. Needs a mount namespace of our own."""
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    links = {path: os.readlink(path) for path in paths if os.path.islink(path)}
    sources = {path: _open(path) for path in paths if path not in links and os.path.exists(path)}
    devices = {path: _open(path) for path in _DEVICES if os.path.exists(path)}
    root = _base()
    kernel.mount("root", root, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=1m,mode=755")
    for path, fd in sources.items():
        _bind(fd, path, root + path, _HARDENED)
    for path, fd in devices.items():
        _bind(fd, path, root + path, kernel.ATTR_RDONLY | kernel.ATTR_NOSUID | kernel.ATTR_NOEXEC)
    for path, target in links.items():
        os.makedirs(os.path.dirname(root + path), exist_ok=True)
        if not os.path.lexists(root + path):
            os.symlink(target, root + path)
    os.makedirs(root + SCRATCH, exist_ok=True)
    kernel.enter_root(root)
    kernel.mount_flags("/", _HARDENED, False)


def scratch(megabytes: int) -> None:
    """A writable directory of our own at `SCRATCH`, for a compiler. Needs a mount namespace of our own."""
    flags = kernel.MS_NOSUID | kernel.MS_NODEV
    kernel.mount("scratch", SCRATCH, "tmpfs", flags, f"size={megabytes}m,mode=777")


def _base() -> str:
    for path in ("/tmp", "/var/tmp", "/dev/shm", "/mnt"):
        if os.path.isdir(path):
            return path
    raise OSError("no directory to build the sandbox's root in")


def _open(path: str) -> int:
    return os.open(path, os.O_PATH | os.O_CLOEXEC)


def _bind(fd: int, path: str, target: str, attributes: int) -> None:
    source = f"/proc/self/fd/{fd}"
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    kernel.mount(source, target, None, kernel.MS_BIND | kernel.MS_REC)
    kernel.mount_flags(target, attributes, True)
    os.close(fd)
