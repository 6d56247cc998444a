"""Verification: every format of tests, comparison, which solution is chosen, what a verdict says."""

# ruff: noqa: E501  (programs as text)
from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.sandbox import Limits, Sandbox
from stages.verify import verify_code, verify_problem
from stages.verify.compare import Rules, same_output, same_value
from stages.verify.problem import problem
from stages.verify.references import contract, inputs

LIMITS = Limits(cpu_s=2.0)
DOUBLE = "print(2 * int(input()))"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as ready:
        yield ready


def stdio(pairs: list[tuple[str, str]], code: str = "", **more: Any) -> dict[str, Any]:
    tests = [{"input": given, "output": wanted} for given, wanted in pairs]
    solutions = [{"code": code, "language": "python"}] if code else []
    return {"tests": tests, "test_type": "stdio", "language": "python", "solutions": solutions, **more}


def source(test_code: str, code: str, entry: str = "f", count: int = 1, **more: Any) -> dict[str, Any]:
    tests = [{"name": str(n), "code": f"{n}"} for n in range(count)]
    solutions = [{"code": code, "language": "python"}]
    kind = {"tests": tests, "test_code": test_code, "test_type": "pytest", "entry_point": entry}
    return {**kind, "solutions": solutions, "language": "python", **more}


def test_stdio(sandbox: Sandbox) -> None:
    verdict = verify_problem(stdio([("1\n", "2\n"), ("20\n", "40\n"), ("1\n", "2\n")], DOUBLE), sandbox, LIMITS)
    assert (verdict.status, verdict.verified, verdict.solution) == ("passed", True, 0)
    assert (verdict.n_tests, verdict.n_distinct, verdict.pass_rate) == (3, 2, 1.0)
    assert verdict.cpu_ms > 0
    assert not verdict.whole


def test_the_failing_test_is_named(sandbox: Sandbox) -> None:
    record = stdio([("1", "2"), ("3333", "7"), ("22", "44")], DOUBLE)
    verdict = verify_problem(record, sandbox, LIMITS)
    assert (verdict.status, verdict.verified) == ("wrong_answer", False)
    assert verdict.pass_rate == pytest.approx(2 / 3)
    failed = verdict.failed_test
    assert failed is not None
    assert (failed.input, failed.expected, failed.got.strip()) == ("3333", "7", "6666")
    early = verify_problem(record, sandbox, LIMITS, stop_early=True)
    assert len(early.outcomes) == 1  # the longest input goes first


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("while True: pass", "time_limit"),
        ("raise ValueError('why')", "runtime_error"),
        ("x = [0] * 10**10", "memory_limit"),
        ("while True: print('x' * 100000)", "output_limit"),
        ("print(1)", "wrong_answer"),
        ("def f(:", "runtime_error"),
    ],
)
def test_statuses(sandbox: Sandbox, code: str, status: str) -> None:
    limits = Limits(cpu_s=0.3, output_bytes=1 << 20)
    assert verify_problem(stdio([("1", "2")], code), sandbox, limits).status == status
    call = source("assert f(1) == 2", f"def f(x):\n    {code if status != 'runtime_error' else 'raise ValueError(1)'}")
    if status not in ("wrong_answer", "output_limit"):
        assert verify_problem(call, sandbox, limits).status == status


def test_nothing_to_run_is_skipped_with_a_reason(sandbox: Sandbox) -> None:
    for record, why in (
        (stdio([], DOUBLE), "no tests"),
        ({"tests": [{"file": "1.in"}], "test_type": "stdio", "solutions": [{"code": DOUBLE}]}, "no tests"),
        (stdio([("1", "2")]), "no solution"),
        (stdio([("1", "2")], solutions=[{"code": DOUBLE, "verdict": "wrong_answer"}]), "meant to be right"),
        (stdio([("1", "2")], solutions=[{"code": "x", "language": "cobol"}]), "no toolchain for cobol"),
    ):
        verdict = verify_problem(record, sandbox, LIMITS)
        assert (verdict.status, verdict.verified) == ("skipped", False)
        assert why in verdict.detail


