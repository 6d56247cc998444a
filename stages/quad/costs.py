"""What scoring would cost, from the model's size and a sample of the records; loads no model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Final

import numpy as np
import orjson
import pyarrow as pa
from tokenizers import Tokenizer

from stages.quad.setup import Setup
from stages.student.models import folders
from stages.text import On, render

GPU_FLOPS: Final = 150e12
"""Operations per second assumed of one GPU: an A100 or better in bfloat16 at about half of its peak."""
_BYTES: Final = {"float32": 4, "float16": 2, "bfloat16": 2, "float64": 8}
_CHARACTERS_PER_TOKEN: Final = 3.5  # of the built-in tokenizer on English and code
_PROBE: Final = 768


def estimate(setup: Setup, sample: pa.Table, rows: int, share: float, targets: int = 1) -> Mapping[str, str]:
    """Rows, tokens and time at most, in words.

    Args:
        setup: the model and what of a record it sees.
        sample: records (columns `READS`).
        rows: records in the pool.
        share: largest share of them that may be scored.
        targets: directions that each row's gradient is compared with.
    """
    scored = round(rows * share)
    each = tokens_per_row(setup, sample)
    size = parameters(setup)
    work = float(scored) * each * operations_per_token(size, targets)
    here = speed_here()
    return {
        "rows to score": f"at most {scored:,} of {rows:,}",
        "tokens": f"about {scored * each:,.0f} ({each:,.0f} per row)",
        "model": f"{size:,} parameters" if setup.model else f"built-in, {size:,} parameters, trained on the pool first",
        "on this machine": f"about {_time(work / here)} at {here / 1e9:,.0f} GFLOP/s (measured, a matrix product)",
        "on one GPU": f"about {_time(work / GPU_FLOPS)} at {GPU_FLOPS / 1e12:,.0f} TFLOP/s (assumed)",
    }


def operations_per_token(size: int, targets: int) -> float:
    """Forward (2 per weight), backward (4), and the product with each target's direction (2)."""
    return float(size) * (6 + 2 * targets)


def parameters(setup: Setup) -> int:
    """Weights of the model: from the size of its files, or of the built-in one."""
    if setup.model is None:
        size = setup.student
        return 12 * size.layers * size.width**2 + size.vocabulary * size.width
    base = Path(folders(setup.model)[-1])
    config = orjson.loads((base / "config.json").read_bytes())
    each = _BYTES.get(str(config.get("dtype") or config.get("torch_dtype")), 2)
    return sum(file.stat().st_size for file in base.glob("*.safetensors")) // each


def tokens_per_row(setup: Setup, sample: pa.Table) -> float:
    """Mean tokens of the sampled records, as far as the model's own tokenizer is at hand, else from characters."""
    texts = _texts(sample, setup.on)
    if not texts:
        return 0.0
    file = None if setup.model is None else _tokenizer(setup.model)
    if file is None:
        return float(np.mean([len(text) / _CHARACTERS_PER_TOKEN for text in texts]))
    return float(np.mean([len(found.ids) for found in Tokenizer.from_file(str(file)).encode_batch(texts)]))


def speed_here() -> float:
    """Operations per second of a matrix product in single precision, measured in some hundredths of a second."""
    square = np.ones((_PROBE, _PROBE), np.float32)
    square @ square  # the first product starts the threads
    started = perf_counter()
    for _ in range(3):
        square @ square
    return 3 * 2 * _PROBE**3 / (perf_counter() - started)


def _texts(sample: pa.Table, on: On) -> list[str]:
    batches = sample.combine_chunks().to_batches()
    return [text for batch in batches for text in render(batch, on).to_pylist() if text]


def _tokenizer(model: str) -> Path | None:
    return next((file for folder in folders(model) if (file := Path(folder, "tokenizer.json")).is_file()), None)


def _time(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:,.0f} seconds" if seconds >= 1 else "a second"
