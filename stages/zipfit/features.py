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
RAW: Final = 2 + 2 * len(ORDERS)
"""Numbers per row of `raw_features`."""
_EMPTY: Final = 20  # gzip length of nothing


def feature_columns(texts: Packed, targets: Packed) -> dict[str, pa.Array]:
    """`n_bytes`, and the counts of n-grams that `overlap` makes."""
    counts = overlap(texts, targets)
    return {
        "n_bytes": pa.array(texts.sizes, pa.int64()),
        "overlap": pa.FixedSizeListArray.from_arrays(pa.array(counts.ravel(), pa.int64()), counts.shape[1]),
    }


def raw_features(batch: pa.RecordBatch) -> npt.NDArray[np.float32]:
    """Score columns `COLUMNS` as one row of numbers per row; those of rows without a text mean nothing."""
    grams = batch["overlap"].flatten().to_numpy().reshape(-1, 2 * len(ORDERS))
    size = pc.fill_null(batch["c_x"], _EMPTY).to_numpy()
    return np.column_stack([size, batch["n_bytes"].to_numpy(), grams]).astype(np.float32)


def features(raw: npt.NDArray[np.float32], n_targets: int) -> Floats:
    """Regressors: sizes, numbers of n-grams and of targets that have them, and curves of all these."""
    size, length = raw[:, 0].astype(np.float64), raw[:, 1].astype(np.float64)
    grams = raw[:, 2:].astype(np.float64)
    grams[:, : len(ORDERS)] /= n_targets
    curves = [grams, np.sqrt(grams), np.log1p(grams), grams / size[:, None]]
    return np.column_stack([*curves, size, np.log(size), 1 / size, length, np.sqrt(length)])