def test_unreadable_records_are_skipped(sandbox: Sandbox) -> None:
    for record in (
        {"judge": "{"},
        {"tests": [7]},
        {"tests": 3},
        {"judge": '{"inputs": [[1]], "expected": "reference"}'},
    ):
        assert verify_problem({"solutions": [{"code": "def f(:"}], **record}, sandbox, LIMITS).verified is False
    strange = stdio([("\ud800", "\ud800")], "print(input())")
    assert verify_problem(strange, sandbox, LIMITS).status in ("wrong_answer", "runtime_error")


def test_very_long_integers(sandbox: Sandbox) -> None:
    wanted = "1" + "0" * 5000
    record = {"tests": [{"input": "[1]", "output": wanted}], "test_type": "functional", "entry_point": "f"}
    assert verify_code(record, "def f(x): return 10 ** 5000", sandbox, LIMITS).verified
    assert not verify_code(record, "def f(x): return 10 ** 5000 + 1", sandbox, LIMITS).verified


def test_the_first_solution_that_passes_is_chosen(sandbox: Sandbox) -> None:
    codes = ["print(0)", "print(int(input()) * 2 if True else 0)", DOUBLE]
    solutions = [{"code": code, "verdict": "accepted"} for code in codes]
    verdict = verify_problem(stdio([("1", "2")], solutions=solutions), sandbox, LIMITS)
    assert (verdict.verified, verdict.solution) == (True, 1)
    assert not verify_problem(stdio([("1", "2")], solutions=solutions), sandbox, LIMITS, max_solutions=1).verified


FUNCTIONAL = [
    ("def f(a, b): return a + b", "[0.1, 0.2]", "0.3"),
    ("def f(a, b): return a + b", '{"b": 1, "a": 2}', "3"),
    ("def f(x): return ((1, 2), (3,))", "[0]", "[[1, 2], [3]]"),
    ("def f(x): return {1: 2}", "[0]", '{"1": 2}'),
    ("class Solution:\n    def f(self, x): return x + 1", "[1]", "2"),
    ("def f(x):\n    x.sort()", "[[3, 1]]", "[1, 3]"),
    ("def f(x): return (y for y in x)", "[[1, 2]]", "[1, 2]"),
    ("def f(x, y): return x + y", "1\n2", "3"),
    ("def f(x): return 10 ** 400", "[1]", "1" + "0" * 400),
    ("import re\ndef f(s): return re.sub('a', 'b', s)", '["a"]', '"b"'),
]


@pytest.mark.parametrize(("code", "given", "wanted"), FUNCTIONAL)
def test_functional(sandbox: Sandbox, code: str, given: str, wanted: str) -> None:
    record = {"tests": [{"input": given, "output": wanted}], "test_type": "functional", "entry_point": "f"}
    verdict = verify_code(record, code, sandbox, LIMITS)
    assert verdict.verified, verdict
    wrong = {**record, "tests": [{"input": given, "output": '["something else"]'}]}
    assert not verify_code(wrong, code, sandbox, LIMITS).verified


def test_wrapped_outputs_only_where_the_source_has_them(sandbox: Sandbox) -> None:
    record = {"tests": [{"input": "[1]", "output": "[2]"}], "test_type": "functional", "entry_point": "f"}
    assert not verify_code(record, "def f(x): return 2", sandbox, LIMITS).verified
    wrapped = {**record, "judge": json.dumps({"output_may_be_wrapped": True})}
    assert verify_code(wrapped, "def f(x): return 2", sandbox, LIMITS).verified


