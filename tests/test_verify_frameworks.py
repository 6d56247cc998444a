"""Tests written for unittest, pytest and event loops, and test programs: right solutions pass, wrong ones do not."""

# ruff: noqa: E501  (programs as text)
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from schemas.adapters.test_source import split_tests
from stages.sandbox import Limits, Sandbox
from stages.verify import Verdict, verify_code, verify_problem

LIMITS = Limits(cpu_s=2.0)
RIGHT = "def f(x):\n    return x + 1\n"
WRONG = "def f(x):\n    return x + 2\n"
P = "import pytest\n"
U = "import unittest\n"
INSIDE = "from unittest.mock import patch\n"  # makes a source run in the program's own process


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as ready:
        yield ready


def verified(sandbox: Sandbox, test_code: str, code: str) -> Verdict:
    record: dict[str, Any] = {
        "tests": split_tests(test_code, "python"), "test_code": test_code, "test_type": "pytest", "language": "python",
        "entry_point": "f", "solutions": [{"code": code, "language": "python"}],
    }  # fmt: skip
    return verify_problem(record, sandbox, LIMITS)


BOTH = {
    "function": "def test_a():\n    assert f(1) == 2",
    "class": "class TestF:\n    def test_a(self):\n        assert f(1) == 2",
    "inherited": "class Base:\n    def test_a(self):\n        assert f(self.x) == 2\nclass TestF(Base):\n    x = 1\n    def test_b(self):\n        assert f(2) == 3",
    "static method": "class TestF:\n    @staticmethod\n    def test_a():\n        assert f(1) == 2",
    "setup_method": "class TestF:\n    def setup_method(self, method):\n        assert method.__name__ == 'test_a'\n        self.x = 1\n    def test_a(self):\n        assert f(self.x) == 2",
    "setup_method, plain": "class TestF:\n    def setup_method(self):\n        self.x = 1\n    def test_a(self):\n        assert f(self.x) == 2",
    "setup_class": "class TestF:\n    @classmethod\n    def setup_class(cls):\n        cls.x = 1\n    def test_a(self):\n        assert f(self.x) == 2",
    "setup_function": "def setup_function(function):\n    global x\n    x = 1\ndef test_a():\n    assert f(x) == 2",
    "setup_module": "def setup_module(module):\n    global x\n    x = 1\ndef test_a():\n    assert f(x) == 2",
    "fixture": P + "@pytest.fixture\ndef one():\n    return 1\ndef test_a(one):\n    assert f(one) == 2",
    "fixture in a class": P + "@pytest.fixture\ndef one():\n    return 1\nclass TestF:\n    @pytest.fixture\n    def two(self, one):\n        return one + 1\n    def test_a(self, two):\n        assert f(two) == 3",
    "fixture by name": P + "@pytest.fixture(name='one')\ndef _one():\n    return 1\ndef test_a(one):\n    assert f(one) == 2",
    "fixture, autouse": P + "@pytest.fixture(autouse=True)\ndef prepare():\n    global x\n    x = 1\ndef test_a():\n    assert f(x) == 2",
    "fixture with parameters": P + "@pytest.fixture(params=[1, 2])\ndef n(request):\n    return request.param\ndef test_a(n):\n    assert f(n) == n + 1",
    "fixture that yields": P + "log = []\n@pytest.fixture\ndef one():\n    yield 1\n    log.append(1)\ndef test_a(one):\n    assert f(one) == 2\ndef test_b():\n    assert f(log[0]) == 2",
    "fixture made once": P + "log = []\n@pytest.fixture(scope='module')\ndef n():\n    log.append(1)\n    return len(log)\ndef test_a(n):\n    assert f(n) == 2\ndef test_b(n):\n    assert f(n) == 2",
    "usefixtures": P + "@pytest.fixture\ndef prepare():\n    global x\n    x = 1\n@pytest.mark.usefixtures('prepare')\ndef test_a():\n    assert f(x) == 2",
    "parametrize": P + "@pytest.mark.parametrize('a, b', [(1, 2), pytest.param(2, 3, id='x')], ids=['p', 'q'])\ndef test_a(a, b):\n    assert f(a) == b",
    "parametrize a class": P + "@pytest.mark.parametrize('a, b', [(1, 2), (2, 3)])\nclass TestF:\n    def test_a(self, a, b):\n        assert f(a) == b",
    "parametrize, listed": P + "@pytest.mark.parametrize(['a'], [(1,), (2,)])\ndef test_a(a):\n    assert f(a) == a + 1",
    "parametrize, indirect": P + "@pytest.fixture\ndef n(request):\n    return request.param + 1\n@pytest.mark.parametrize('n, w', [(0, 2)], indirect=['n'])\ndef test_a(n, w):\n    assert f(n) == w",
    "approx": P + "def test_a():\n    assert f(1) == pytest.approx(2.0000001)",
    "setUpClass": U + "class T(unittest.TestCase):\n    @classmethod\n    def setUpClass(cls):\n        cls.x = 1\n    def test_a(self):\n        self.assertEqual(f(self.x), 2)",
    "setUpModule": U + "def setUpModule():\n    global x\n    x = 1\nclass T(unittest.TestCase):\n    def test_a(self):\n        self.assertEqual(f(x), 2)",
    "skipped beside others": P + "@pytest.mark.skip(reason='x')\ndef test_a():\n    assert False\n@pytest.mark.xfail\ndef test_b():\n    assert False\ndef test_c():\n    assert f(1) == 2",
    "unittest, skipped beside others": U + "class T(unittest.TestCase):\n    @unittest.skip('x')\n    def test_a(self):\n        self.fail()\n    @unittest.expectedFailure\n    def test_b(self):\n        self.fail()\n    def test_c(self):\n        self.assertEqual(f(1), 2)",
    "function that is called": "def run_tests():\n    assert f(1) == 2\nrun_tests()",
    "main program": "def main():\n    assert f(1) == 2\nif __name__ == '__main__':\n    main()",
}  # fmt: skip
INSIDE_ONLY = {
    "async": P + "@pytest.mark.asyncio\nasync def test_a():\n    assert f(1) == 2",
    "async method": "import asyncio\nclass TestF:\n    async def test_a(self):\n        await asyncio.sleep(0)\n        assert f(1) == 2",
    "async fixture": "import pytest_asyncio\n@pytest_asyncio.fixture\nasync def one():\n    yield 1\nasync def test_a(one):\n    assert f(one) == 2",
    "IsolatedAsyncioTestCase": U + "class T(unittest.IsolatedAsyncioTestCase):\n    async def asyncSetUp(self):\n        self.x = 1\n    async def test_a(self):\n        self.assertEqual(f(self.x), 2)",
    "async check": "async def check(candidate):\n    assert candidate(1) == 2",
    "async main program": "import asyncio\nasync def main():\n    assert f(1) == 2\nif __name__ == '__main__':\n    asyncio.run(main())",
    "capsys": "def test_a(capsys):\n    print(f(1))\n    assert capsys.readouterr().out == '2\\n'",
    "monkeypatch": "def test_a(monkeypatch):\n    monkeypatch.setattr('builtins.input', lambda *a: '1')\n    assert f(int(input())) == 2\ndef test_b():\n    assert input is not None and f(2) == 3",
    "mock and fixture": P + INSIDE + "@pytest.fixture\ndef one():\n    return 1\n@patch('builtins.print')\ndef test_a(shown, one):\n    print(one)\n    shown.assert_called_once_with(1)\n    assert f(one) == 2",
}  # fmt: skip


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("whole", [False, True])
def test_right_solutions_pass_and_wrong_ones_do_not(sandbox: Sandbox, name: str, whole: bool) -> None:
    test_code = (INSIDE if whole else "") + BOTH[name]
    right = verified(sandbox, test_code, RIGHT)
    assert (right.verified, right.whole) == (True, whole), right
    assert right.n_tests >= 1
    assert not verified(sandbox, test_code, WRONG).verified


