"""Entry point of the sandbox's own interpreter: `python -I -S main.py CONFIG`, the link to the host on stdin."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import sys
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from child import (  # type: ignore[import-not-found]
    confine,
    kernel,
    modes,
    tree,
    zygote,
)

sys.path.pop(0)


def main() -> None:
    """Build the confinement this config asks for, then serve."""
    config = json.loads(sys.argv[1])
    link = socket.socket(fileno=fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 20))
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    modes.prepare(tuple(config["packages"]))
    if config["namespaces"]:
        _with_namespaces(link, config)
    else:
        _serve(link, config, None)


def _with_namespaces(link: socket.socket, config: dict[str, Any]) -> None:
    """Leave all namespaces, let the host map our user ids, and serve as process 1 of a namespace of ours."""
    spaces = kernel.NEWUSER | kernel.NEWNS | kernel.NEWNET | kernel.NEWIPC | kernel.NEWUTS | kernel.NEWPID
    kernel.unshare(spaces)
    link.send(b"unshared")
    if link.recv(16) != b"mapped":
        return
    pid = os.fork()
    if pid == 0:
        kernel.die_with_parent(signal.SIGKILL)
        pid_space = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        tree.build(config["paths"])
        _serve(link, config, pid_space)
        os._exit(0)
    link.close()
    os.waitpid(pid, 0)


def _serve(link: socket.socket, config: dict[str, Any], pid_space: int | None) -> None:
    setting = confine.Setting(
        namespaces=pid_space is not None,
        was_root=config["root"],
        landlock=kernel.landlock_abi(),
        paths=("/",) if pid_space is not None else tuple(config["paths"]),
        scratch=tree.SCRATCH if pid_space is not None else config["scratch"],
        private_interpreter=config["private_interpreter"],
    )
    if pid_space is None:
        kernel.adopt_orphans()
        if not setting.landlock:
            raise OSError("no Landlock, and no namespaces either")
    confine.settle(setting)
    server = zygote.Zygote(link, setting, pid_space)
    modes.forget_ourselves()
    modes.keep_still()
    link.send(b"ready")
    server.serve()


if __name__ == "__main__":
    main()
