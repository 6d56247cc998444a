"""The decision of `dedup` alone, at any size: `python bench/dedup_scale.py ROWS ... [--words 24 48] [--work DIR]`.

Documents of ROWS are cut from real text, 30% are edited copies; they and their scores are written to Parquet once, a
block at a time. A process of its own then decides over these files, as the stage does in a run, and writes reasons
and details a batch at a time. Reported: seconds of processor and wall, and the peaks of anonymous and of all resident
memory of that process, sampled twenty times a second.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.executor import LocalExecutor
from schemas.record import RECORD
from stages.contract import IntArray
from stages.dedup import Dedup
from stages.text import columns_for

BLOCK = 16_384


def documents(count: int, shortest: int, longest: int) -> Iterator[list[str]]:
    """Blocks of documents: windows of real text with a quarter of the words replaced, 30% copies with up to 6%."""
    from dedup_corpus import real

    words = [word for text in real() for word in text.split() if len(word) < 30]
    rng = np.random.default_rng(0)
    for start in range(0, count, BLOCK):
        n = min(BLOCK, count - start)
        family = np.arange(start, start + n)  # an original is its own family
        copy = rng.random(n) < (0.3 if start else 0.0)
        family[copy] = rng.integers(0, max(start, 1), int(copy.sum()))
        share = np.where(copy, rng.choice([0, 0.004, 0.01, 0.03, 0.06], n), 0.0)
        yield [_document(words, int(f), float(s), shortest, longest, start + k)
               for k, (f, s) in enumerate(zip(family, share, strict=True))]  # fmt: skip


def _document(words: list[str], family: int, share: float, shortest: int, longest: int, row: int) -> str:
    """The text of a family, made from its number alone, with a share of words replaced by what `row` says."""
    state = (family * 0x9E3779B97F4A7C15 + 1) % (1 << 64)
    length = shortest + state % (longest - shortest + 1)
    at = (state >> 16) % (len(words) - length)
    text = words[at : at + length]
    for k in range(0, length, 4):
        state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        text[min(k + (state >> 33) % 4, length - 1)] = words[(state >> 20) % len(words)]
    for k in range(round(share * length + (row % 10) / 10 - 0.5) if share else 0):
        text[(row * 7 + k * 13) % length] = words[(row * 31 + k) % len(words)]
    return " ".join(text)


def prepare(folder: Path, rows: int, shortest: int, longest: int) -> None:
    """Write `text.parquet` and `scores.parquet`."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "done").exists():
        return
    stage, writers = Dedup(), dict[str, pq.ParquetWriter]()
    for block in documents(rows, shortest, longest):
        empty = {name: pa.nulls(len(block), RECORD.field(name).type) for name in columns_for("text")}
        batch = pa.record_batch({**empty, "text": pa.array(block, pa.string())})
        tables = {"text": pa.table({"text": batch["text"]}), "scores": pa.Table.from_batches([stage.score(batch, {})])}
        for name, table in tables.items():
            if name not in writers:
                writers[name] = pq.ParquetWriter(folder / f"{name}.parquet", table.schema, compression="zstd")
            writers[name].write_table(table)
    for writer in writers.values():
        writer.close()
    (folder / "done").touch()


@dataclass
class GroupView:
    """A row group of the texts or of the scores."""

    path: Path
    group: int
    columns: tuple[str, ...]
    rows: int

    def __len__(self) -> int:
        return self.rows

    def read(self, rows: IntArray) -> pa.Table:
        """Rows by position; record columns other than the text are null."""
        with pq.ParquetFile(self.path) as file:
            stored = [name for name in self.columns if name in file.schema_arrow.names]
            table = file.read_row_group(self.group, columns=stored).take(pa.array(rows))
        empty = {name: pa.nulls(len(rows), RECORD.field(name).type) for name in self.columns if name not in stored}
        return pa.table({name: empty.get(name, table[name] if name in stored else None) for name in self.columns})