@pytest.mark.parametrize("name", INSIDE_ONLY)
def test_what_needs_the_program_s_own_process(sandbox: Sandbox, name: str) -> None:
    right = verified(sandbox, INSIDE_ONLY[name], RIGHT)
    assert (right.verified, right.whole) == (True, True), right
    assert not verified(sandbox, INSIDE_ONLY[name], WRONG).verified


@pytest.mark.parametrize(
    "test_code",
    [
        P + "@pytest.mark.asyncio\nasync def test_a():\n    assert await f(1) == 2",
        U
        + "class T(unittest.IsolatedAsyncioTestCase):\n    async def test_a(self):\n        self.assertEqual(await f(1), 2)",
        "import asyncio\nassert asyncio.run(f(1)) == 2",
        "assert await f(1) == 2",
    ],
)
def test_coroutines_are_awaited(sandbox: Sandbox, test_code: str) -> None:
    assert verified(sandbox, test_code, f"async {RIGHT}").verified
    assert not verified(sandbox, test_code, f"async {WRONG}").verified


@pytest.mark.parametrize(
    "test_code",
    [
        P + "@pytest.mark.skip\ndef test_a():\n    assert f(1) == 2",
        P + "@pytest.mark.xfail(reason='x')\ndef test_a():\n    assert f(1) == 2",
        P + "pytestmark = pytest.mark.skip('x')\ndef test_a():\n    assert f(1) == 2",
        P
        + "@pytest.mark.parametrize('a', [pytest.param(1, marks=pytest.mark.skip)])\ndef test_a(a):\n    assert f(a) == 2",
        U
        + "@unittest.skip('x')\nclass T(unittest.TestCase):\n    def test_a(self):\n        self.assertEqual(f(1), 2)",
    ],
)
@pytest.mark.parametrize("whole", [False, True])
def test_what_is_skipped_proves_nothing(sandbox: Sandbox, test_code: str, whole: bool) -> None:
    verdict = verified(sandbox, (INSIDE if whole else "") + test_code, RIGHT)
    assert not verdict.verified
    assert not verified(sandbox, test_code + "\ndef test_z():\n    assert f(1) == 2", WRONG).verified


