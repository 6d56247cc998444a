"""Runs every hostile program in one tier and reports what it found, as JSON. Standard library only: it must also run
as an ordinary user with the system's interpreter."""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from stages.sandbox import Limits, Sandbox
from tests.hostile.programs import PROGRAMS

LIMITS = Limits(cpu_s=0.4, wall_s=1.0, memory_mb=512, output_bytes=1 << 20, processes=32)


def main(tier: str) -> None:
    """Run all, print `{name: {status, out, left}}` and what was left behind at the end."""
    os.environ["HOSTILE_SECRET"] = "secret"
    tcp = socket.create_server(("127.0.0.1", 0))
    abstract = socket.socket(socket.AF_UNIX)
    name = f"hostile-{os.getpid()}"
    abstract.bind("\0" + name)
    abstract.listen()
    with tempfile.TemporaryDirectory() as folder:
        secret = Path(folder) / "secret"
        secret.write_text("secret")
        values = {"pid": os.getpid(), "port": tcp.getsockname()[1], "name": name, "secret": str(secret)}
        print(json.dumps(run_all(tier, values)))


def run_all(tier: Any, values: dict[str, Any]) -> dict[str, Any]:
    """Every program, in one sandbox, which must still work after each of them."""
    report: dict[str, Any] = {}
    before = traces(None)
    with Sandbox(tier=tier) as sandbox:
        sandbox.run_python("pass")
        standing = traces(sandbox)
        for title, code in PROGRAMS.items():
            result = sandbox.run_python(filled(code, values), limits=LIMITS)
            alive = sandbox.run_python("print(6 * 7)").stdout == b"42\n"
            left = settle(lambda: traces(sandbox), standing)
            report[title] = {"status": result.status, "out": result.out[-300:], "err": result.err[-300:],
                             "alive": alive, "left": left}  # fmt: skip
    report["after"] = {"left": settle(lambda: traces(None), before)}
    return report


def filled(code: str, values: dict[str, Any]) -> str:
    """The program with the runner's values in it."""
    for key, value in values.items():
        code = code.replace("{" + key + "!r}", repr(value)).replace("{" + key + "}", str(value))
    return code.replace("{{", "{").replace("}}", "}")


def settle(look: Any, standing: list[str]) -> list[str]:
    """What is there now and was not before; processes get a moment to be gone."""
    for _ in range(20):
        new = sorted(set(look()) - set(standing))
        if not new:
            return []
        time.sleep(0.05)
    return new


def traces(sandbox: Sandbox | None) -> list[str]:
    """Processes below us, files in shared places, mounts, System V objects."""
    found = [f"process {pid}" for pid in descendants(os.getpid())]
    for folder in ("/tmp", "/var/tmp", "/dev/shm"):
        found += [
            f"{folder}/{name}"
            for name in os.listdir(folder)
            if "left-behind" in name or f"scratch-{os.getpid()}-" in name
        ]
    found += [f"mount {line.split()[1]}" for line in Path("/proc/self/mounts").read_text().splitlines()]
    for kind in ("shm", "msg", "sem"):
        found += [f"{kind} {line.split()[1]}" for line in Path(f"/proc/sysvipc/{kind}").read_text().splitlines()[1:]]
    return found


def descendants(pid: int) -> list[int]:
    """Process ids of all descendants."""
    parents: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents.setdefault(int(fields[1]), []).append(int(entry))
    found, todo = [], [pid]
    while todo:
        children = parents.get(todo.pop(), [])
        found += children
        todo += children
    return found


if __name__ == "__main__":
    main(sys.argv[1])