class FilePool:
    """Texts and scores in two Parquet files with equal row groups, as the pool that `decide` sees.

    Its tasks run in the threads of an executor, as in a run.
    """

    shared = None

    def __init__(self, folder: Path, executor: LocalExecutor) -> None:
        self.map = partial(executor.map, runs_in="thread")
        self._files = {name: folder / f"{name}.parquet" for name in ("text", "scores")}
        with pq.ParquetFile(self._files["text"]) as file:
            self._rows, self._groups = file.metadata.num_rows, file.metadata.num_row_groups

    def __len__(self) -> int:
        return int(self._rows)

    def scores(self, columns: Sequence[str], rows: npt.NDArray[np.bool_] | None = None) -> Iterator[pa.RecordBatch]:
        """Scores, all or those marked; `record_id` and `source` are made on the spot."""
        with pq.ParquetFile(self._files["scores"]) as file:
            for group in range(self._groups):
                start = group * BLOCK
                stored = [name for name in columns if name not in ("record_id", "source")]
                count = file.metadata.row_group(group).num_rows
                table = file.read_row_group(group, columns=stored) if stored else pa.table({})
                arrays = {name: table[name] for name in stored}
                if "source" in columns:
                    arrays["source"] = pa.repeat("bench", count)
                if "record_id" in columns:
                    arrays["record_id"] = pa.array([f"{row:032x}" for row in range(start, start + count)])
                whole = pa.table({name: arrays[name] for name in columns})
                mask = None if rows is None else pa.array(rows[start : start + count])
                yield from (whole if mask is None else whole.filter(mask)).combine_chunks().to_batches()

    def table(self, columns: Sequence[str]) -> pa.Table:
        """Scores as one table."""
        return pa.Table.from_batches(list(self.scores(columns)))

    def views(self, columns: Sequence[str]) -> Iterator[GroupView]:
        """Row groups of scores or of texts."""
        path = self._files["scores" if "signature" in columns else "text"]
        for group in range(self._groups):
            yield GroupView(path, group, tuple(columns), min(BLOCK, self._rows - group * BLOCK))


class Watch(threading.Thread):
    """The peaks of this process' memory in MB: anonymous, and all that is resident (file pages included)."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.anonymous, self.resident, self.done = 0, 0, False

    def run(self) -> None:
        """Sample until told to stop."""
        while not self.done:
            lines = Path("/proc/self/status").read_text().splitlines()
            sizes = {line.split(":")[0]: int(line.split()[1]) >> 10 for line in lines if line.startswith("Rss")}
            sizes["VmRSS"] = sum(sizes.values())
            self.anonymous, self.resident = max(self.anonymous, sizes["RssAnon"]), max(self.resident, sizes["VmRSS"])
            time.sleep(0.05)


def decide(folder: Path) -> dict[str, Any]:
    """Decide over the files and write the decisions."""
    watch = Watch()
    watch.start()
    started, used = time.perf_counter(), time.process_time()
    with LocalExecutor() as executor:
        pool = FilePool(folder, executor)
        decisions: Any = Dedup().decide(pool)  # type: ignore[arg-type]
    decided = time.process_time() - used
    schema = pa.schema(
        [("keep", pa.bool_()), ("reason", pa.string()), ("score", pa.float64()), ("detail", pa.string())]
    )
    with pq.ParquetWriter(folder / "decisions.parquet", schema, compression="zstd") as writer:
        for start in range(0, len(pool), BLOCK):
            part = slice(start, start + BLOCK)
            columns = [pa.array(decisions.keep[part]), decisions.reason.slice(start, BLOCK),
                       pa.array(decisions.score[part]), decisions.detail.slice(start, BLOCK)]  # fmt: skip
            writer.write_table(pa.table(columns, schema=schema))
    watch.done = True
    return {
        "rows": len(pool), "kept": int(decisions.keep.sum()), "wall_s": round(time.perf_counter() - started, 1),
        "decide_cpu_s": round(decided, 1), "cpu_s": round(time.process_time() - used, 1),
        "anonymous_mb": watch.anonymous, "resident_mb": watch.resident,
    }  # fmt: skip


def main() -> None:
    """Prepare and decide for every size; one JSON line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=int, nargs="+")
    parser.add_argument("--words", type=int, nargs=2, default=[24, 48])
    parser.add_argument("--work", type=Path, default=Path("/tmp/curatrix-bench-dedup"))
    parser.add_argument("--decide", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    for rows in chosen.rows:
        folder = chosen.work / f"decide-{rows}"
        if chosen.decide:
            print(json.dumps(decide(folder)), flush=True)
            continue
        prepare(folder, rows, *chosen.words)
        subprocess.run([sys.executable, __file__, str(rows), "--work", str(chosen.work), "--decide"], check=True)


if __name__ == "__main__":
    main()
