"""The rows of a run as token files on disk: made once, memory-mapped by every rank.

One Arrow file per row group of the run's Parquet, so that ranks share the work, a killed preparation goes on where it
was, and the order of the sequences does not depend on how many ranks there are.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from pipelines.files import file_digest, replacing
from pipelines.formats.chat_mask import Unstable
from pipelines.formats.tokens import COLUMNS, TOKENS, tokenizer_digest, tokens_of
from pipelines.publish import finished_manifest
from schemas.errors import RecipeError, RunError
from schemas.lineage import DATA, MANIFEST

_VERSION = "1"
_UNTOLD = b"untold"


@dataclass(frozen=True)
class Source:
    """Which rows a model learns from. `identity` is equal for equal data files."""

    directory: Path
    name: str
    run_fingerprint: str
    manifest_digest: str
    identity: str

    def trace(self) -> dict[str, str]:
        """What a checkpoint says about its rows."""
        return {
            "name": self.name,
            "run_fingerprint": self.run_fingerprint,
            "manifest_digest": self.manifest_digest,
            "data_digest": self.identity,
            "directory": str(self.directory),
        }


class Unit(NamedTuple):
    """A row group of a data file."""

    path: Path
    group: int


def open_source(directory: Path) -> Source:
    """The run in `directory`. RecipeError where there is none; RunError where its files do not fit its manifest."""
    path, manifest = directory / MANIFEST, finished_manifest(directory)
    files = [file for file in manifest["files"] if file["path"].startswith(f"{DATA}/")]
    for file in files:
        found = directory / file["path"]
        if not found.is_file() or found.stat().st_size != file["bytes"]:
            raise RunError(f"{found} is not the file that {path} describes; run the recipe again")
    said = json.dumps(sorted((file["path"], file["digest"]) for file in files))
    identity = hashlib.sha256(said.encode()).hexdigest()[:32]
    return Source(directory, manifest["name"], manifest["run_fingerprint"], file_digest(path), identity)


def units(source: Source, split: str) -> list[Unit]:
    """The row groups of a split, in order. RecipeError where the run has no such split."""
    paths = sorted((source.directory / DATA).glob(f"{split}-*.parquet"))
    if not paths:
        raise RecipeError(f"{source.directory} has no split '{split}'")
    return [Unit(path, group) for path in paths for group in range(pq.read_metadata(path).num_row_groups)]


def tokens_key(source: Source, tokenizer: Any, split: str, when_unstable: Unstable) -> str:
    """What the token files depend on, as a folder's name."""
    said = json.dumps([_VERSION, source.identity, tokenizer_digest(tokenizer), split, when_unstable])
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def write_tokens(
    chosen: Sequence[Unit], folder: Path, tokenizer: Any, when_unstable: Unstable, rank: int = 0, ranks: int = 1
) -> None:
    """Write the token files of every `ranks`-th unit that are not there yet, from unit number `rank` on."""
    for number in range(rank, len(chosen), ranks):
        path = _file(folder, number)
        if not path.exists():
            _write(chosen[number], path, tokenizer, when_unstable)


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.arrow"


def _write(unit: Unit, path: Path, tokenizer: Any, when_unstable: Unstable) -> None:
    with pq.ParquetFile(unit.path, memory_map=True) as file:
        done = tokens_of(file.read_row_group(unit.group, ["record_id", *COLUMNS]), tokenizer, when_unstable)
    kinds = Counter(one.kind for one in done.untold)
    reasons = {one.kind: one.why for one in done.untold}
    told = {kind: {"rows": rows, "why": reasons[kind]} for kind, rows in sorted(kinds.items())}
    schema = TOKENS.with_metadata({_UNTOLD: json.dumps(told).encode()})
    with replacing(path) as temporary, pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, schema) as out:
        out.write_table(done.table.combine_chunks().replace_schema_metadata(schema.metadata))


class Sequences:
    """Token files, memory-mapped. Sequence s has `lengths[s]` tokens."""

    def __init__(self, files: Sequence[Path]) -> None:
        """Open token files; their order is that of the sequences."""
        self.files = list(files)
        self.untold: dict[str, dict[str, Any]] = {}
        self._ids: list[npt.NDArray[np.int32]] = []
        self._masks: list[npt.NDArray[np.uint8]] = []
        self._starts: list[pa.ListArray] = []
        self._offsets: list[npt.NDArray[np.int64]] = []
        for path in files:
            self._open(path)
        counts = [len(offsets) - 1 for offsets in self._offsets]
        self._first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self.lengths = np.concatenate([np.zeros(0, np.int64), *(np.diff(offsets) for offsets in self._offsets)])

    def _open(self, path: Path) -> None:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        for kind, told in json.loads(reader.schema.metadata[_UNTOLD]).items():
            entry = self.untold.setdefault(kind, {"rows": 0, "why": told["why"]})
            entry["rows"] += told["rows"]
        for at in range(reader.num_record_batches):
            batch = reader.get_batch(at)
            self._ids.append(batch["ids"].values.to_numpy())
            self._masks.append(batch["mask"].values.to_numpy())
            self._starts.append(batch["starts"])
            self._offsets.append(batch["ids"].offsets.to_numpy().astype(np.int64))

    def __reduce__(self) -> tuple[Any, ...]:
        """Other processes map the files themselves."""
        return Sequences, (self.files,)

    def explained(self) -> list[str]:
        """One line for every kind of reason why rows of the run are not here."""
        return [f"{told['rows']:,} rows left out: {kind} ({told['why']})" for kind, told in self.untold.items()]

    def __len__(self) -> int:
        """Number of sequences."""
        return len(self.lengths)

    def read(self, sequence: int, start: int, end: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
        """Ids and mask of tokens `start` to `end` of a sequence, without a copy."""
        chunk = int(np.searchsorted(self._first, sequence, side="right")) - 1
        at = int(self._offsets[chunk][sequence - self._first[chunk]])
        return self._ids[chunk][at + start : at + end], self._masks[chunk][at + start : at + end]

    def starts(self, sequence: int) -> npt.NDArray[np.int64]:
        """Where a sequence may be split."""
        chunk = int(np.searchsorted(self._first, sequence, side="right")) - 1
        found = self._starts[chunk][int(sequence - self._first[chunk])].values
        return np.asarray(found.to_numpy(zero_copy_only=False), np.int64)

    def loss_tokens(self, source: npt.NDArray[np.int64], start: npt.NDArray[np.int64], end: npt.NDArray[np.int64]
                    ) -> npt.NDArray[np.int64]:  # fmt: skip
        """Tokens with a loss in each span: not its first one, which nothing predicts. Spans are sorted by sequence."""
        found = np.zeros(len(source), np.int64)
        edges = np.searchsorted(source, self._first)
        for chunk, mask in enumerate(self._masks):
            here = slice(edges[chunk], edges[chunk + 1])
            running = np.concatenate([[0], np.cumsum(mask, dtype=np.int64)])
            at = self._offsets[chunk][source[here] - self._first[chunk]]
            found[here] = running[at + end[here]] - running[np.minimum(at + start[here] + 1, at + end[here])]
        return found


def open_tokens(folder: Path, count: int) -> Sequences:
    """The token files of `count` units."""
    return Sequences([_file(folder, number) for number in range(count)])
