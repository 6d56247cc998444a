"""The built-in embedding: tf-idf of hashed words and word pairs, reduced by a truncated SVD fitted on the pool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from stages.contract import IntArray, Pool, State
from stages.dsir.ngrams import ngram_column
from stages.text import On, columns_for, render

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Floats32 = npt.NDArray[np.float32]

BUCKETS: Final = 32_768
_SAMPLE: Final = 20_000
_ITERATIONS: Final = 4


def fit(pool: Pool, on: On, dimensions: int, seed: int) -> State:
    """Inverse document frequencies and singular vectors, from the rows of the lowest content hashes."""
    return learn(ngram_column(_sampled(pool, on), BUCKETS)[0], dimensions, seed)


def embed(texts: Sequence[str], state: State) -> Floats32:
    """Unit vectors, one per text; zeros for a text without a word. Each depends on its own text only."""
    return project(ngram_column(texts, BUCKETS)[0], state)


def learn(grams: pa.ListArray, dimensions: int, seed: int) -> State:
    """Inverse document frequencies and singular vectors of texts as lists of buckets (`ngram_column`)."""
    from sklearn.decomposition import TruncatedSVD  # takes seconds to import, and not every process embeds

    terms = _counts(grams)
    idf = np.log((1 + terms.shape[0]) / (1 + np.bincount(terms.indices, minlength=BUCKETS))) + 1
    wanted = min(dimensions, terms.shape[0] - 1)
    if wanted < 2 or not terms.nnz:
        return {"idf": idf, "directions": np.zeros((BUCKETS, 0), np.float32)}
    # One thread: sums in another order give other last digits.
    with threadpool_limits(1):
        svd = TruncatedSVD(wanted, n_iter=_ITERATIONS, random_state=seed % 2**32).fit(_weighted(terms, idf))
    return {"idf": idf, "directions": np.ascontiguousarray(svd.components_.T, np.float32)}


def project(grams: pa.ListArray, state: State) -> Floats32:
    """Unit vectors of texts as lists of buckets; zeros for one without any, or null."""
    terms = _weighted(_counts(grams), state["idf"])
    directions = state["directions"]
    return unit(np.asarray(terms @ directions) if directions.shape[1] else _few(terms))


def unit(vectors: npt.NDArray[Any]) -> Floats32:
    """Rows at length one; zeros stay zeros."""
    length = np.sqrt((vectors.astype(np.float64) ** 2).sum(axis=1, keepdims=True))
    return np.asarray(vectors / np.where(length > 0, length, 1), np.float32)


def _few(terms: csr_array) -> Floats32:
    """For a pool too small to have directions: the terms folded into 64 numbers."""
    out = np.zeros((terms.shape[0], 64), np.float32)
    rows = np.repeat(np.arange(terms.shape[0]), np.diff(terms.indptr))
    np.add.at(out, (rows, terms.indices % 64), terms.data)
    return out


def _sampled(pool: Pool, on: On) -> list[str]:
    hashes = np.concatenate([np.empty(0, "S32"), *(_hashes(batch) for batch in pool.batches(["content_hash"]))])
    rows: IntArray = np.argsort(hashes, kind="stable")[:_SAMPLE]
    if not len(rows):
        return []
    table = pool.fetch(rows, columns_for(on)).combine_chunks()
    return [text for text in render(table.to_batches()[0], on).to_pylist() if text]


def _hashes(batch: pa.RecordBatch) -> npt.NDArray[np.bytes_]:
    return np.array(batch["content_hash"].to_pylist(), "S32")


def _counts(grams: pa.ListArray) -> csr_array:
    """How often each bucket occurs in each text."""
    from scipy.sparse import csr_array  # half a second

    filled = grams.fill_null([]) if grams.null_count else grams
    places = filled.flatten().to_numpy(zero_copy_only=False).astype(np.int32)
    sizes = filled.value_lengths().to_numpy(zero_copy_only=False)
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    terms = csr_array((np.ones(len(places)), places, starts), shape=(len(grams), BUCKETS))
    terms.sum_duplicates()
    return terms


def _weighted(terms: csr_array, idf: npt.NDArray[np.float64]) -> csr_array:
    weighted = terms.astype(np.float32)
    weighted.data[:] = (1 + np.log(terms.data)) * idf[terms.indices]
    return weighted