CLASSES = """
class Clock:
    def __init__(self, h): self.h = h % 24
    def __eq__(self, o): return self.h == o.h
    def __add__(self, n): return Clock(self.h + n)
    def __repr__(self): return f'Clock({self.h})'
class Wrong(ValueError):
    def __init__(self, code): super().__init__('wrong', code); self.code = code
def f(x):
    if x < 0: raise Wrong(x)
    return x
def apply(g, xs): return [g(x) for x in xs]
def fill(xs): xs.append(7)
def count():
    n = 0
    while True: yield n; n += 1
"""
SOURCES = {
    "asserts": "assert f(1) == 1\nassert f(2) == 2",
    "check": "def check(candidate):\n    assert candidate(1) == 1\n    assert abs(candidate(2) - 2) < 1e-6",
    "loop": "def check(candidate):\n    for n in range(3):\n        assert candidate(n) == n",
    "exceptions": "try:\n    f(-1)\n    assert False\nexcept ValueError as e:\n    assert e.args == ('wrong', -1) and e.code == -1",
    "objects": "assert Clock(25) == Clock(1)\nassert repr(Clock(3) + 23) == 'Clock(2)'\nassert isinstance(Clock(1), Clock)",
    "callbacks": "assert apply(lambda x: x * 2, [1, 2]) == [2, 4]\nassert apply(str, [1]) == ['1']",
    "changed arguments": "xs = [1]\nfill(xs)\nassert xs == [1, 7]",
    "identity": "xs = [1]\nys = (xs, xs)\nfill(xs)\nassert ys[0] is xs and ys[1] == [1, 7]",
    "generators": "import itertools\nassert list(itertools.islice(count(), 3)) == [0, 1, 2]\ng = count()\nassert next(g) == 0",
    "imports of the program": "from solution import f, Clock as C\nassert f(1) == 1 and C(1) == C(25)",
    "unittest": "import unittest\nfrom clock import Clock, Wrong, f\nclass T(unittest.TestCase):\n"
    "    def setUp(self): self.c = Clock(1)\n    def test_a(self): self.assertEqual(self.c, Clock(25))\n"
    "    def test_b(self):\n        with self.assertRaises(Wrong) as e: f(-2)\n        self.assertEqual(e.exception.code, -2)\n"
    "    def test_c(self):\n        for n in range(3):\n            with self.subTest(n=n): self.assertEqual(f(n), n)\n",
    "pytest": "import pytest\nfrom solution import f\n@pytest.fixture\ndef five(): return 5\n"
    "@pytest.mark.parametrize('x,y', [(1, 1), (2, 2)])\ndef test_a(x, y): assert f(x) == y\n"
    "def test_b(five): assert f(five) == pytest.approx(5)\ndef test_c():\n    with pytest.raises(ValueError, match='wrong'): f(-1)\n",
    "inside": "from unittest.mock import patch\nimport solution\ndef test_a():\n"
    "    with patch('solution.f', return_value=9): assert solution.f(1) == 9\n    assert solution.f(1) == 1\n",
}


@pytest.mark.parametrize("name", SOURCES)
def test_source(sandbox: Sandbox, name: str) -> None:
    verdict = verify_problem(source(SOURCES[name], CLASSES), sandbox, LIMITS)
    assert verdict.verified, verdict
    assert verdict.whole == (name == "inside")
    broken = (
        CLASSES.replace("return x\n", "return x + 1\n")
        .replace("self.h = h % 24", "self.h = h")
        .replace("append(7)", "append(8)")
    )
    broken = (
        broken.replace("g(x) for", "g(x) + g(x) for").replace("n = 0", "n = 1").replace("'wrong', code", "'code', code")
    )
    assert not verify_problem(source(SOURCES[name], broken), sandbox, LIMITS).verified


def test_every_assert_is_a_check(sandbox: Sandbox) -> None:
    record = source("assert f(1) == 1\nassert f(2) == 3\nassert f(3) == 3\nassert f(-1) == 0", CLASSES, count=4)
    verdict = verify_problem(record, sandbox, LIMITS)
    assert verdict.pass_rate == 0.5
    assert verdict.failed_test is not None
    assert (verdict.failed_test.name, verdict.failed_test.expected, verdict.failed_test.got) == ("f(2) == 3", "3", "2")


def test_classes_of_the_preamble_travel_by_value(sandbox: Sandbox) -> None:
    preamble = "class Node:\n    def __init__(self, v, next=None): self.v, self.next = v, next\n"
    tests = "def check(candidate):\n    a = Node(1, Node(2))\n    b = candidate(a)\n    assert b.v == 2 and b.next.v == 1 and b.next is a\n    assert a.next is None"
    code = preamble + "def f(n):\n    last = None\n    while n: n.next, last, n = last, n, n.next\n    return last\n"
    record = source(tests, code, judge=json.dumps({"preamble": preamble}))
    assert verify_problem(record, sandbox, LIMITS).verified
    lying = code.replace("def __init__", "def __eq__(self, o): return True\n    def __init__").replace(
        "return last", "return n"
    )
    assert not verify_code(record, lying, sandbox, LIMITS).verified


