"""open-r1: PrimeIntellect's verifiable coding problems, with `verification_info` as a struct."""

from __future__ import annotations

import json
from typing import Any, Final

import pyarrow as pa

from pipelines.formats.base import Format, Place, Record
from pipelines.formats.problems import TOLD_BY, Tests, data_tests, lines, references, result, statement


def _cases(tests: Tests) -> list[dict[str, str | None]]:
    if tests.kind == "stdio":
        return [
            {"fn_name": None, "input": given, "output": wanted, "type": "stdin_stdout"} for given, wanted in tests.pairs
        ]
    return [
        {
            "fn_name": tests.entry,
            "input": lines(given),
            "output": json.dumps(result(wanted), ensure_ascii=False),
            "type": "function_call",
        }
        for given, wanted in tests.pairs
    ]


def _row(record: Record, place: Place) -> dict[str, Any]:
    tests = data_tests(record)
    return {
        "prompt": statement(record, tests),
        "gold_standard_solution": next(iter(references(record)), None),
        "verification_info": {"language": "python", "test_cases": _cases(tests)},
        "source": record["source"],
        "problem_id": record["source_id"],
    }


_CASE: Final = pa.struct([(name, pa.string()) for name in ("fn_name", "input", "output", "type")])
OPEN_R1: Final = Format(
    "open-r1",
    "open-r1: `prompt`, `verification_info` with language and test cases",
    pa.schema(
        [
            ("prompt", pa.string()),
            ("gold_standard_solution", pa.string()),
            ("verification_info", pa.struct([("language", pa.string()), ("test_cases", pa.list_(_CASE))])),
            ("source", pa.string()),
            ("problem_id", pa.string()),
            ("record_id", pa.string()),
        ]
    ),
    (*TOLD_BY, "source", "source_id"),
    _row,
)
