"""`curate doctor`: every check ends in a line, whatever is missing."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import orjson
import pytest
from packaging.requirements import Requirement
from rich.console import Console

import reports
from reports import checkup
from reports.checkup import Check


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_doctor_as_data_and_view() -> None:
    data, view = reports.doctor()
    names = [check["name"] for check in orjson.loads(orjson.dumps(data))["checks"]]
    assert {"Python", "Prefect", "DuckDB", "tokenizers", "sandbox", "GPU", "Ray", "score store"} <= set(names)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(view)
    assert "DuckDB" in console.export_text()


def test_a_check_that_fails_becomes_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    found = by_name(checkup.checkup())
    assert found["duckdb"].status == "broken"
    assert found["tokenizers"].status == "broken"
    assert found["Python"].status == "works"


def test_fastapi_that_breaks_prefect_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkup, "_version", {"prefect": "3.8.8", "fastapi": "0.155.0"}.get)
    (found,) = checkup._prefect()
    assert (found.status, found.mend) == ("broken", "pip install 'fastapi<0.155'")
    monkeypatch.setattr(checkup, "_version", {"prefect": "3.8.8", "fastapi": "0.154.0"}.get)
    assert next(iter(checkup._prefect())).status == "works"
    monkeypatch.setattr(checkup, "_version", {}.get)
    assert next(iter(checkup._prefect())).status == "missing"


def test_dependencies_out_of_bounds_and_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkup, "_version", {"duckdb": "1.4.0"}.get)
    old = checkup._dependency(Requirement("duckdb>=1.5,<3"), {"duckdb": "2.0.0"})
    gone = checkup._dependency(Requirement("orjson>=3.10"), {})
    assert old == Check("duckdb", "broken", "1.4.0, needs <3,>=1.5", "pip install 'duckdb==2.0.0'")
    assert gone == Check("orjson", "broken", "not installed", "pip install 'orjson>=3.10'")


def test_pins_are_read_from_the_lock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "requirements.lock").write_text(
        "# made by pip\nduckdb==2.0.0 \\\n    --hash=sha256:ab\norjson==3.1 # x\n-e .\n"
    )
    monkeypatch.setattr(checkup, "_ROOT", tmp_path)
    assert checkup._locked() == {"duckdb": "2.0.0", "orjson": "3.1"}


def test_a_store_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATRIX_STORE", "/proc/no/such")
    monkeypatch.setattr(checkup.os, "access", lambda path, mode: False)
    (found,) = checkup._store()
    assert found.status == "broken"
    assert "CURATRIX_STORE" in found.mend


def test_a_disk_that_is_nearly_full(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CURATRIX_STORE", str(tmp_path / "store"))
    monkeypatch.setattr(checkup, "_LOW_DISK", float("inf"))
    (found,) = checkup._store()
    assert found.status == "broken"
    assert str(tmp_path / "store") in found.found
