"""What the cascade predicts a text's value from, without compressing it together with any target."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stages.zipfit.kernel import ORDERS, overlap
from stages.zipfit.packed import Packed

Floats = npt.NDArray[np.float64]
COLUMNS: Final = ("c_x", "n_bytes", "overlap")
RAW: Final = 2 + len(ORDERS)
"""Numbers per row of `raw_features`."""
_EMPTY: Final = 20  # gzip length of nothing


def feature_columns(texts: Packed, targets: Packed) -> dict[str, pa.Array]:
    """`n_bytes`, and per order of n-gram how many targets the text's n-grams occur in, summed (`overlap`)."""
    counts = pa.array(overlap(texts, targets).ravel(), pa.int64())
    return {
        "n_bytes": pa.array(texts.sizes, pa.int64()),
        "overlap": pa.FixedSizeListArray.from_arrays(counts, len(ORDERS)),
    }


def raw_features(batch: pa.RecordBatch) -> npt.NDArray[np.float32]:
    """Score columns `COLUMNS` as one row of numbers per row; those of rows without a text mean nothing."""
    shared = batch["overlap"].flatten().to_numpy().reshape(-1, len(ORDERS))
    size = pc.fill_null(batch["c_x"], _EMPTY).to_numpy()
    return np.column_stack([size, batch["n_bytes"].to_numpy(), shared]).astype(np.float32)


def features(raw: npt.NDArray[np.float32], n_targets: int) -> Floats:
    """Regressors: sizes and overlaps, and curves of them."""
    size, length, shared = raw[:, 0].astype(np.float64), raw[:, 1].astype(np.float64), raw[:, 2:] / float(n_targets)
    columns = [shared, np.sqrt(shared), np.log1p(shared), shared / size[:, None]]
    return np.column_stack([*columns, size, np.log(size), 1 / size, length, np.sqrt(length)])
