"""The text of a record that a stage looks at, rendered column-wise from Arrow without a Python string per row.

A record that has nothing of the kind asked for renders as null, which is not the same as an empty text: an `sft`
record without a response has nothing to compare, and two such records are no duplicates of each other.

| on       | what it renders, pieces joined by a newline                                                            |
|----------|--------------------------------------------------------------------------------------------------------|
| text     | all a reader would see: `text`, every message, `prompt`, `reasoning`, `completion` (else `answer`) and |
|          | `rejected`, so a chat of two turns equals the same prompt and completion; a code problem without a     |
|          | statement falls back on its first solution                                                             |
| prompt   | `prompt`, else the user's messages                                                                     |
| response | `reasoning` and `completion` (else `answer`), else the assistant's messages                            |
| messages | every message, else `prompt`, `reasoning` and `completion` (else `answer`)                             |
| code     | the first solution, else `text`, else `completion`                                                     |

A message renders as its reasoning, its content, and name and arguments of each tool call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

On = Literal["text", "prompt", "response", "messages", "code"]
ON: Final[tuple[On, ...]] = get_args(On)

_RESPONSE: Final = ("reasoning", "completion", "answer")
_COLUMNS: Final[Mapping[On, tuple[str, ...]]] = {
    "text": ("text", "messages", "prompt", *_RESPONSE, "rejected", "solutions"),
    "prompt": ("prompt", "messages"),
    "response": (*_RESPONSE, "messages"),
    "messages": ("messages", "prompt", *_RESPONSE),
    "code": ("solutions", "text", "completion"),
}
TEXT_COLUMNS: Final = tuple(dict.fromkeys(column for on in ON for column in _COLUMNS[on]))
"""Every column that some rendering reads."""


def columns_for(on: On) -> tuple[str, ...]:
    """Record columns that `render` needs for `on`."""
    return _COLUMNS[on]


def render(batch: pa.RecordBatch, on: On) -> pa.StringArray:
    """The text of every row of `batch` (columns `columns_for(on)`), null where a record has none of that kind."""
    if on == "text":
        parts = [batch["text"], turns(batch["messages"]), batch["prompt"], *_response(batch), batch["rejected"]]
        return pc.coalesce(join(parts), first_solution(batch["solutions"]))
    if on == "prompt":
        return pc.coalesce(batch["prompt"], turns(batch["messages"], "user"))
    if on == "response":
        return pc.coalesce(join(_response(batch)), turns(batch["messages"], "assistant"))
    if on == "messages":
        return pc.coalesce(turns(batch["messages"]), join([batch["prompt"], *_response(batch)]))
    return pc.coalesce(first_solution(batch["solutions"]), batch["text"], batch["completion"])


def join(parts: Sequence[pa.StringArray], separator: str = "\n") -> pa.StringArray:
    """The non-null parts of each row joined; null where all of them are."""
    # Not `null_handling="skip"`: pyarrow 26 loses the rows in which every part is null.
    joined = parts[0]
    for part in parts[1:]:
        if part.null_count < len(part):
            joined = pc.coalesce(pc.binary_join_element_wise(joined, part, separator), joined, part)
    return joined


def turns(messages: pa.ListArray, role: str | None = None) -> pa.StringArray:
    """The messages of each row (those of one role, if given) joined by newlines; null where there is none."""
    flat, parents = explode(messages)
    names, contents, reasoning, calls = (flat.field(k) for k in ("role", "content", "reasoning", "tool_calls"))
    pieces = join([reasoning, contents, _calls(calls)])
    wanted = pc.is_valid(pieces) if role is None else pc.fill_null(pc.equal(names, role), False)
    keep = wanted.to_numpy(zero_copy_only=False)
    return _regroup(pc.fill_null(pieces.filter(wanted), ""), parents[keep], len(messages))


def first_solution(solutions: pa.ListArray) -> pa.StringArray:
    """The code of each row's first solution that has any, null where there is none."""
    flat, parents = explode(solutions)
    code = flat.field("code")
    valid = pc.is_valid(code).to_numpy(zero_copy_only=False)
    rows, first = np.unique(parents[valid], return_index=True)
    index = np.full(len(solutions), -1, dtype=np.int64)
    index[rows] = np.flatnonzero(valid)[first]
    return code.take(pa.array(index, mask=index < 0))


def explode(lists: pa.ListArray) -> tuple[pa.StructArray, npt.NDArray[np.int64]]:
    """The items of all rows in one array, and the row that each belongs to."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    flat = lists.flatten()
    # `StructArray.field` forgets that a null item has no fields, `flatten` does not.
    fields = dict(zip([field.name for field in flat.type], flat.flatten(), strict=True))
    return pa.StructArray.from_arrays(fields.values(), fields.keys()), np.repeat(np.arange(len(lists)), lengths)


def _response(batch: pa.RecordBatch) -> list[pa.StringArray]:
    return [batch["reasoning"], pc.coalesce(batch["completion"], batch["answer"])]


def _calls(tool_calls: pa.ListArray) -> pa.StringArray:
    flat, parents = explode(tool_calls)
    pieces = join([flat.field("name"), flat.field("arguments")], " ")
    return _regroup(pc.fill_null(pieces, ""), parents, len(tool_calls))


def _regroup(pieces: pa.StringArray, parents: npt.NDArray[np.int64], n_rows: int) -> pa.StringArray:
    """Pieces (no nulls, rows ascending) joined per row; null for rows without any."""
    counts = np.bincount(parents, minlength=n_rows)
    offsets = np.zeros(n_rows + 1, dtype=np.int32)
    np.cumsum(counts, out=offsets[1:])
    joined = pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets), pieces), "\n")
    return pc.if_else(pa.array(counts > 0), joined, pa.scalar(None, pa.string()))
