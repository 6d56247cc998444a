"""rLLM: the columns of the DeepCoder data, which its `prepare_deepcoder_data` reads."""

from __future__ import annotations

import json
from typing import Any, Final

import pyarrow as pa

from pipelines.formats.base import Format, Place, Record
from pipelines.formats.problems import TOLD_BY, Tests, data_tests, lines, references, result, statement


def _cases(tests: Tests) -> list[dict[str, Any]]:
    """LiveCodeBench's list of tests; `fn_name` is where rLLM's grader for PrimeIntellect data looks."""
    if tests.kind == "stdio":
        return [
            {"input": given, "output": wanted, "testtype": "stdin", "metadata": {"func_name": None}}
            for given, wanted in tests.pairs
        ]
    named = {"testtype": "functional", "fn_name": tests.entry, "metadata": {"func_name": tests.entry}}
    return [
        {"input": lines(given), "output": json.dumps(result(wanted), ensure_ascii=False), **named}
        for given, wanted in tests.pairs
    ]


def _row(record: Record, place: Place) -> dict[str, Any]:
    tests = data_tests(record)
    starter = tests.judge.get("starter_code")
    return {
        "problem": statement(record),
        "tests": json.dumps(_cases(tests), ensure_ascii=False),
        "solutions": references(record),
        "starter_code": starter if isinstance(starter, str) else "",
        "metadata": {"func_name": tests.entry if tests.kind == "functional" else None},
        "data_source": "livecodebench",
    }


RLLM: Final = Format(
    "rllm",
    "rLLM: the DeepCoder columns, tests as LiveCodeBench's list",
    pa.schema(
        [
            ("problem", pa.string()),
            ("tests", pa.string()),
            ("solutions", pa.list_(pa.string())),
            ("starter_code", pa.string()),
            ("metadata", pa.struct([("func_name", pa.string())])),
            ("data_source", pa.string()),
            ("record_id", pa.string()),
        ]
    ),
    TOLD_BY,
    _row,
)
