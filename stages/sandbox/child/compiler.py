"""Runs a compiler on untrusted source and hands the program it makes to the host."""

from __future__ import annotations

import os
from typing import Any

from . import confine


def run(payload: dict[str, Any]) -> None:
    """Write the source, run the compiler, copy what it made to the result descriptor; exits with its status."""
    folder = os.environ["TMPDIR"]
    os.chdir(folder)
    _empty(folder)
    for name, text in payload["files"].items():
        with open(name, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
    pid = os.fork()
    if pid == 0:
        os.execve(payload["argv"][0], payload["argv"], {"PATH": "/usr/bin:/bin", "TMPDIR": folder, "LANG": "C.UTF-8"})
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        with open(payload["made"], "rb") as made:
            while chunk := made.read(1 << 20):
                os.write(confine.RESULT, chunk)
    _empty(folder)
    os._exit(0 if code == 0 else 1)


def _empty(folder: str) -> None:
    for name in os.listdir(folder):
        os.unlink(name)
