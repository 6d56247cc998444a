"""Vectors for clustering: those that were stored, or the built-in embedding (stages/semantic) of stored hashed words.

The latter is fitted while deciding, so a row's stored columns do not depend on the other rows.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from stages.contract import BoolArray, Scores, State
from stages.semantic.builtin import learn, project

Vectors = npt.NDArray[np.float16]
_SAMPLE: Final = 20_000


def stored_vectors(scores: Scores, column: str = "vector") -> Vectors:
    """The column of stored unit vectors as a matrix, zeros for a row without one."""
    return _joined([_matrix(batch[column]) for batch in scores.scores([column])])


def tfidf_vectors(scores: Scores, ties: npt.NDArray[np.uint64], dimensions: int, seed: int) -> Vectors:
    """Unit vectors by tf-idf of the `terms` column and a truncated SVD of 20,000 rows; zeros for a row without a word.

    The rows are those of the lowest content hashes (`ties`), so the order of rows does not matter.
    """
    state = _learned(scores, ties, dimensions, seed)
    with threadpool_limits(1):  # sums in another order give other last digits
        return _joined([project(batch["terms"], state).astype(np.float16) for batch in scores.scores(["terms"])])


def _learned(scores: Scores, ties: npt.NDArray[np.uint64], dimensions: int, seed: int) -> State:
    wanted: BoolArray = np.zeros(len(ties), np.bool_)
    wanted[np.argsort(ties, kind="stable")[:_SAMPLE]] = True
    parts = [batch["terms"] for batch in scores.scores(["terms"], wanted)]
    terms = pa.concat_arrays(parts) if parts else pa.array([], pa.list_(pa.uint16()))
    return learn(terms.take(pa.array(np.argsort(ties[wanted], kind="stable"))), dimensions, seed)


def _joined(parts: list[Vectors]) -> Vectors:
    width = max((part.shape[1] for part in parts), default=0)
    return np.concatenate([np.zeros((0, width), np.float16), *parts])


def _matrix(column: pa.FixedSizeListArray) -> Vectors:
    width = column.type.list_size
    out = np.zeros((len(column), width), np.float16)
    out[np.asarray(column.is_valid())] = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
    return out
