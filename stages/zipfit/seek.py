"""The cascade over a pool: reads scores and texts as the search asks for them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from schemas.room import room
from stages.contract import BoolArray, IntArray, Scores
from stages.text import On, columns_for, render
from stages.zipfit.alignment import Rule, combine, gains
from stages.zipfit.cascade import Pilots, Problem, Ranking, Search, choose_pivots, pilot_rows, pivot_counts
from stages.zipfit.features import COLUMNS, RAW, features, raw_features
from stages.zipfit.kernel import cores, gzip_lengths
from stages.zipfit.packed import Packed, pack_arrow
from stages.zipfit.ranking import Ties
from stages.zipfit.targets import Targets

Floats = npt.NDArray[np.float64]

_TEXTS = 512  # texts in memory at a time


class Seeker:
    """Values of rows on demand: `gain` in bytes if `by_gain`, else alignment."""

    def __init__(self, scores: Scores, targets: Targets, rule: Rule, level: int, on: On, by_gain: bool) -> None:
        self.scores, self.targets, self.rule = scores, targets, rule
        self.level, self.on, self.by_gain = level, on, by_gain
        self.raw = np.empty((0, 0), np.float32)

    def search(self, ties: Ties, usable: BoolArray, ranking: Ranking) -> Search:
        """A search among the usable rows, begun with the pilots."""
        rows = pilot_rows(ties, usable)
        each = self.against(rows, self.targets.texts)
        values = combine(each, self.rule)
        counts = pivot_counts(each.shape[1])
        chosen = choose_pivots(each, values, max(counts, default=0))
        pivots = self.targets.texts.take(chosen)
        self._read(len(usable))
        problem = Problem(
            counts=counts,
            features=lambda rows: features(self.raw[rows], len(self.targets.texts)),
            pivots=lambda rows, count: self.against(rows, pivots.part(0, count)),
            exact=self._exact,
        )
        return Search(problem, Pilots(rows, each[:, chosen], values), usable, ranking(rows, values))

    def _read(self, count: int) -> None:
        """What the cheap features are made of, for all rows."""
        self.raw = room((count, RAW), np.float32)
        start = 0
        for batch in self.scores.scores(COLUMNS):
            self.raw[start : start + len(batch)] = raw_features(batch)
            start += len(batch)

    def _exact(self, rows: IntArray) -> Floats:
        """Values that the store keeps: another `keep` over the same rows computes few anew."""
        found = self.scores.ask(rows)["gain" if self.by_gain else "alignment"]
        return np.asarray(found.to_numpy())

    def against(self, rows: IntArray, targets: Packed) -> Floats:
        """Values of the named rows against each of `targets`."""
        parts = [self._values(rows[start : start + _TEXTS], targets) for start in range(0, len(rows), _TEXTS)]
        return np.vstack([np.empty((0, len(targets))), *parts])

    def _values(self, rows: IntArray, targets: Packed) -> Floats:
        table = self.scores.fetch(rows, columns_for(self.on)).combine_chunks()
        texts = pack_arrow(render(table.to_batches()[0], self.on))
        found = gzip_lengths(texts, targets, self.level, cores())
        gain = gains(found)
        return gain if self.by_gain else gain / np.maximum(found.texts[:, None], found.targets[None, :])
