"""What worker processes run. Kept together so that a fork server imports it once for all of them."""

from pipelines.export import write_shard
from pipelines.ingest import ingest_chunk
from pipelines.rewriting import rewrite_part
from pipelines.scoring import score_task

__all__ = ["ingest_chunk", "rewrite_part", "score_task", "write_shard"]
