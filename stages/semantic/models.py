"""Embeddings by a model in a local folder: model2vec or sentence-transformers, whichever wrote it."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import orjson

from schemas.errors import RecipeError
from stages.semantic.builtin import Floats32, unit

Encoder = Callable[[Sequence[str]], Floats32]


def library(folder: str) -> str:
    """The importable package that reads the model. Raises RecipeError where there is none, saying what to do."""
    name = _written_by(Path(folder))
    if importlib.util.find_spec(name) is None:
        package = name.replace("_", "-")
        raise RecipeError(f"the model in {folder} needs the package {package}: pip install {package}")
    return name


@cache
def encoder(folder: str) -> Encoder:
    """Load the model once per process; nothing is downloaded and no code of the model's is run."""
    name = library(folder)
    if name == "model2vec":
        static = importlib.import_module(name).StaticModel.from_pretrained(folder)
        return lambda texts: unit(np.asarray(static.encode(list(texts))))
    deep = importlib.import_module(name).SentenceTransformer(folder, local_files_only=True)
    return lambda texts: unit(np.asarray(deep.encode(list(texts), show_progress_bar=False)))


def _written_by(folder: Path) -> str:
    if not folder.is_dir():
        raise RecipeError(f"model {folder} is not a folder; embedding models are read from a local folder")
    modules = folder / "modules.json"
    found = orjson.loads(modules.read_bytes()) if modules.is_file() else []
    if any("StaticEmbedding" in str(module.get("type")) for module in found):
        return "model2vec"
    if found:
        return "sentence_transformers"
    raise RecipeError(f"model {folder} has no modules.json, which model2vec and sentence-transformers write")
