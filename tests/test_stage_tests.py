"""Counting tests of code problems."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from pools import records, run, score

from stages.tests import Tests as CountTests

PAIR = {"input": "1 2", "output": "3"}


def case(tests: Sequence[dict[str, Any] | None] | None, **more: Any) -> dict[str, Any]:
    return {"kind": "code", "prompt": "p", "tests": tests, **more}


@pytest.mark.parametrize(
    ("row", "counts"),
    [
        (case([PAIR]), (1, 1, 1)),
        (case([PAIR, {"input": " 1 2 \n", "output": "3\n"}]), (2, 2, 1)),
        (case([PAIR, {"input": "1 2", "output": "4"}]), (2, 2, 2)),
        (case([{"input": "a  \r\nb", "output": "x"}, {"input": "a\nb", "output": "x"}]), (2, 2, 1)),
        (case([{"output": "3"}, {"input": "", "output": "3"}]), (2, 2, 2)),
        (case([{"input": "1"}]), (1, 0, 0)),
        (case([{"file": "1.in"}, {"file": "2.in"}]), (2, 0, 0)),
        (case([{"code": "assert f(1) == 2"}, {"code": "assert f(1) == 2 "}, {"code": "  "}]), (3, 2, 1)),
        (case([{"code": "assert f()", "name": "a"}, {"code": "assert f()", "name": "b"}]), (2, 2, 1)),
        (case(None), (0, 0, 0)),
        (case([]), (0, 0, 0)),
        (case([None, PAIR]), (2, 1, 1)),
        (case(None, test_code="def check(f): ..."), (1, 1, 1)),
        (case([PAIR], test_code="def check(f): ..."), (1, 1, 1)),
        (case([], test_code=" \n"), (0, 0, 0)),
        ({"kind": "sft", "prompt": "p", "tests": [PAIR]}, (None, None, None)),
    ],
)
def test_counts(row: dict[str, Any], counts: tuple[int | None, ...]) -> None:
    pool = score(CountTests(), records([{"text": "other"}, row, case([PAIR])]))
    assert tuple(pool.table(["n_tests", "usable", "n_distinct"]).to_pylist()[1].values()) == counts
    assert pool.table(["n_distinct"])["n_distinct"].to_pylist()[2] == 1


def test_reasons() -> None:
    many = [{"input": str(k), "output": str(k)} for k in range(7)]
    rows = [case(many), case(many[:3]), case([]), case([{"file": "x"}] * 2), {"text": "t"}, case(many[:5])]
    decisions = run(CountTests(), records(rows), batch_size=4)
    assert list(zip(decisions.keep.tolist(), decisions.reason.to_pylist(), strict=True)) == [  # type: ignore[union-attr]
        (True, "tests: 7"),
        (False, "tests: 3 of 5 required"),
        (False, "tests: none"),
        (False, "tests: none of 2 usable"),
        (True, "not a code problem"),
        (True, "tests: 5"),
    ]
    assert decisions.score is not None
    assert decisions.score[:4].tolist() == [7, 3, 0, 0]


def test_the_limit_rescores_nothing() -> None:
    assert CountTests(min_tests=3).scoring() == CountTests().scoring()
    assert run(CountTests(min_tests=0), records([case([])])).keep.all()
