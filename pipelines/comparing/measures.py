"""What selections look like: how much they share, how various they are, where their rows come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from pipelines.comparing.sets import Texts
from pipelines.files import replacing
from pipelines.pool import RunPool
from stages.contract import IntArray
from stages.dsir.ngrams import words
from stages.text import On

_WORDS: Final = 5_000
_DIMENSIONS: Final = 32


def jaccard(first: Sequence[str], second: Sequence[str]) -> float:
    """Rows in both as a share of the rows in either; 1 for two empty sets."""
    one, two = set(first), set(second)
    return len(one & two) / len(one | two) if one | two else 1.0


def distinct(texts: Texts) -> float:
    """Distinct runs of three words as a share of all, within the first 5,000 words in the order of content hashes.

    Equally many words for all, since the share falls with the number of words; a selection with fewer is flattered.
    """
    seen: set[tuple[str, ...]] = set()
    total = left = 0
    left = _WORDS
    for row in sorted(range(len(texts.ids)), key=lambda row: (texts.hashes[row], texts.ids[row])):
        parts = [word.lower() for word in words(texts.texts[row])[:left]]
        runs = list(zip(parts, parts[1:], parts[2:], strict=False))
        seen.update(runs)
        total += len(runs)
        left -= len(parts)
        if left <= 0:
            break
    return len(seen) / total if total else 0.0


def effective(labels: Sequence[int]) -> float:
    """The effective number of clusters: the exponential of the entropy (nats) of their shares; 0 without rows."""
    if not len(labels):
        return 0.0
    shares = np.unique(np.asarray(labels), return_counts=True)[1] / len(labels)
    return float(np.exp(-(shares * np.log(shares)).sum()))


def by_source(texts: Texts) -> dict[str, int]:
    """Rows per source, the most first."""
    return dict(Counter(texts.sources).most_common())


def clusters(pool: RunPool, texts: Texts, on: On, path: Path) -> dict[str, int]:
    """The cluster of every row of the pool by its record id: k-means on tf-idf vectors. Found once, kept in `path`."""
    if path.is_file():
        labels = np.load(path)["labels"]
    else:
        labels = _label(pool, texts, on)
        with replacing(path) as temporary, temporary.open("wb") as handle:
            np.savez_compressed(handle, labels=labels)
    return dict(zip(texts.ids, labels.tolist(), strict=True))


def _label(pool: RunPool, texts: Texts, on: On) -> IntArray:
    from stages.quad.clustering import group
    from stages.semantic.builtin import embed, fit

    state: Any = fit(pool, on, _DIMENSIONS, 0)
    ties = np.array([int(content[:16], 16) for content in texts.hashes], np.uint64)
    vectors = embed(texts.texts, state).astype(np.float16)
    return group(vectors, np.ones(len(ties), np.bool_), ties, None, 0).label
