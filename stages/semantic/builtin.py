"""The built-in embedding: tf-idf of hashed words and word pairs, reduced by a truncated SVD fitted on the pool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.sparse import csr_array
from sklearn.decomposition import TruncatedSVD
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from stages.contract import IntArray, Pool, State
from stages.dsir.ngrams import ngram_column
from stages.text import On, columns_for, render

Floats32 = npt.NDArray[np.float32]

BUCKETS: Final = 32_768
_SAMPLE: Final = 20_000
_ITERATIONS: Final = 4


def fit(pool: Pool, on: On, dimensions: int, seed: int) -> State:
    """Inverse document frequencies and singular vectors, from the rows of the lowest content hashes."""
    texts = _sampled(pool, on)
    terms = _counts(texts)
    idf = np.log((1 + len(texts)) / (1 + np.bincount(terms.indices, minlength=BUCKETS))) + 1
    weighted = _weighted(terms, idf)
    wanted = min(dimensions, len(texts) - 1)
    if wanted < 2 or not terms.nnz:
        return {"idf": idf, "directions": np.zeros((BUCKETS, 0), np.float32)}
    # One thread: sums in another order give other last digits.
    with threadpool_limits(1):
        svd = TruncatedSVD(wanted, n_iter=_ITERATIONS, random_state=seed % 2**32).fit(weighted)
    return {"idf": idf, "directions": np.ascontiguousarray(svd.components_.T, np.float32)}


def embed(texts: Sequence[str], state: State) -> Floats32:
    """Unit vectors, one per text; zeros for a text without a word. Each depends on its own text only."""
    terms = _weighted(_counts(texts), state["idf"])
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


def _counts(texts: Sequence[str]) -> csr_array:
    """How often each bucket occurs in each text."""
    grams, _ = ngram_column(texts, BUCKETS)
    places = grams.flatten().to_numpy().astype(np.int32)
    starts = grams.offsets.to_numpy().astype(np.int32)
    terms = csr_array((np.ones(len(places)), places, starts), shape=(len(texts), BUCKETS))
    terms.sum_duplicates()
    return terms


def _weighted(terms: csr_array, idf: npt.NDArray[np.float64]) -> csr_array:
    data = (1 + np.log(terms.data)) * idf[terms.indices]
    return csr_array((data.astype(np.float32), terms.indices, terms.indptr), shape=terms.shape)