def test_a_test_skips_itself_only_before_it_asks_the_program(sandbox: Sandbox) -> None:
    other = "def test_z():\n    assert f(1) == 2\n"
    assert verified(sandbox, P + "def test_a():\n    pytest.skip('x')\n" + other, RIGHT).verified
    excuse = "def test_a():\n    try:\n        f(5)\n    except NotImplementedError:\n        pytest.skip('x')\n"
    lazy = "def f(x):\n    if x > 1: raise NotImplementedError\n    return x + 1"
    assert not verified(sandbox, P + excuse + other, lazy).verified
    assert not verified(sandbox, INSIDE + P + excuse + other, lazy).verified


@pytest.mark.parametrize(
    "test_code",
    [
        U
        + "class T(unittest.TestCase):\n    @classmethod\n    def tearDownClass(cls):\n        assert f(1) == 3\n    def test_a(self):\n        self.assertEqual(f(1), 2)",
        U
        + "class T(unittest.TestCase):\n    @classmethod\n    def setUpClass(cls):\n        cls.addClassCleanup(lambda: 1 / 0)\n    def test_a(self):\n        self.assertEqual(f(1), 2)",
        U
        + "class T(unittest.TestCase):\n    @classmethod\n    def setUpClass(cls):\n        assert f(1) == 3\n    def test_a(self):\n        self.assertEqual(f(1), 2)",
        P + "@pytest.fixture\ndef one():\n    yield 1\n    assert f(1) == 3\ndef test_a(one):\n    assert f(one) == 2",
        "def teardown_module():\n    assert f(1) == 3\ndef test_a():\n    assert f(1) == 2",
    ],
)
@pytest.mark.parametrize("whole", [False, True])
def test_what_surrounds_the_tests_counts(sandbox: Sandbox, test_code: str, whole: bool) -> None:
    assert not verified(sandbox, (INSIDE if whole else "") + test_code, RIGHT).verified


@pytest.mark.parametrize("inside", ["", INSIDE])
def test_a_test_program_whose_asserts_are_never_reached_proves_nothing(sandbox: Sandbox, inside: str) -> None:
    assert not verified(sandbox, inside + "def run_tests():\n    assert f(1) == 2\n", RIGHT).verified
    assert verified(sandbox, inside + "print(f(1))", RIGHT).status == "skipped"


def test_a_class_that_is_made_with_arguments_is_no_class_of_tests(sandbox: Sandbox) -> None:
    helper = "class Tester:\n    def __init__(self, x):\n        self.x = x\n    def test(self):\n        return self.x\nassert f(Tester(1).test()) == 2"
    assert verified(sandbox, helper, RIGHT).verified
    assert not verified(sandbox, helper, WRONG).verified


def test_annotations_are_evaluated(sandbox: Sandbox) -> None:
    for test_code in ("assert f(1) == 2", INSIDE + "assert f(1) == 2"):
        assert not verified(sandbox, test_code, "def f(x: Nowhere):\n    return x + 1").verified
        typed = "def f(x: int):\n    return x + f.__annotations__['x'](True)"
        assert verified(sandbox, test_code, typed).verified


def test_starter_code_has_the_types_of_its_harness(sandbox: Sandbox) -> None:
    code = "class Solution:\n    def f(self, x: List[int]) -> Optional[int]:\n        return x[0]"
    call = {"tests": [{"input": "[[4]]", "output": "4"}], "test_type": "functional", "entry_point": "f"}
    assert verify_problem({**call, "solutions": [{"code": code}]}, sandbox, LIMITS).verified
    assert verify_code(call, code, sandbox, LIMITS).verified
    assert not verify_problem({**call, "solutions": [{"code": code.replace("List", "Lost")}]}, sandbox, LIMITS).verified
