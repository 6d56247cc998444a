"""The built-in embedding, made while deciding from hashed words that were stored while scoring.

Nothing of it is fitted before scoring, so a row's stored columns do not depend on the other rows.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.sparse import csr_array
from sklearn.decomposition import TruncatedSVD
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from stages.contract import BoolArray, Scores
from stages.semantic.builtin import BUCKETS, unit

Vectors = npt.NDArray[np.float16]
Floats = npt.NDArray[np.float64]
_SAMPLE: Final = 20_000
_ITERATIONS: Final = 4


def stored_vectors(scores: Scores, column: str = "vector") -> Vectors:
    """The column of stored unit vectors as a matrix, zeros for a row without one."""
    parts = [_matrix(batch[column]) for batch in scores.scores([column])]
    width = max((part.shape[1] for part in parts), default=0)
    return np.concatenate([np.zeros((0, width), np.float16), *parts])


def tfidf_vectors(scores: Scores, ties: npt.NDArray[np.uint64], dimensions: int, seed: int) -> Vectors:
    """Unit vectors by tf-idf of the `terms` column and a truncated SVD of 20,000 rows; zeros for a row without a word.

    The rows are those of the lowest content hashes (`ties`), so the order of rows does not matter.
    """
    idf, directions = _fit(scores, ties, dimensions, seed)
    with threadpool_limits(1):  # sums in another order give other last digits
        parts = [_project(_weighted(_counts(batch["terms"]), idf), directions) for batch in scores.scores(["terms"])]
    return np.concatenate([np.zeros((0, directions.shape[1]), np.float16), *parts])


def _fit(scores: Scores, ties: npt.NDArray[np.uint64], dimensions: int, seed: int) -> tuple[Floats, Floats]:
    wanted: BoolArray = np.zeros(len(ties), np.bool_)
    wanted[np.argsort(ties, kind="stable")[:_SAMPLE]] = True
    parts = [_counts(batch["terms"]) for batch in scores.scores(["terms"], wanted)]
    terms = _stacked(parts)[np.argsort(ties[wanted], kind="stable")]
    idf = np.log((1 + terms.shape[0]) / (1 + np.bincount(terms.indices, minlength=BUCKETS))) + 1
    rank = min(dimensions, terms.shape[0] - 1)
    if rank < 2 or not terms.nnz:
        return idf, _folding(dimensions)
    with threadpool_limits(1):
        svd = TruncatedSVD(rank, n_iter=_ITERATIONS, random_state=seed % 2**32).fit(_weighted(terms, idf))
    return idf, np.asarray(svd.components_.T, np.float64)


def _folding(dimensions: int) -> Floats:
    """Directions for a pool too small to have any: each bucket goes to one of the dimensions."""
    out = np.zeros((BUCKETS, dimensions))
    out[np.arange(BUCKETS), np.arange(BUCKETS) % dimensions] = 1
    return out


def _project(terms: csr_array, directions: Floats) -> Vectors:
    return unit(np.asarray(terms @ directions)).astype(np.float16)


def _counts(column: pa.ListArray) -> csr_array:
    """How often each bucket occurs in each row; nothing in a null one."""
    filled = column.fill_null([]) if column.null_count else column
    places = filled.flatten().to_numpy(zero_copy_only=False).astype(np.int32)
    sizes = filled.value_lengths().to_numpy(zero_copy_only=False)
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    terms = csr_array((np.ones(len(places)), places, starts), shape=(len(column), BUCKETS))
    terms.sum_duplicates()
    return terms


def _stacked(parts: list[csr_array]) -> csr_array:
    from scipy.sparse import vstack

    return csr_array(vstack(parts)) if parts else csr_array((0, BUCKETS))


def _weighted(terms: csr_array, idf: Floats) -> csr_array:
    data = (1 + np.log(terms.data)) * idf[terms.indices]
    return csr_array((data, terms.indices, terms.indptr), shape=terms.shape)


def _matrix(column: pa.FixedSizeListArray) -> Vectors:
    width = column.type.list_size
    out = np.zeros((len(column), width), np.float16)
    out[np.asarray(column.is_valid())] = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
    return out
