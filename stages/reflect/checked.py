"""Whether a new answer still does what its record can check: the tests of a problem, the known result of a solution."""

from __future__ import annotations

from typing import Any, Final

from stages.fences import fenced
from stages.reflect.finals import form_of, states
from stages.reflect.prompts import Checks
from stages.reflect.turns import Row, Turn
from stages.sandbox import Limits, Sandbox
from stages.verify import verify_code

_BOUND: Final = ("tests", "test_code", "judge", "solutions", "entry_point", "answer")
_MOST_TESTS: Final = 15


def keeps_instruction(row: Row) -> bool:
    """Whether a record has columns that only fit its own instruction: tests, solutions, a known final answer."""
    return any(row.get(name) for name in _BOUND)


def is_tested(row: Row) -> bool:
    """Whether a record has tests that a new answer must pass."""
    return any(row.get(name) for name in ("tests", "test_code", "judge"))


def checks_of(row: Row, turn: Turn) -> Checks:
    """What the model is told about the checks its answer will have to pass."""
    return Checks(is_tested(row), form_of(turn.pair.answer) if row.get("answer") else "")


def check_failure(row: Row, answer: str, sandbox: Sandbox | None, limits: Limits) -> str | None:
    """Why a new answer fails its record's own checks, as `kind; particulars`; None where it passes or has none.

    A known final answer must be the one it states. The answer's last code block must pass the record's tests in the
    sandbox, or those fifteen with the longest inputs.
    """
    known = row.get("answer")
    if isinstance(known, str) and known.strip() and not states(answer, known):
        return f"another result; not {known.strip()[:60]}"
    return _test_failure(row, answer, sandbox, limits) if is_tested(row) else None


def _test_failure(row: Row, answer: str, sandbox: Sandbox | None, limits: Limits) -> str | None:
    blocks = fenced(answer).blocks
    if not blocks:
        return "no program"
    own = str(row.get("language") or "python")
    code, language = blocks[-1]
    if language and language != own:
        return f"program in another language; {language} for {own}"
    if sandbox is None:
        return "tests not run"
    verdict = verify_code(_hardest(row), code, sandbox, limits, language=own)
    if verdict.verified:
        return None
    failed = verdict.failed_test
    return f"tests fail; {verdict.status}{f' in {failed.name}' if failed else f': {verdict.detail}'}"


def _hardest(row: Row) -> dict[str, Any]:
    """The row with at most fifteen of its data tests: those with the longest inputs, in their own order."""
    tests = list(row.get("tests") or ())
    data = [at for at, test in enumerate(tests) if isinstance(test.get("output"), str)]
    if len(data) <= _MOST_TESTS:
        return dict(row)
    longest = sorted(data, key=lambda at: (-len(tests[at].get("input") or ""), at))[:_MOST_TESTS]
    return {**row, "tests": [tests[at] for at in sorted(longest)]}
