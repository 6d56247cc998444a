"""Ingest speed, side by side in one run: ours, `datasets`' JSON loader, and bare orjson as the floor.

    python bench/ingest.py FILE.jsonl [--repeat 5]

All single-process, JSON Lines in, Parquet out (bare orjson only parses). Prints MB of input per CPU second (median)
and the ratio to `datasets`.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import datasets
import orjson

from pipelines.ingest import IngestTask, Reading, ingest_chunk
from pipelines.intake import sample_values
from pipelines.readers import read_chunks, sniff
from schemas.adapters import detect

datasets.disable_progress_bars()


def ours(path: Path, folder: Path) -> None:
    """Decode, detect, adapt, hash, validate and write canonical records."""
    sniffed = sniff(str(path))
    name = ""
    for index, chunk in enumerate(read_chunks(str(path), sniffed)):
        name = name or detect(sample_values(chunk)).adapter
        ingest_chunk(IngestTask(Reading("bench", path.name, name, {}, 64 << 20), chunk, index, folder / "pool"))


def peer(path: Path, folder: Path) -> None:
    """`datasets`: load JSON as it is and write it as Parquet, unchanged."""
    loaded = datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=str(folder))
    loaded.to_parquet(str(folder / "out.parquet"))


def floor(path: Path, folder: Path) -> None:
    """Only parse."""
    for line in path.read_bytes().split(b"\n"):
        if line:
            orjson.loads(line)


def cpu_seconds(work: Callable[[Path, Path], None], path: Path) -> float:
    """CPU seconds of this process for one run in an empty folder."""
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        start = time.process_time()
        work(path, folder)
        return time.process_time() - start
    finally:
        shutil.rmtree(folder)


def main() -> None:
    """Run every contender in turn, several times, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    megabytes = options.file.stat().st_size / 1e6
    contenders = {"curatrix": ours, "datasets": peer, "orjson.loads": floor}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(options.repeat):
        for name, work in contenders.items():
            times[name].append(cpu_seconds(work, options.file))
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, seconds in medians.items():
        print(f"{name:14} {megabytes / seconds:8.1f} MB/s   {medians['datasets'] / seconds:5.2f} x datasets")


if __name__ == "__main__":
    main()
