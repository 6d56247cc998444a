"""The `clean` stage: a rewrite that mends what no reader wants to see. Code in tests and solutions is left alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar, Final, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from stages.contract import RunsIn, Stage, State
from stages.text import explode, join

COLUMNS: Final = ("text", "prompt", "completion", "rejected", "reasoning")
"""Plain text columns that are cleaned; of messages, `content` and `reasoning` are."""

Flags = npt.NDArray[np.bool_]
Step = tuple[str, Callable[[pa.StringArray], pa.StringArray]]

_CONTROL: Final = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x{9f}]"
_ZERO_WIDTH: Final = r"[\x{200b}-\x{200d}\x{2060}\x{feff}]"


class Clean(Stage):
    """Compose characters (NFC), end lines with LF, strip control characters and white space at line ends.

    Newlines at the end of a text stay: code prompts need them. Zero-width characters stay unless asked otherwise:
    emoji and several scripts need the joiners.
    """

    name: ClassVar[str] = "clean"
    reads: ClassVar[tuple[str, ...]] = (*COLUMNS, "messages")
    runs_in: ClassVar[RunsIn] = "thread"
    libraries: ClassVar[tuple[str, ...]] = ("pyarrow",)
    rewrites: ClassVar[bool] = True

    nfc: bool = Field(True, description="Compose characters (Unicode NFC).")
    newlines: bool = Field(True, description="CRLF and lone CR become LF.")
    control: bool = Field(True, description="Strip control characters but tab and newline.")
    trailing: bool = Field(True, description="Strip blanks and tabs at the ends of lines.")
    zero_width: bool = Field(False, description="Strip zero-width spaces, joiners and byte order marks.")

    @model_validator(mode="after")
    def _some_step(self) -> Self:
        if not list(self._steps()):
            raise ValueError("every step is switched off")
        return self

    def rewrite(self, batch: pa.RecordBatch, state: State) -> pa.RecordBatch:
        """The cleaned columns, and `rewrite_status`: `changed: control, nfc` or `unchanged`."""
        steps = list(self._steps())
        changed = np.zeros((len(steps), batch.num_rows), dtype=np.bool_)
        columns: dict[str, pa.Array] = {}
        for name in COLUMNS:
            columns[name], hits = _apply(steps, batch[name])
            changed |= hits
        columns["messages"], hits = _apply_to_messages(steps, batch["messages"])
        columns["rewrite_status"] = _status([name for name, _ in steps], changed | hits)
        return pa.RecordBatch.from_pydict(columns)

    def _steps(self) -> Iterator[Step]:
        """The steps in an order that leaves nothing for a second run: what is stripped may part a letter's pieces."""
        if self.newlines:
            yield "newlines", lambda texts: pc.replace_substring_regex(texts, r"\r\n?", "\n")
        if self.control:
            yield "control", lambda texts: pc.replace_substring_regex(texts, _CONTROL, "")
        if self.zero_width:
            yield "zero_width", lambda texts: pc.replace_substring_regex(texts, _ZERO_WIDTH, "")
        if self.nfc:
            yield "nfc", _compose
        if self.trailing:
            yield "trailing", lambda texts: pc.replace_substring_regex(texts, r"(?m)[ \t]+$", "")


def _compose(texts: pa.StringArray) -> pa.StringArray:
    return texts if pc.all(pc.string_is_ascii(texts), min_count=0).as_py() else pc.utf8_normalize(texts, "NFC")


def _apply(steps: list[Step], texts: pa.StringArray) -> tuple[pa.StringArray, Flags]:
    """The texts after all steps, and which step changed which of them, shape (steps, texts)."""
    changed = np.zeros((len(steps), len(texts)), dtype=np.bool_)
    for k, (_, step) in enumerate(steps):
        after = step(texts)
        changed[k] = pc.fill_null(pc.not_equal(texts, after), False).to_numpy(zero_copy_only=False)
        texts = after
    return texts, changed


def _apply_to_messages(steps: list[Step], messages: pa.ListArray) -> tuple[pa.ListArray, Flags]:
    flat, parents = explode(messages)
    fields = {field.name: flat.field(field.name) for field in flat.type}
    changed = np.zeros((len(steps), len(messages)), dtype=np.bool_)
    for name in ("content", "reasoning"):
        fields[name], hits = _apply(steps, fields[name])
        for k, row_hits in enumerate(hits):
            changed[k, parents[row_hits]] = True
    values = pa.StructArray.from_arrays(list(fields.values()), fields=list(flat.type))
    offsets = np.zeros(len(messages) + 1, dtype=np.int32)
    np.cumsum(np.bincount(parents, minlength=len(messages)), out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), values, type=messages.type, mask=messages.is_null()), changed


def _status(names: list[str], changed: Flags) -> pa.StringArray:
    null = pa.scalar(None, pa.string())
    parts = [pc.if_else(pa.array(hits), name, null) for name, hits in zip(names, changed, strict=True)]
    changes = pc.binary_join_element_wise("changed: ", join(parts, ", "), "")
    return pc.coalesce(changes, pa.array(["unchanged"] * changed.shape[1], pa.string()))