def test_answers_get_what_the_problem_gives_its_solver(sandbox: Sandbox) -> None:
    record = source(
        "assert f([1]) == 2.0", "", judge=json.dumps({"preamble": "from math import sqrt\nfrom typing import List"})
    )
    assert verify_code(record, "def f(x: List[int]) -> float:\n    return sqrt(4)", sandbox, LIMITS).verified
    call = {"tests": [{"input": "[[4]]", "output": "4"}], "test_type": "functional", "entry_point": "f"}
    assert verify_code(
        call, "class Solution:\n    def f(self, x: List[int]) -> int:\n        return x[0]", sandbox, LIMITS
    ).verified


def test_a_program_may_be_named_like_a_builtin(sandbox: Sandbox) -> None:
    record = source("assert sum(10, 15) == 6", "def sum(a, b): return 6", entry="")
    assert verify_problem(record, sandbox, LIMITS).verified
    assert not verify_code(
        source("assert abs(f(1) - 2) < 1", "def f(x): return 2"), "def abs(x): return 0\ndef f(x): return 9", sandbox
    ).verified


def test_reference_inputs(sandbox: Sandbox) -> None:
    reference = "def f(xs):\n    assert isinstance(xs, tuple)\n    return sum(xs) / 3"
    judge = {
        "inputs": [[[1, 2]], [[3]], [[3]]],
        "expected": "reference",
        "contract": "\n  assert isinstance(xs, tuple)\n",
    }
    record = {"judge": json.dumps(judge), "entry_point": "f", "solutions": [{"code": reference}]}
    verdict = verify_problem(record, sandbox, LIMITS)
    assert (verdict.verified, verdict.n_tests, verdict.n_distinct) == (True, 3, 2)
    assert verify_code(record, "def f(xs): return (sum(xs) * 1.0) / 3 + 1e-9", sandbox, LIMITS).verified
    assert not verify_code(record, "def f(xs): return sum(xs) / 3 + 0.1", sandbox, LIMITS).verified
    broken = {**record, "solutions": [{"code": "def f(xs): return 1 / 0"}]}
    assert "the reference does not answer" in verify_problem(broken, sandbox, LIMITS).detail


def test_contracts() -> None:
    text = "\n  assert isinstance(a, tuple), 'x'\n  assert all(isinstance(i, set) for i in b)\n  assert isinstance(b, list)\n"
    assert contract(text) == {"a": ("tuple", ""), "b": ("list", "set")}


def test_contracts_with_numbers_and_nested_tuples() -> None:
    numbers = "\n  assert isinstance(a, (int, float)) or isinstance(a, float)\n  assert isinstance(b, complex) or isinstance(b, float)\n  assert isinstance(c, (str, float))\n"
    assert contract(numbers) == {"a": ("float", ""), "b": ("complex", "")}
    nested = (
        "\n  def deep(t):\n    return all(deep(i) for i in t) if isinstance(t, tuple) else True\n"
        "  assert isinstance(x, tuple)\n  assert deep(x)\n"
    )
    given = {"inputs": [[[1, [2, [4]], 6]]], "expected": "reference", "contract": nested}
    code = "def f(x):\n    return tuple(f(i) if isinstance(i, tuple) else i for i in x)"
    read = problem(source("", code, judge=given))
    assert inputs(read, code) == [[(1, (2, (4,)), 6)]]


def test_complex_numbers_arrive_as_such(sandbox: Sandbox) -> None:
    text = "\n  assert isinstance(z, (int, float, complex))\n"
    judge = {"inputs": [["(1+2j)"], ["-3j"], ["2.5"], [4]], "expected": "reference", "contract": text}
    verdict = verify_problem(
        source("", "import cmath\ndef f(z):\n    return cmath.polar(z)", judge=judge), sandbox, LIMITS
    )
    assert (verdict.status, verdict.pass_rate) == ("passed", 1.0)


def test_a_name_that_nobody_has_is_told(sandbox: Sandbox) -> None:
    tests = "from node import Node\nfrom programs.f import f\ndef test_1():\n    assert f(Node(1))\n"
    verdict = verify_problem(source(tests, "def f(n):\n    return True"), sandbox, LIMITS)
    assert verdict.status == "runtime_error"
    assert (
        verdict.detail == "NameError: the tests take 'Node' from 'node', which neither the problem nor the program has"
    )
    node = {"files": {"node.py": "class Node:\n    def __init__(self, value):\n        self.value = value\n"}}
    assert verify_problem(source(tests, "def f(n):\n    return n.value == 1", judge=node), sandbox, LIMITS).verified


