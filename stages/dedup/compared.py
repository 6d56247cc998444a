"""The text that is compared: one rendering for all records, or one for each kind of record."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from schemas.record import Kind
from stages.text import On, columns_for, render

_OTHERS: On = "text"


def columns_read(on: On | Mapping[Kind, On]) -> list[str]:
    """Record columns that `rendered` needs."""
    if isinstance(on, str):
        return list(columns_for(on))
    return list(dict.fromkeys(["kind", *(column for each in {_OTHERS, *on.values()} for column in columns_for(each))]))


def rendered(batch: pa.RecordBatch, on: On | Mapping[Kind, On]) -> pa.StringArray:
    """The text of every row, null where there is none; kinds that a mapping does not name show their whole text."""
    if isinstance(on, str):
        return render(batch, on)
    texts = render(batch, _OTHERS)
    for kind, what in on.items():
        texts = pc.if_else(pc.equal(batch["kind"], kind), render(batch, what), texts)
    return texts
