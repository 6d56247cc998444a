"""What a command and all the processes it starts take: time, and peak memory sampled ten times a second (Linux)."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple


class Cost(NamedTuple):
    """Seconds of wall and processor (of all processes, and of the first one); MB at their peak of the largest process
    (anonymous, and all that is resident) and of all processes together (anonymous). Pages of temporary files are
    resident, not anonymous: the system takes them back when it needs room.
    """

    wall: float
    cpu: float
    first_cpu: float
    anonymous: int
    resident: int
    all_anonymous: int

    def __str__(self) -> str:
        return (
            f"{self.wall:8.1f} s wall {self.cpu:8.1f} s cpu ({self.first_cpu:.1f} of the first process); "
            f"MB: largest process {self.anonymous} anonymous, {self.resident} resident; "
            f"all processes {self.all_anonymous} anonymous"
        )


def cost_of(command: Sequence[str]) -> Cost:
    """Run a command to its end. Raises CalledProcessError if it fails."""
    started, used = time.perf_counter(), dict[int, float]()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    anonymous = resident = together = 0
    while process.poll() is None:
        family = list(_family(process.pid))
        used.update({pid: max(used.get(pid, 0.0), _processor(pid)) for pid in family})
        found = [_memory(pid) for pid in family]
        anonymous = max([anonymous, *(own for own, _ in found)])
        resident = max([resident, *(whole for _, whole in found)])
        together = max(together, sum(own for own, _ in found))
        time.sleep(0.1)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    seconds = time.perf_counter() - started
    return Cost(seconds, sum(used.values()), used.get(process.pid, 0.0), anonymous, resident, together)


def _processor(pid: int) -> float:
    """Seconds that a process has used so far; without its children's, which nobody may have waited for."""
    after_name = _text(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return sum(map(int, after_name[11:13])) / os.sysconf("SC_CLK_TCK")


def _family(pid: int) -> Iterator[int]:
    """A process and all that came from it."""
    yield pid
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in _text(path).split():
            yield from _family(int(child))


def _memory(pid: int) -> tuple[int, int]:
    """Anonymous and resident MB; zeros for a process that has ended."""
    fields = dict(line.split(":", 1) for line in _text(Path(f"/proc/{pid}/status")).splitlines() if ":" in line)
    sizes = {name: int(text.split()[0]) >> 10 for name, text in fields.items() if name.startswith("Rss")}
    return sizes.get("RssAnon", 0), sum(sizes.values())


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


if __name__ == "__main__":
    print(cost_of(sys.argv[1:]))
