"""verl: prompts as messages, with what `jobs.reward.compute_score` needs in `reward_model` and `extra_info`."""

from __future__ import annotations

import json
from typing import Any, Final

import pyarrow as pa

from pipelines.formats.base import TURN, Format, Place, Record
from pipelines.formats.problems import TOLD_BY, Tests, arguments, result, tests_of
from pipelines.formats.prompts import asked
from schemas.errors import BadRow


def _truth(record: Record, tests: Tests) -> dict[str, Any]:
    """Test data as TACO writes it; for tests that are source, or that a reference answers, the record's own columns."""
    if tests.kind == "stdio":
        return {"inputs": [given for given, _ in tests.pairs], "outputs": [wanted for _, wanted in tests.pairs]}
    if tests.kind == "functional":
        return {
            "inputs": [arguments(given) for given, _ in tests.pairs],
            "outputs": [result(wanted) for _, wanted in tests.pairs],
            "fn_name": tests.entry,
        }
    names = ("tests", "test_code", "test_type", "entry_point", *(["solutions"] if tests.kind == "reference" else []))
    return {name: _bare(record[name]) for name in names if record[name] is not None}


def _bare(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    return [{key: item for key, item in each.items() if item is not None} for each in value]


def _row(record: Record, place: Place) -> dict[str, Any]:
    tests = tests_of(record) if record["kind"] == "code" else None
    if tests is None and record["answer"] is None:
        raise BadRow("nothing_to_check", "neither tests nor an answer")
    truth = record["answer"] if tests is None else json.dumps(_truth(record, tests), ensure_ascii=False)
    judge = tests.judge if tests is not None else {}
    return {
        "data_source": record["source"],
        "prompt": asked(record, tests),
        "ability": "reasoning" if tests is None else "code",
        "reward_model": {"style": "rule", "ground_truth": truth},
        "extra_info": {
            "split": place.split,
            "index": place.index,
            "record_id": record["record_id"],
            "language": record["language"],
            "judge": json.dumps(judge, ensure_ascii=False) if judge else None,
        },
    }


_EXTRA: Final = pa.struct(
    [
        ("split", pa.string()),
        ("index", pa.int64()),
        ("record_id", pa.string()),
        ("language", pa.string()),
        ("judge", pa.string()),
    ]
)
VERL: Final = Format(
    "verl",
    "verl: `prompt` as messages, `reward_model.ground_truth` as JSON",
    pa.schema(
        [
            ("data_source", pa.string()),
            ("prompt", pa.list_(TURN)),
            ("ability", pa.string()),
            ("reward_model", pa.struct([("style", pa.string()), ("ground_truth", pa.string())])),
            ("extra_info", _EXTRA),
        ]
    ),
    (*TOLD_BY, "source", "answer"),
    _row,
)
