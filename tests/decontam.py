"""Runs of `decontaminate` over records in memory, and the same comparison spelled out in plain Python."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import regex
from pools import MemoryPool, Row, batches, records
from reading import rows_of

from pipelines.readers import RawRow
from schemas.adapters import ADAPTERS
from schemas.batch import Placed, to_batch
from stages.contract import Decisions
from stages.decontaminate import Decontaminate
from stages.dedup.chars import WORDS


class ItemPool(MemoryPool):
    """A scored pool, and the evaluation items."""

    def __init__(self, table: pa.Table, scores: pa.Table, size: int, items: pa.Table) -> None:
        super().__init__(table, scores, size)
        self.inputs = {"against": MemoryPool(items)}


def stage(**parameters: Any) -> Decontaminate:
    """The stage with one evaluation file, whose records `score` is given."""
    return Decontaminate(against=("items.jsonl",), **parameters)


def items(rows: Sequence[Row]) -> pa.Table:
    """Records of evaluation items from `items.jsonl`."""
    full = [
        {"kind": "sft", "origin": f"items.jsonl#{n}", "source_id": f"item/{n}", **row} for n, row in enumerate(rows)
    ]
    return records(full, "evals")


def score(it: Decontaminate, table: pa.Table, against: pa.Table, size: int = 1000) -> ItemPool:
    """Fit on the items and score the table."""
    state = it.fit(MemoryPool(table), {"against": MemoryPool(against)})
    read = table.select(list(it.reads))
    parts = [it.score(batch, state) for batch in batches(read, size)]
    return ItemPool(table, pa.Table.from_batches(parts), size, against)


def run(it: Decontaminate, table: pa.Table, against: pa.Table, size: int = 1000) -> Decisions:
    """Score and decide, and check the shape of the answer."""
    decisions = it.decide(score(it, table, against, size))
    for column in (decisions.keep, decisions.reason, decisions.score, decisions.related_id, decisions.detail):
        assert column is not None
        assert len(column) == table.num_rows
    return decisions


def details(decisions: Decisions) -> list[dict[str, Any] | None]:
    """The details as objects."""
    assert decisions.detail is not None
    return [None if text is None else json.loads(text) for text in decisions.detail]


def file_records(path: Path, limit: int | None = None) -> pa.Table:
    """Canonical records of a gzipped JSONL file."""
    values = [row.value for row in rows_of(path) if isinstance(row, RawRow)][:limit]
    adapter = next(each for each in ADAPTERS if each.matches(values[0]))
    placed = [Placed(str(n), draft) for n, value in enumerate(values) for draft in adapter.read(value)]
    return pa.Table.from_batches([to_batch(placed, "file", path.name)])


@lru_cache(maxsize=1000)
def words_of(text: str) -> list[str]:
    """The words of a text, by regular expression."""
    found: list[str] = regex.findall(WORDS, text.lower())
    return found


def share(item: str, text: str, size: int, common: Mapping[tuple[str, ...], int], most: int) -> float:
    """Share of the telling words of `item` that stand in runs of `size` words which `text` holds too."""
    words, other = words_of(item), runs(text, size)
    told, found = set[int](), set[int]()
    for start in range(len(words) - size + 1):
        run_ = tuple(words[start : start + size])
        if common[run_] > most or not telling(run_):
            continue
        told.update(range(start, start + size))
        if run_ in other:
            found.update(range(start, start + size))
    return len(found) / len(told) if told else 0.0


@lru_cache(maxsize=1000)
def runs(text: str, size: int) -> set[tuple[str, ...]]:
    """All runs of words."""
    words = words_of(text)
    return {tuple(words[start : start + size]) for start in range(len(words) - size + 1)}


@lru_cache(maxsize=100_000)
def telling(run_: tuple[str, ...]) -> bool:
    """Whether three in ten words of a run have letters."""
    return sum(not regex.match(r"[0-9\p{S}%&#@*/\\-]", word) for word in run_) >= 0.3 * len(run_)
