"""Which tier this machine gives, and how to get a better one. Found out by starting it, not by guessing."""

from __future__ import annotations

import functools
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .child.kernel import landlock_abi
from .child.syscalls import supported
from .errors import SandboxError
from .model import Limits, Process, Tier
from .worker import Config, Died, Request, Worker

TIERS: Final[tuple[Tier, ...]] = ("zygote", "no-namespace")


@dataclass(frozen=True)
class Probe:
    """What `curate doctor` shows: the tier in use (None: no sandbox), and per tier why it does not work."""

    tier: Tier | None
    landlock: int
    problems: dict[Tier, str]
    advice: tuple[str, ...]


@functools.cache
def probe() -> Probe:
    """Try every tier once with a trivial program."""
    problems = {name: problem for name in TIERS if (problem := _try(name))}
    working = next((name for name in TIERS if name not in problems), None)
    return Probe(working, landlock_abi() if supported() else 0, problems, _advice(problems))


def tier() -> Tier:
    """The strongest tier that works here. Raises SandboxError with the way to mend it where none does."""
    if not supported():
        raise SandboxError(f"no sandbox on {platform.machine()}: only x86_64 and aarch64 Linux are supported")
    found = probe()
    if found.tier is None:
        reasons = "; ".join(f"{name}: {why}" for name, why in found.problems.items())
        raise SandboxError(f"no sandbox works here ({reasons}). {' '.join(found.advice)}")
    return found.tier


def _try(name: Tier) -> str:
    worker = None
    try:
        worker = Worker(Config.of(name, sys.executable, ()))
        limits = Limits(cpu_s=5, wall_s=20)
        outcome = worker.run(Request((Process("program", {"code": "print('ready')"}, limits=limits),)))[0]
    except (SandboxError, Died, OSError) as error:
        return str(error) or type(error).__name__
    finally:
        if worker is not None:
            worker.stop()
    if outcome.stdout == b"ready\n":
        return ""
    return outcome.stderr.decode("utf-8", "replace").strip() or "the trial program printed nothing"


def _advice(problems: dict[Tier, str]) -> tuple[str, ...]:
    advice = []
    if "zygote" in problems:
        advice.append("Allow unprivileged user namespaces for the full sandbox" + _how_namespaces() + ".")
    if "no-namespace" in problems:
        advice.append(
            "Linux 5.13 or newer with Landlock enabled (`lsm=landlock,…`) gives the sandbox without namespaces."
        )
    return tuple(advice)


def _how_namespaces() -> str:
    switches = {
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": (
            "1",
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        "/proc/sys/kernel/unprivileged_userns_clone": ("0", "sysctl kernel.unprivileged_userns_clone=1"),
        "/proc/sys/user/max_user_namespaces": ("0", "sysctl user.max_user_namespaces=10000"),
    }
    for path, (bad, command) in switches.items():
        file = Path(path)
        if file.exists() and file.read_text().strip() == bad:
            return f": `{command}`"
    return " (in Docker: `--security-opt seccomp=unconfined --security-opt systempaths=unconfined`)"
