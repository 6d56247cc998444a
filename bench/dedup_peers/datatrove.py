"""datatrove: its four MinHash steps with two workers. Arguments: IN OUT THRESHOLD (which it cannot be given)."""

import sys
import tempfile
from pathlib import Path

sys.path.pop(0)  # this folder would hide the library of the same name

import pyarrow as pa
import pyarrow.parquet as pq
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers import ParquetWriter


def main(source: str, target: str) -> None:
    """Two shards in, one table out. 14 bands of 8 rows, its default, lean to a similarity of about 0.72."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        table = pq.read_table(source)
        table = table.append_column("id", pa.array([str(k) for k in range(table.num_rows)]))
        (work / "in").mkdir()
        half = table.num_rows // 2
        pq.write_table(table.slice(0, half), work / "in/0.parquet")
        pq.write_table(table.slice(half), work / "in/1.parquet")
        config = MinhashConfig(n_grams=5)
        reader = ParquetReader(str(work / "in"))
        steps = [
            ([reader, MinhashDedupSignature(str(work / "sig"), config=config)], 2),
            ([MinhashDedupBuckets(str(work / "sig"), str(work / "buckets"), config=config)], config.num_buckets),
            ([MinhashDedupCluster(str(work / "buckets"), str(work / "remove"), config=config)], 1),
            ([reader, MinhashDedupFilter(str(work / "remove")), ParquetWriter(str(work / "out"))], 2),
        ]
        for number, (pipeline, tasks) in enumerate(steps):
            LocalPipelineExecutor(pipeline, tasks=tasks, workers=2, logging_dir=str(work / f"log{number}")).run()
        parts = [pq.read_table(path, columns=["text", "id"]) for path in sorted((work / "out").glob("*.parquet"))]
        pq.write_table(pa.concat_tables(parts), target)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