def test_package_rules(sandbox: Sandbox) -> None:
    judge = {"validation": "default", "float_tolerance": 1e-3, "time_limit_s": 1}
    record = stdio([("1", "3 YES")], judge=json.dumps(judge))
    assert verify_code(record, "print(3.0005, 'yes')", sandbox, LIMITS).verified
    assert not verify_code(record, "print(3.01, 'yes')", sandbox, LIMITS).verified
    exact = {**record, "judge": json.dumps({"validation": "default", "case_sensitive": True})}
    assert not verify_code(exact, "print(3, 'yes')", sandbox, LIMITS).verified
    assert verify_code(exact, "print(3)\nprint('YES')", sandbox, LIMITS).verified


VALIDATOR = """
import sys
wanted = open(sys.argv[1]).read().split()
answer = open(sys.argv[2]).read()
open(sys.argv[3] + 'judgemessage.txt', 'w').write('looked')
got = sys.stdin.read().split()
sys.exit(42 if len(got) == 2 and sum(map(int, got)) == int(wanted[0]) else 43)
"""
INTERACTIVE = """
import sys
n = int(open(sys.argv[1]).read())
for turn in range(10):
    guess = int(input())
    print('lower' if guess > n else 'higher' if guess < n else 'correct', flush=True)
    if guess == n: sys.exit(42)
sys.exit(43)
"""


def test_validators_in_python(sandbox: Sandbox) -> None:
    judge = {"validation": "custom", "validators": {"output_validators/v.py": VALIDATOR}}
    record = stdio([("10", "5 5"), ("7", "3 4")], judge=json.dumps(judge))
    assert verify_code(record, "n = int(input())\nprint(1, n - 1)", sandbox, LIMITS).verified
    assert verify_code(record, "print(1, 1)", sandbox, LIMITS).status == "wrong_answer"
    assert verify_code(record, "1 / 0", sandbox, LIMITS).status == "runtime_error"
    judge["validators"] = {"output_validators/v.cpp": "int main() {}"}
    other = verify_code({**record, "judge": json.dumps(judge)}, "print(1)", sandbox, LIMITS)
    assert (other.status, "cpp" in other.detail) == ("skipped", True)


def test_interactive_problems(sandbox: Sandbox) -> None:
    judge = {
        "validation": "custom interactive",
        "interactive": True,
        "validators": {"output_validators/v.py": INTERACTIVE},
    }
    record = stdio([("37", "")], judge=json.dumps(judge))
    search = "lo, hi = 0, 100\nwhile True:\n    m = (lo + hi) // 2\n    print(m, flush=True)\n    a = input()\n    if a == 'correct': break\n    lo, hi = (m + 1, hi) if a == 'higher' else (lo, m - 1)"
    assert verify_code(record, search, sandbox, LIMITS).verified
    assert verify_code(record, search.replace("m + 1", "m"), sandbox, LIMITS).status == "wrong_answer"
    assert verify_code(record, "while True: print(1, flush=True)", sandbox, LIMITS).status == "wrong_answer"
    assert not verify_code(record, "pass", sandbox, LIMITS).verified


@pytest.mark.skipif(not shutil.which("node"), reason="no node")
def test_javascript(sandbox: Sandbox) -> None:
    program = "const [a] = require('fs').readFileSync('/dev/stdin', 'utf8').split('\\n');\nconsole.log(2 * Number(a));"
    record = stdio([("21\n", "42\n")], solutions=[{"code": program, "language": "javascript"}], language="javascript")
    assert verify_problem(record, sandbox, LIMITS).verified
    assert not verify_code(record, "console.log(1)", sandbox, LIMITS).verified
    tests = "const _ = require('lodash');\nif (!_.isEqual(f(1), [1])) { throw 'wrong'; }"
    checked = {**source(tests, "function f(x) { return [x]; }"), "language": "javascript"}
    checked["solutions"][0]["language"] = "javascript"
    assert verify_problem(checked, sandbox, LIMITS).verified
    for cheat in ("function f(x) { return [2]; }", "process.exit(0)", "process.on('exit', () => 0); process.exit(0)",
                  "require('fs').writeSync(4, '{\"name\":\"x\",\"ok\":true}\\n{\"done\":1}\\n'); process.exit(0)",
                  "while (true) {}"):  # fmt: skip
        assert not verify_code(checked, cheat, sandbox, Limits(cpu_s=1)).verified, cheat


