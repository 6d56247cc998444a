"""Datasets of the `datasets` library: on the Hub, or a local folder (`save_to_disk` or one that it can load)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from pipelines.readers.columnar import batch_chunks
from pipelines.readers.digests import tree_digest
from pipelines.readers.rows import CHUNK_BYTES, Chunk
from pipelines.readers.values import PLAIN_BATCH
from schemas.errors import RecipeError, nearest
from schemas.hashing import digest

_SAVED: Final = ("state.json", "dataset_dict.json")


def read_dataset(
    dataset: str, config: str | None, split: str, base: Path = Path(), *, chunk_bytes: int = CHUNK_BYTES
) -> Iterator[Chunk]:
    """Chunks of one split, streamed and without running any code of the dataset; `base` is where local paths start.

    A folder that `Dataset.save_to_disk` wrote without splits is read whatever `split` says. Raises RecipeError
    where the dataset, its configuration or its split cannot be found.
    """
    loaded = _load(dataset, config, split, base).with_format("arrow")
    return batch_chunks(_batches(loaded), "datasets", chunk_bytes)


def dataset_digest(dataset: str, config: str | None, split: str, base: Path = Path()) -> str:
    """A hex digest that changes with the data: of all files of a local folder, of the commit on the Hub.

    Raises RecipeError where the dataset cannot be found.
    """
    folder = _local(dataset, base)
    content = tree_digest(str(folder)) if folder is not None else _commit(dataset).encode()
    return digest(b"\0".join((content, (config or "").encode(), split.encode()))).hex()


def _local(dataset: str, base: Path) -> Path | None:
    try:
        folder = Path(base, Path(dataset).expanduser())
        if folder.is_dir():
            return folder
    except (OSError, RuntimeError) as error:  # a name too long, no such user
        raise RecipeError(_not_found(dataset, error)) from error
    if dataset.startswith((".", "/", "~")):
        raise RecipeError(f"the dataset folder {folder} does not exist")
    return None


def _commit(dataset: str) -> str:
    from huggingface_hub import HfApi

    try:
        return str(HfApi().dataset_info(dataset).sha)
    except Exception as error:  # network, authentication, a name that does not exist
        raise RecipeError(_not_found(dataset, error)) from error


def _not_found(dataset: str, error: Exception) -> str:
    first = str(error).strip().splitlines()[:1]
    return f"cannot load the dataset '{dataset}': {first[0] if first else type(error).__name__}"


def _load(dataset: str, config: str | None, split: str, base: Path) -> Any:
    import datasets  # a second to import, and most runs do without

    folder = _local(dataset, base)
    try:
        if folder is not None and any((folder / name).is_file() for name in _SAVED):
            loaded: Any = datasets.load_from_disk(str(folder))
            return _split(loaded, split, dataset) if isinstance(loaded, dict) else loaded
        loaded = datasets.load_dataset(str(folder or dataset), config, streaming=True)
        return _split(loaded, split, dataset)
    except RecipeError:
        raise
    except Exception as error:  # the library and the network raise many kinds
        raise RecipeError(_not_found(dataset, error)) from error


def _split(loaded: Any, split: str, dataset: str) -> Any:
    if split not in loaded:
        raise RecipeError(f"the dataset '{dataset}' has no split '{split}': {nearest(split, map(str, loaded))}")
    return loaded[split]


def _batches(loaded: Any) -> Iterator[pa.RecordBatch]:
    try:
        for table in loaded.iter(batch_size=PLAIN_BATCH):
            yield from table.to_batches()
    except Exception as error:  # told as the row where the dataset breaks off
        raise OSError(f"the dataset breaks off: {error}") from error
