"""What did not fit the model's context, of the pool and of the targets: counted once, told in a run's warnings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stages.contract import IntArray, State

if TYPE_CHECKING:
    from stages.influence.batches import Batches

TARGETS: Final = "target_cuts"
"""Column that says the same of the targets in every row: rows, those cut, and the tokens cut off, target by target.

A decision sees columns, not what was fitted."""
LOST: Final = "lost"
"""Column of the tokens that a row has beyond the context."""


def counted(targets: Sequence[Batches]) -> dict[str, npt.NDArray[Any]]:
    """For a fitted state: [targets, 3]; see `TARGETS`."""
    found = [(len(rows), int(rows.truncated.sum()), int(rows.lost.sum())) for rows in targets]
    return {TARGETS: np.array(found, np.int64).reshape(-1, 3)}


def columns(rows: Batches, state: State) -> Mapping[str, pa.Array]:
    """`LOST` and `TARGETS` of scored rows; the latter is empty for a stage without targets."""
    said = np.asarray(state.get(TARGETS, np.zeros(0)), np.int64).ravel().tolist()
    return {LOST: pa.array(rows.lost), TARGETS: pa.array([said] * len(rows), pa.list_(pa.int64()))}


class Cuts(NamedTuple):
    """What was read of the two columns."""

    lost: IntArray
    """Of the rows that were scored."""
    targets: IntArray
    """[targets, 3]; none where no row was scored."""


def read(table: pa.Table) -> Cuts:
    """From scored rows, which have both columns."""
    said = table[TARGETS][0].as_py() if table.num_rows else []
    return Cuts(table[LOST].to_numpy(), np.array(said, np.int64).reshape(-1, 3))


def notes(cuts: Cuts, targets: Sequence[str]) -> list[str]:
    """Warnings where anything was cut; `targets` are the paths, in order."""
    told = [(f"{int((cuts.lost > 0).sum()):,} scored rows", int(cuts.lost.sum()))]
    for path, (rows, cut, tokens) in zip(targets, cuts.targets.tolist(), strict=False):
        told.append((f"{cut:,} of {rows:,} rows of target {Path(path).name}", tokens))
    return [
        f"{which} are longer than the model's context; the {tokens:,} tokens after it are not looked at"
        for which, tokens in told
        if tokens
    ]
