"""`tests: {verify: true}`: reference solutions run in the sandbox, and the decision says which test failed."""

from __future__ import annotations

import pytest
from pools import records, run

from schemas.errors import RecipeError
from stages.tests import Tests
from stages.verify import columns

CHECK = "def check(candidate):\n" + "".join(f"    assert candidate({n}) == {n + 1}\n" for n in range(6))


def problem(body: str, **changes: object) -> dict[str, object]:
    tests = [{"name": f"assert {n + 1}", "code": f"assert candidate({n}) == {n + 1}"} for n in range(6)]
    solutions = [{"code": f"def f(n):\n{body}", "language": "python", "verdict": "accepted"}]
    return {
        "kind": "code", "prompt": "Add one.", "tests": tests, "test_code": CHECK, "test_type": "pytest",
        "entry_point": "f", "solutions": solutions, "language": "python", **changes,
    }  # fmt: skip


def test_right_wrong_missing_and_foreign() -> None:
    rows = [
        problem("    return n + 1\n"),
        problem("    return n + 1 if n < 4 else 0\n"),
        problem("    raise ValueError('no idea')\n"),
        problem("", solutions=[]),
        {"kind": "sft", "prompt": "Hello", "completion": "Hi"},
    ]
    decisions = run(Tests(verify=True), records(rows))
    reasons = list(decisions.reason)
    assert decisions.keep.tolist() == [True, False, False, False, True]
    assert reasons[0] == "tests: 6, verified"
    assert reasons[1].startswith("not verified: wrong_answer; ")
    assert "4" in reasons[1]
    assert "expected 5" in reasons[1]
    assert "got 0" in reasons[1]
    assert reasons[2].startswith("not verified: runtime_error; ")
    assert reasons[3].startswith("not verified: skipped; no solution")
    assert reasons[4] == "not a code problem"
    assert decisions.score is not None
    assert decisions.score[1] == pytest.approx(4 / 6)


def test_a_lower_pass_rate_keeps_more_and_too_few_tests_come_first() -> None:
    rows = [problem("    return n + 1 if n < 5 else 0\n"), problem("    return n + 1\n", tests=[], test_code=None)]
    decisions = run(Tests(verify=True, min_pass_rate=0.8), records(rows))
    assert decisions.keep.tolist() == [True, False]
    assert list(decisions.reason) == ["tests: 6, 83% passed", "tests: none"]


def test_thresholds_do_not_rescore_but_limits_do() -> None:
    base = Tests(verify=True)
    assert Tests(verify=True, min_tests=2, min_pass_rate=0.5).scoring() == base.scoring()
    assert Tests(verify=True, cpu_s=1).scoring() != base.scoring()
    assert Tests(cpu_s=1).scoring() == Tests().scoring() != base.scoring()


def test_without_a_sandbox_the_recipe_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found = columns.probe()
    monkeypatch.setattr(columns, "probe", lambda: type(found)(None, 0, {}, ("allow user namespaces",)))
    with pytest.raises(RecipeError, match="allow user namespaces"):
        Tests(verify=True).check()
    Tests().check()
