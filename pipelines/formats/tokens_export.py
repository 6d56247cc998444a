"""Token shards of a run: the binary files that trainers memory-map, beside a table that names each one's record."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.formats.base import Shaped
from pipelines.formats.chat_mask import Unstable
from pipelines.formats.tokens import COLUMNS, load_tokenizer, tokenizer_digest, tokens_of
from pipelines.formats.tokens_files import Layout, ShardWriter, shard_writer

DOCUMENTS: Final = pa.schema([("record_id", pa.string()), ("n_tokens", pa.int32()), ("n_loss_tokens", pa.int32())])
_DESCRIBE: Final[dict[Layout, str]] = {
    "tokens": "Token shards for Megatron: `data/{split}.bin` and `.idx`, the loss mask in `data/{split}-mask.bin` and "
    "`.idx`; the Parquet files name the record of each sequence",
    "nanoset": "Token shards as datatrove writes them, for nanotron: `data/{split}.ds` with `.ds.index` and the loss "
    "mask in `.ds.loss`; the Parquet files name the record of each sequence",
}


@dataclass(frozen=True)
class TokenExport:
    """One export to shards, called like a Format; counts tokens as it goes."""

    name: Layout
    tokenizer: Any
    folder: Path
    when_unstable: Unstable
    counted: dict[str, dict[str, int]] = field(default_factory=dict)
    schema: pa.Schema = DOCUMENTS
    columns: tuple[str, ...] = COLUMNS

    @classmethod
    def open(cls, layout: Layout, tokenizer: Path, when_unstable: Unstable) -> TokenExport:
        """Load the tokenizer. Raises RecipeError where the folder holds none."""
        return cls(layout, load_tokenizer(tokenizer), tokenizer, when_unstable)

    @property
    def describe(self) -> str:
        """What the card says."""
        return _DESCRIBE[self.name]

    def __call__(self, table: pa.Table, split: str = "train", start: int = 0) -> Shaped:
        """Sequences (schema TOKENS) of a table of canonical records."""
        return Shaped(*tokens_of(table, self.tokenizer, self.when_unstable))

    def shard(self, prefix: Path) -> AbstractContextManager[ShardWriter]:
        """An open shard."""
        return shard_writer(self.name, prefix, len(self.tokenizer), self.folder.name)

    def documents(self, tables: Iterator[pa.Table], sink: ShardWriter, split: str) -> Iterator[pa.Table]:
        """Write sequences to a shard; what is left of each is its line in the table of documents."""
        total = self.counted.setdefault(split, {"tokens": 0, "loss_tokens": 0})
        for table in tables:
            sink.write(table)
            lengths = pc.list_value_length(table["ids"])
            losses = pa.chunked_array([_sums(chunk) for chunk in table["mask"].chunks], pa.int32())
            total["tokens"] += pc.sum(lengths).as_py() or 0
            total["loss_tokens"] += pc.sum(losses).as_py() or 0
            yield pa.table([table["record_id"], lengths.cast(pa.int32()), losses], schema=DOCUMENTS)

    def told(self) -> dict[str, Any]:
        """What `export.json` says about the tokens."""
        named = {"folder": self.folder.name, "digest": tokenizer_digest(self.tokenizer), "ids": len(self.tokenizer)}
        return {"tokenizer": named, "tokens": self.counted}


def _sums(masks: pa.ListArray) -> pa.Array:
    """The sum of each list."""
    running = pa.concat_arrays([pa.array([0], pa.int64()), pc.cumulative_sum(masks.flatten().cast(pa.int64()))])
    ends = pc.cumulative_sum(masks.value_lengths().cast(pa.int64()))
    starts = pc.subtract(ends, masks.value_lengths().cast(pa.int64()))
    return pc.subtract(running.take(ends), running.take(starts)).cast(pa.int32())