@pytest.mark.skipif(not shutil.which("g++"), reason="no g++")
def test_cpp(sandbox: Sandbox) -> None:
    program = "#include <iostream>\nint main() { long n; std::cin >> n; std::cout << 2 * n << '\\n'; }"
    record = stdio([("21\n", "42\n"), ("5", "10")], solutions=[{"code": program, "language": "cpp"}], language="cpp")
    assert verify_problem(record, sandbox, LIMITS).verified
    assert "does not compile" in verify_code(record, "int main( {", sandbox, LIMITS).detail
    assert "does not compile" in verify_code(record, '#include "/etc/passwd"\nint main() {}', sandbox, LIMITS).detail
    tests = "int main() {\n    assert(f(1) == 2);\n}\n"
    checked = {**source(tests, "#include <cassert>\nint f(int x) { return 2 * x; }"), "language": "cpp"}
    checked["solutions"][0]["language"] = "cpp"
    assert verify_problem(checked, sandbox, LIMITS).verified
    assert not verify_code(checked, "#include <cassert>\nint f(int x) { return x; }", sandbox, LIMITS).verified
    assert not verify_code(
        checked, "#include <cassert>\n#include <cstdlib>\nint f(int x) { exit(0); }", sandbox, LIMITS
    ).verified


@pytest.mark.parametrize(
    ("expected", "got", "same"),
    [
        ("YES", "NO", False), ("Bob", "Alice", False), ("1000001", "1000002", False), ("1\n2", "2\n1", False),
        ("1 2\n", "1\n2", True), ("0.3", "0.30000000000000004", True), ("0.3", "0.31", False), ("3", "3.0", False),
        ("3.0", "3", True), ("", "", True), ("", "x", False), ("x", "", False), ("1e-9", "0", True), ("abc", "ABC", False),
        ("1.0", "nan", False), ("1.0", "inf", False), ("1.5", "1,5", False), ("1.0", "1_0", False), ("007", "7", False),
    ],
)  # fmt: skip
def test_outputs(expected: str, got: str, same: bool) -> None:
    assert same_output(expected, got, Rules()) == same


@pytest.mark.parametrize(
    ("expected", "got", "same"),
    [
        (1, 1.0, True), (1, 1.5, False), (1, "1", False), ("1", 1, False), (True, True, True), (True, False, False),
        ([1, [2]], (1, (2,)), True), ([1], [1, 2], False), ([], None, False), (None, None, True), (None, 0, False),
        (0.3, 0.1 + 0.2, True), (0.3, 0.4, False), (1.0, True, False), ({"a": 1}, {"a": 1}, True), ({"1": 2}, {1: 2}, True),
        ({"a": 1}, {"a": 2}, False), ([1, 2], {1, 2}, False), (10**20, 10**20 + 1, False), ("a", "a ", False), (0.5, "0.5", False),
    ],
)  # fmt: skip
def test_values(expected: Any, got: Any, same: bool) -> None:
    assert same_value(expected, got, Rules()) == same


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


@given(JSON)
def test_equal_values_are_the_same_and_changed_ones_are_not(value: Any) -> None:
    assert same_value(value, value, Rules())
    assert not same_value([value], [value, value], Rules())
    assert not same_value({"k": value}, {"other": value}, Rules())


def test_tests_are_counted_once() -> None:
    read = problem(
        {
            "tests": [
                {"name": "a", "input": "1", "output": "2"},
                {"name": "b", "input": "1", "output": "2"},
                {"file": "x"},
            ],
            "test_type": "stdio",
        }
    )
    assert (read.n_tests, read.n_distinct, len(read.checks)) == (2, 1, 1)
    invalid = problem({"tests": [{"name": "data/bad/1", "input": "x", "output": ""}], "test_type": "stdio"})
    assert invalid.kind == "none"
