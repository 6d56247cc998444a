"""Writing `data/`: the records still in, split and cut into files of a fixed number of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.executor import Executor
from pipelines.files import ROW_GROUP, table_writer
from pipelines.formats import as_messages
from pipelines.ids import Ids
from pipelines.pool import Part, RunPool
from pipelines.recipe import Export
from schemas.hashing import digest
from schemas.record import RECORD
from schemas.room import computed
from stages.contract import IntArray


@dataclass(frozen=True)
class ShardTask:
    """One file of `data/`: rows of some parts, in order."""

    path: Path
    pieces: tuple[tuple[Part, IntArray], ...]
    format: str

    @property
    def rows(self) -> int:
        """How many there are."""
        return sum(len(piece) for _, piece in self.pieces)


def plan_export(pool: RunPool, rows: IntArray, export: Export, seed: int, folder: Path) -> dict[str, list[ShardTask]]:
    """The files of every split that has any of `rows` (run positions); their number is known from the beginning."""

    def numbers(part: slice) -> IntArray:
        return split_of(pool.content_hashes[rows[part]], export.splits, seed)

    splits = computed(len(rows), np.int64, numbers)
    plan: dict[str, list[ShardTask]] = {}
    for number, name in enumerate(["train", *export.splits]):
        chosen = rows[splits == number]
        pieces = [chosen[start : start + export.rows_per_file] for start in range(0, len(chosen), export.rows_per_file)]
        if pieces:
            paths = [folder / f"{name}-{index:05d}-of-{len(pieces):05d}.parquet" for index in range(len(pieces))]
            plan[name] = [
                ShardTask(path, tuple((pool.parts[number], at) for number, at in pool.by_part(piece)), export.format)
                for path, piece in zip(paths, pieces, strict=True)
            ]
    return plan


def planned_rows(plan: dict[str, list[ShardTask]]) -> dict[str, int]:
    """The rows of every split."""
    return {name: sum(task.rows for task in tasks) for name, tasks in plan.items()}


def split_of(hashes: Ids, splits: Mapping[Any, float], seed: int) -> IntArray:
    """Split number of each content (0 is train), by hash: equal content always lands in the same split."""
    salt = np.frombuffer(digest(f"split:{seed}".encode())[:8], "<u8")[0]
    mixed = (hashes["lo"].astype(np.uint64) ^ salt) * np.uint64(0x9E3779B97F4A7C15)
    position = (mixed >> np.uint64(11)).astype(np.float64) / 2.0**53
    edges = np.cumsum(list(splits.values()))
    number = np.searchsorted(edges, position, side="right") + 1
    return np.where(number > len(splits), 0, number).astype(np.int64)


def write_data(plan: dict[str, list[ShardTask]], folder: Path, executor: Executor) -> Iterator[int]:
    """Write the files of `folder` that are not there yet; yields the rows of each file as it is done."""
    tasks = [task for shards in plan.values() for task in shards]
    for path in {*folder.glob("*.parquet")} - {task.path for task in tasks}:
        path.unlink()  # of an interrupted attempt that kept another number of rows
    yield from executor.map(write_shard, tasks)


def write_shard(task: ShardTask) -> int:
    """Write one file and return its rows. A file that is there is whole; it is left alone if it has these records."""
    if task.path.exists() and _holds(task):
        return task.rows
    with table_writer(task.path, RECORD, bloom="record_id") as writer:
        for part, piece in task.pieces:
            for start in range(0, len(piece), ROW_GROUP):
                writer.write(_formatted(part.read(RECORD.names, piece[start : start + ROW_GROUP]), task.format))
    return task.rows


def _holds(task: ShardTask) -> bool:
    """Whether the file was made for the same records: an interrupted attempt may have kept others."""
    names = ["record_id", "content_hash"]
    wanted = pa.concat_tables([part.read(names, piece) for part, piece in task.pieces])
    return bool(pq.read_table(task.path, columns=names).cast(wanted.schema).equals(wanted))


def _formatted(table: pa.Table, name: str) -> pa.Table:
    return as_messages(table) if name == "messages" else table
