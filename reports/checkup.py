"""`curate doctor`: what is installed and what works here, and how to mend the rest. Never fails itself."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any, Final, Literal

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import Version
from rich.table import Table
from rich.text import Text

from pipelines.store import store_root

Status = Literal["works", "missing", "broken"]
_STYLE: Final = {"works": "green", "missing": "yellow", "broken": "bold red"}
_LOW_DISK: Final = 2e9
_ROOT: Final = Path(__file__).resolve().parents[1]


_REBUILD: Final = "install a C compiler, then pip install --force-reinstall --no-deps curatrix"


@dataclass(frozen=True)
class Check:
    """One thing looked at. `missing` is something optional; `mend` says what to do, where there is something to do."""

    name: str
    status: Status
    found: str
    mend: str = ""


def checkup() -> list[Check]:
    """Run every check. A check that itself fails is reported as broken."""
    checks: list[Check] = []
    kernels = (_kernel, _dedup_kernel)
    for check in (_python, _dependencies, _prefect, _duckdb, _tokenizers, _sandbox, *kernels, _gpu, _ray, _store):
        try:
            checks.extend(check())
        except Exception as error:  # whatever is wrong with an installation must become a line, not a crash
            checks.append(Check(check.__name__.strip("_"), "broken", f"{type(error).__name__}: {error}"))
    return checks


def to_dict(checks: list[Check]) -> dict[str, Any]:
    """Plain data, ready for JSON."""
    return {"ok": all(check.status != "broken" for check in checks), "checks": [asdict(check) for check in checks]}


def render(checks: list[Check]) -> Table:
    """The checks as a rich table."""
    table = Table(show_edge=False, header_style="bold")
    for name in ("check", "", "found", "to mend it"):
        table.add_column(name, overflow="fold")
    for check in checks:
        table.add_row(check.name, Text(check.status, _STYLE[check.status]), Text(check.found), Text(check.mend))
    return table


def _python() -> Iterator[Check]:
    good = sys.version_info >= (3, 11)
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield Check("Python", "works" if good else "broken", found, "" if good else "install Python 3.11 or newer")


def _dependencies() -> Iterator[Check]:
    """Bounds from the installed package; one line for all that are right, one for each that is not."""
    try:
        wanted = [Requirement(text) for text in distribution("curatrix").requires or ()]
    except PackageNotFoundError:
        yield Check("curatrix", "broken", "not installed as a package", "pip install -e . in its checkout")
        return
    locked = _locked()
    needed = [item for item in wanted if item.marker is None or item.marker.evaluate({"extra": ""})]
    wrong = [check for item in needed if (check := _dependency(item, locked))]
    right = f"{len(needed) - len(wrong)} of {len(needed)} within bounds" + _drift(needed, locked)
    yield Check("libraries", "works", right)
    yield from wrong


def _dependency(item: Requirement, locked: dict[str, str]) -> Check | None:
    pin = f"=={locked[item.name]}" if item.name in locked else str(item.specifier)
    mend = f"pip install '{item.name}{pin}'"
    found = _version(item.name)
    if found is None:
        return Check(item.name, "broken", "not installed", mend)
    if not item.specifier.contains(found, prereleases=True):
        return Check(item.name, "broken", f"{found}, needs {item.specifier}", mend)
    return None


def _drift(needed: list[Requirement], locked: dict[str, str]) -> str:
    """Which libraries differ from the tested set; that is allowed, but worth knowing."""
    other = [
        item.name for item in needed if item.name in locked and _version(item.name) not in (None, locked[item.name])
    ]
    return f"; other versions than in requirements.lock: {', '.join(other)}" if other else ""


def _locked() -> dict[str, str]:
    """Pins of requirements.lock, where this is a checkout."""
    path = _ROOT / "requirements.lock"
    pins: dict[str, str] = {}
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            item = Requirement(line.partition("#")[0].partition(" \\")[0].strip())
        except InvalidRequirement:
            continue
        exact = [spec.version for spec in item.specifier if spec.operator == "=="]
        if exact:
            pins[item.name] = exact[0]
    return pins


def _prefect() -> Iterator[Check]:
    prefect, fastapi = _version("prefect"), _version("fastapi")
    if prefect is None:
        yield Check("Prefect", "missing", "not installed; only the flows need it", "pip install 'prefect>=3.8,<3.9'")
        return
    trap = fastapi is not None and Version(prefect) < Version("3.9") and Version(fastapi) >= Version("0.155")
    found = f"{prefect} with FastAPI {fastapi}"
    if trap:
        yield Check("Prefect", "broken", f"{found}, which do not work together", "pip install 'fastapi<0.155'")
    else:
        yield Check("Prefect", "works", found)


def _duckdb() -> Iterator[Check]:
    import duckdb

    with tempfile.TemporaryDirectory() as folder, duckdb.connect(":memory:") as connection:
        path = Path(folder, "check.parquet").as_posix()
        connection.execute(f"COPY (SELECT 42 AS answer) TO '{path}' (FORMAT parquet)")
        answer = connection.sql(f"SELECT answer, json_valid('{{}}') FROM read_parquet('{path}')").fetchall()
    good = answer == [(42, True)]
    yield Check("DuckDB", "works" if good else "broken", f"{duckdb.__version__}, Parquet and JSON built in")


def _tokenizers() -> Iterator[Check]:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    tokenizer = Tokenizer(WordLevel({"two": 0, "words": 1, "?": 2}, unk_token="?"))
    tokenizer.pre_tokenizer = Whitespace()
    good = tokenizer.encode("two words").ids == [0, 1]
    yield Check("tokenizers", "works" if good else "broken", _version("tokenizers") or "")


def _sandbox() -> Iterator[Check]:
    from stages.sandbox import probe

    found = probe()
    advice = " ".join(found.advice)
    why = "; ".join(f"{name}: {problem}" for name, problem in found.problems.items())
    if found.tier is None:
        yield Check("sandbox", "broken", f"no tier works ({why})", advice)
    else:
        yield Check(
            "sandbox",
            "works",
            f"tier {found.tier}, Landlock ABI {found.landlock}" + (f" ({why})" if why else ""),
            advice,
        )


def _dedup_kernel() -> Iterator[Check]:
    from stages.dedup.native import native

    if native() is not None:
        yield Check("dedup kernel", "works", "compiled")
    else:
        yield Check(
            "dedup kernel", "missing", "not compiled; numba does the work after compiling at first use", _REBUILD
        )


def _kernel() -> Iterator[Check]:
    from stages.zipfit.kernel import zlib_is_classic
    from stages.zipfit.native import native

    if native() is not None:
        yield Check("zipfit kernel", "works", "compiled")
    elif zlib_is_classic():
        yield Check(
            "zipfit kernel", "missing", "not compiled; Python's zlib does the work, several times slower", _REBUILD
        )
    else:
        yield Check("zipfit kernel", "broken", "not compiled, and this Python's zlib gives other lengths", _REBUILD)


def _gpu() -> Iterator[Check]:
    if importlib.util.find_spec("torch") is None:
        yield Check("GPU", "missing", "torch is not installed; everything runs on the CPU", "pip install torch")
        return
    import torch

    if torch.cuda.is_available():
        names = sorted({torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())})
        yield Check("GPU", "works", f"{torch.cuda.device_count()} x {', '.join(names)}, torch {torch.__version__}")
        return
    driver = shutil.which("nvidia-smi") is not None
    mend = "install a CUDA build of torch: https://pytorch.org/get-started" if driver else ""
    yield Check("GPU", "broken" if driver else "missing", f"torch {torch.__version__} sees no GPU", mend)


def _ray() -> Iterator[Check]:
    found = _version("ray")
    if found is None:
        yield Check("Ray", "missing", "not installed; runs use local workers", "pip install ray")
    else:
        address = os.environ.get("RAY_ADDRESS")
        yield Check("Ray", "works", f"{found}, {'cluster at ' + address if address else 'no RAY_ADDRESS: local'}")


def _store() -> Iterator[Check]:
    root = store_root(None, Path())
    there = next(path for path in (root, *root.resolve().parents) if path.is_dir())
    free = shutil.disk_usage(there).free
    found = f"{root}, {free / 1e9:.1f} GB free"
    if not os.access(there, os.W_OK):
        yield Check("score store", "broken", f"{found}, not writable", "set CURATRIX_STORE to a folder of yours")
    elif free < _LOW_DISK:
        yield Check("score store", "broken", found, "free some space (`curate store gc`) or set CURATRIX_STORE")
    else:
        yield Check("score store", "works", found)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
