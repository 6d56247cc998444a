"""The index of everything in the evaluation sets that a record could repeat.

A target is one way to recognise one text of an item:

| how   | which texts                                           | what is indexed                                  |
|-------|-------------------------------------------------------|--------------------------------------------------|
| words | questions and answers of at least `short` words       | runs of `words` words; of `short` words where    |
|       |                                                       | the text has fewer than twice `words`            |
| near  | questions of at least `short` words                   | the 5-word shingles that `dedup` compares        |
| whole | questions shorter than that, or without a telling run | the hash of all its words                        |
| code  | solutions of code problems                            | runs of `code` code tokens, regardless of names  |

A run of words of which fewer than three in ten have letters tells nothing, and neither does one that occurs in more
than `common` texts of one file, a common phrase. Such runs are left out; so are the words that stand in no telling run
when the share of words is counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple, get_args

import numpy.typing as npt

from stages.decontaminate.grams import Grams, from_state, to_state
from stages.decontaminate.tokens import Bytes, Ints
from stages.dedup.shingles import Sets

How = Literal["words", "near", "whole", "code"]
HOWS: Final[tuple[How, ...]] = get_args(How)
WORDS, NEAR, WHOLE, CODE = range(4)
SHINGLE: Final = 5


class Sizes(NamedTuple):
    """Run lengths: words, words of short items, code tokens; and in how many texts a run may occur."""

    words: int
    short: int
    code: int
    common: int


class Targets(NamedTuple):
    """Per target: item, field, how, length of its runs, tokens. `rank[offsets[t] + k]` counts the telling tokens of
    target t before its token k."""

    items: Ints
    fields: Ints
    hows: Ints
    runs: Ints
    lengths: Ints
    rank: Ints
    offsets: Ints

    def telling(self) -> Ints:
        """Number of telling tokens of each target."""
        return self.rank[self.offsets[1:] - 1]


class Index(NamedTuple):
    """Everything that scoring needs."""

    targets: Targets
    words: Grams
    words_filter: Bytes
    whole: Grams
    code: Grams
    code_filter: Bytes
    near: Sets  # one per target, empty unless `near`


def to_arrays(index: Index) -> dict[str, npt.NDArray[Any]]:
    """An index as a fitted state."""
    grams = {name: to_state(getattr(index, name), name) for name in ("words", "whole", "code")}
    plain = {"words_filter": index.words_filter, "code_filter": index.code_filter}
    near = {"near_values": index.near.values, "near_offsets": index.near.offsets}
    targets = {f"target_{name}": array for name, array in index.targets._asdict().items()}
    return {**grams["words"], **grams["whole"], **grams["code"], **plain, **near, **targets}


def from_arrays(state: Mapping[str, npt.NDArray[Any]]) -> Index:
    """The inverse of `to_arrays`."""
    targets = Targets(*(state[f"target_{name}"] for name in Targets._fields))
    words_, whole, code = (from_state(state, name) for name in ("words", "whole", "code"))
    near = Sets(state["near_values"], state["near_offsets"])
    return Index(targets, words_, state["words_filter"], whole, code, state["code_filter"], near)
