"""TRL's GRPO: `prompt` as messages beside the columns that `jobs.reward.trl_reward` takes as keyword arguments."""

from __future__ import annotations

import json
from typing import Any, Final

import pyarrow as pa

from pipelines.formats.base import TURN, Format, Place, Record
from pipelines.formats.problems import TOLD_BY, tests_of
from pipelines.formats.prompts import asked
from schemas.errors import BadRow
from schemas.record import RECORD

_TAKEN: Final = ("tests", "test_code", "test_type", "entry_point", "solutions", "judge", "language", "answer")


def _row(record: Record, place: Place) -> dict[str, Any]:
    tests = tests_of(record) if record["kind"] == "code" else None
    if tests is None and record["answer"] is None:
        raise BadRow("nothing_to_check", "neither tests nor an answer")
    row = {name: record[name] for name in _TAKEN}
    if tests is not None:
        row["judge"] = json.dumps(tests.judge, ensure_ascii=False) if tests.judge else None
    if tests is None or tests.kind != "reference":
        row["solutions"] = None  # the reward needs them only where the reference is what knows the right values
    return {"prompt": asked(record, tests), **row}


TRL: Final = Format(
    "trl",
    "TRL GRPO: `prompt` as messages, and the columns of the reward function",
    pa.schema(
        [("prompt", pa.list_(TURN)), *(RECORD.field(name) for name in _TAKEN), pa.field("record_id", pa.string())]
    ),
    (*TOLD_BY, "answer"),
    _row,
)
