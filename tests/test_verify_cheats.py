"""Programs that want to pass without being right: none does, in any kind of test, in any tier."""

# ruff: noqa: E501  (programs as text)
from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hostile.cheats import FUNCTIONS, PROGRAMS
from hostile.frameworks import CHEATS

from stages.sandbox import Limits, Sandbox, probe
from stages.verify import verify_code

LIMITS = Limits(cpu_s=0.5, wall_s=4.0)
HONEST = "def f(x): return 2 * x"
NUMBERS = (2121, 3, 50)
CHECK = "def check(candidate):\n" + "".join(f"    assert candidate({n}) == {2 * n}\n" for n in NUMBERS)
CLOSE = "import math\n" + "".join(
    f"assert math.isclose(f({n}), {2 * n}) and abs(f({n}) - {2 * n}) < 1e-6\n" for n in NUMBERS
)
FREE = "".join(f"assert isclose(f({n}), {2 * n}) and abs(f({n}) - {2 * n}) < 1e-6\n" for n in NUMBERS)
METHODS = (
    "import unittest\nfrom solution import f\nclass TestF(unittest.TestCase):\n"
    + "".join(f"    def test_{n}(self):\n        self.assertEqual(f({n}), {2 * n})\n        self.assertEqual(f(1), 2)\n" for n in NUMBERS)
)  # fmt: skip
PYTEST = "import pytest\nfrom solution import f\n@pytest.mark.parametrize('x, y', [(2121, 4242), (3, 6)])\ndef test_f(x, y):\n    assert f(x) == y\n"
INSIDE = METHODS + "# sys.stdout: this comment makes it run whole\n"


ASYNC = "import asyncio\nimport pytest\n" + "".join(
    f"@pytest.mark.asyncio\nasync def test_{n}():\n    await asyncio.sleep(0)\n    assert f({n}) == {2 * n}\n"
    for n in NUMBERS
)
ASYNC_METHODS = METHODS.replace("TestCase", "IsolatedAsyncioTestCase").replace("    def", "    async def")
PLAIN = "# capsys\nimport pytest\n@pytest.fixture\ndef one():\n    return 1\nclass TestF:\n" + "".join(
    f"    @pytest.mark.parametrize('x', [{n}])\n    def test_{n}(self, one, x):\n        assert f(one * x) == {2 * n}\n" for n in NUMBERS
)  # fmt: skip
GUARDED = (
    "# capsys\ndef main():\n"
    + CHECK.partition("\n")[2].replace("candidate", "f")
    + "if __name__ == '__main__':\n    main()\n"
)


def source(test_code: str, entry: str = "f") -> dict[str, Any]:
    """A record with test source."""
    tests = [{"name": str(n), "code": f"assert {n}"} for n in NUMBERS]
    return {"tests": tests, "test_code": test_code, "test_type": "pytest", "entry_point": entry, "language": "python"}


RECORDS: dict[str, dict[str, Any]] = {
    "check": source(CHECK),
    "close": source(CLOSE),
    "free names": source("from math import isclose\n" + FREE),
    "methods": source(METHODS),
    "pytest": source(PYTEST),
    "functional": {
        "tests": [{"input": json.dumps([n]), "output": json.dumps(2 * n)} for n in NUMBERS],
        "test_type": "functional",
        "entry_point": "f",
    },
    "reference": {
        "judge": json.dumps({"inputs": [[n] for n in NUMBERS], "expected": "reference"}),
        "solutions": [{"code": HONEST}],
        "entry_point": "f",
    },
}
STDIO = {"tests": [{"input": f"{n}\n", "output": f"{2 * n}\n"} for n in NUMBERS], "test_type": "stdio"}


@pytest.fixture(scope="module", params=["zygote", "no-namespace"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    if request.param in probe().problems:
        pytest.skip(f"{request.param}: {probe().problems[request.param]}")
    with Sandbox(tier=request.param) as ready:
        yield ready


def test_the_cheats_are_programs() -> None:
    for name, code in {**FUNCTIONS, **PROGRAMS}.items():
        compile(code, name, "exec")


@pytest.mark.parametrize("kind", RECORDS)
def test_no_cheat_passes_a_test_of_functions(sandbox: Sandbox, kind: str) -> None:
    record = RECORDS[kind]
    assert verify_code(record, HONEST, sandbox, LIMITS).verified
    passed = [name for name, code in FUNCTIONS.items() if verify_code(record, code, sandbox, LIMITS).verified]
    assert passed == []


def test_no_cheat_passes_where_tests_share_its_process(sandbox: Sandbox) -> None:
    record = source(INSIDE)
    honest = verify_code(record, HONEST, sandbox, LIMITS)
    assert honest.verified
    assert honest.whole
    passed = [name for name, code in FUNCTIONS.items() if verify_code(record, code, sandbox, LIMITS).verified]
    assert passed == []


@pytest.mark.parametrize("test_code", [ASYNC, ASYNC_METHODS, PLAIN, GUARDED])
def test_no_cheat_passes_where_a_framework_runs_in_its_process(sandbox: Sandbox, test_code: str) -> None:
    record = source(test_code)
    honest = verify_code(record, HONEST, sandbox, LIMITS)
    assert honest.verified, honest
    assert honest.whole
    cheats = {**FUNCTIONS, **CHEATS}
    assert [name for name, code in cheats.items() if verify_code(record, code, sandbox, LIMITS).verified] == []


@pytest.mark.parametrize("kind", ["methods", "pytest", "check"])
def test_no_cheat_passes_by_the_means_of_a_framework(sandbox: Sandbox, kind: str) -> None:
    record = RECORDS[kind]
    assert [name for name, code in CHEATS.items() if verify_code(record, code, sandbox, LIMITS).verified] == []


def test_no_cheat_passes_a_test_of_output(sandbox: Sandbox) -> None:
    assert verify_code(STDIO, "print(2 * int(input()))", sandbox, LIMITS).verified
    passed = [name for name, code in PROGRAMS.items() if verify_code(STDIO, code, sandbox, LIMITS).verified]
    assert passed == []


def test_no_test_is_no_pass(sandbox: Sandbox) -> None:
    for record in ({"tests": [], "test_type": "stdio"}, {"tests": [{"file": "a.in"}], "test_type": "stdio"}, {}):
        assert not verify_code(record, "print(1)", sandbox, LIMITS).verified
    assert not verify_code(source("def check(candidate):\n    pass\n"), HONEST, sandbox, LIMITS).verified
