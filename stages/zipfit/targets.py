"""Targets: texts that the selected rows should resemble, one or several sets of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from schemas.errors import RecipeError
from stages.contract import Pool, RecipePath, State
from stages.text import On, columns_for, render
from stages.zipfit.packed import Packed, pack_strings

Floats = npt.NDArray[np.float64]


class TargetSet(BaseModel):
    """One file of target rows and its share in the target, in proportion to the other sets' weights.

    The share does not depend on how many rows the set has: each of them counts weight / rows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: RecipePath
    weight: float = Field(1.0, gt=0)


def _as_set(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str | dict) else value


TargetSets = Annotated[
    tuple[Annotated[TargetSet, BeforeValidator(_as_set)], ...], Field(min_length=1), BeforeValidator(_as_list)
]
"""`a.jsonl`, or `[a.jsonl, {path: b.jsonl, weight: 2}]`"""


class Targets(NamedTuple):
    """All target texts, their ids, and weights that sum to one: each set's share, spread evenly over its rows."""

    texts: Packed
    ids: tuple[str, ...]
    weights: Floats


def target_sources(sets: Sequence[TargetSet]) -> dict[str, tuple[str, ...]]:
    """The target files by role, for `Stage.sources`."""
    return {_role(number): (item.path,) for number, item in enumerate(sets)}


def read_targets(sets: Sequence[TargetSet], inputs: Mapping[str, Pool], on: On) -> Targets:
    """The texts of every set. Raises RecipeError for a set without any."""
    texts: list[str] = []
    ids: list[str] = []
    weights: list[float] = []
    total = sum(item.weight for item in sets)
    for number, item in enumerate(sets):
        rows = list(_rows(inputs[_role(number)], on))
        if not rows:
            raise RecipeError(f"target {item.path} has no row with a text: nothing to compare with")
        ids.extend(key for key, _ in rows)
        texts.extend(text for _, text in rows)
        weights.extend([item.weight / total / len(rows)] * len(rows))
    return Targets(pack_strings(texts), tuple(ids), np.array(weights))


def _role(number: int) -> str:
    return f"target{number}"


def _rows(pool: Pool, on: On) -> Iterator[tuple[str, str]]:
    for batch in pool.batches(["record_id", *columns_for(on)]):
        found = zip(batch["record_id"].to_pylist(), render(batch, on).to_pylist(), strict=True)
        yield from ((key, text) for key, text in found if text)


def to_state(targets: Targets) -> dict[str, npt.NDArray[Any]]:
    """Targets as the arrays of a fitted state."""
    return {
        "target_data": targets.texts.data,
        "target_offsets": targets.texts.offsets,
        "target_weights": targets.weights,
        "target_ids": np.array(targets.ids, np.str_),
    }


def from_state(state: State) -> Targets:
    """The inverse of `to_state`."""
    texts = Packed(state["target_data"], state["target_offsets"])
    return Targets(texts, tuple(state["target_ids"].tolist()), state["target_weights"])
