"""Hostile programs, in every tier, as root and as an ordinary user: all contained, nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hostile.programs import PROGRAMS

from stages.sandbox import probe
from stages.sandbox.model import Tier

ROOT = Path(__file__).resolve().parents[1]
RUNNER = ROOT / "tests" / "hostile" / "runner.py"
NOBODY = 65534


def _python(user: int) -> str:
    """An interpreter that `user` may run: ours, or the system's where ours is private."""
    for path in (sys.executable, "/usr/bin/python3"):
        found = shutil.which(path)
        code = "import sys; sys.exit(sys.version_info < (3, 11))"
        if found and subprocess.run([found, "-c", code], user=user, cwd="/", capture_output=True).returncode == 0:
            return found
    pytest.skip(f"no Python 3.11 that user {user} may run")


def _users() -> list[int]:
    return [0, NOBODY] if os.geteuid() == 0 else [os.geteuid()]


def _report(tier: Tier, user: int) -> dict[str, Any]:
    if tier in probe().problems:
        pytest.skip(f"{tier}: {probe().problems[tier]}")
    try:
        python = sys.executable if user == os.geteuid() else _python(user)
    except (PermissionError, OSError):
        python = "/usr/bin/python3"
    done = subprocess.run(
        [python, str(RUNNER), tier], user=user if user != os.geteuid() else None, cwd="/", capture_output=True,
        env={"PATH": "/usr/bin:/bin", "HOME": "/", "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    loaded: dict[str, Any] = json.loads(done.stdout)
    return loaded


@pytest.mark.parametrize("tier", ["zygote", "no-namespace"])
@pytest.mark.parametrize("user", _users())
def test_hostile_programs_are_contained_and_leave_nothing(tier: Tier, user: int) -> None:
    report = _report(tier, user)
    assert len(PROGRAMS) >= 40
    assert set(report) == {*PROGRAMS, "after"}
    for name, found in report.items():
        assert found["left"] == [], name
        assert "ESCAPED" not in found.get("out", ""), name
        assert found.get("alive", True), name
        assert "SyntaxError" not in found.get("err", ""), name
    assert report["sleep for ever"]["status"] == "time_limit"
    assert report["twenty gigabytes"]["status"] == "memory_limit"
    assert report["endless output"]["status"] == "output_limit"


def test_the_programs_do_what_they_say_where_nothing_stops_them(tmp_path: Path) -> None:
    """The suite can fail: outside the sandbox the harmless ones among them do succeed."""
    for name in ("fork", "subprocess", "os.system", "read its own process folder", "read sys", "symbolic link"):
        code = PROGRAMS[name].replace("{{", "{").replace("}}", "}").replace("/tmp/left-behind", str(tmp_path / "link"))
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
        assert "ESCAPED" in done.stdout, name
