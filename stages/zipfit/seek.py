"""The cascade over a pool: reads scores and texts as the search asks for them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from schemas.room import filled, room
from stages.contract import BoolArray, IntArray, Scores
from stages.text import On, columns_for, render
from stages.zipfit.alignment import Rule, combine, gains
from stages.zipfit.cascade import Model, Problem, Ranking, Search, choose_pivots, fit_model, pilot_rows
from stages.zipfit.features import COLUMNS, RAW, features, raw_features
from stages.zipfit.kernel import cores, gzip_lengths
from stages.zipfit.packed import Packed, pack_arrow
from stages.zipfit.ranking import Ties
from stages.zipfit.targets import Targets

Floats = npt.NDArray[np.float64]

_TEXTS = 512  # texts in memory at a time
_PREDICTED = 1 << 15


class Seeker:
    """Values of rows on demand: `gain` in bytes if `by_gain`, else alignment."""

    def __init__(self, scores: Scores, targets: Targets, rule: Rule, level: int, on: On, by_gain: bool) -> None:
        self.scores, self.targets, self.rule = scores, targets, rule
        self.level, self.on, self.by_gain = level, on, by_gain
        self.raw = np.empty((0, 0), np.float32)

    def search(self, ties: Ties, usable: BoolArray, ranking: Ranking) -> Search:
        """A search among the usable rows, begun with the pilots."""
        pilots = pilot_rows(ties, usable)
        values = self.against(pilots, self.targets.texts)
        aggregated = combine(values, self.rule)
        self.raw = room((len(usable), RAW), np.float32)
        start = 0
        for batch in self.scores.scores(COLUMNS):
            self.raw[start : start + len(batch)] = raw_features(batch)
            start += len(batch)
        first = fit_model(self._cheap(pilots), aggregated)
        predicted = self._predict(first)
        predicted[~usable] = np.nan
        chosen = self.targets.texts.take(choose_pivots(values, aggregated))
        problem = Problem(
            features=self._cheap,
            pivots=lambda rows: self.against(rows, chosen),
            exact=self._exact,
        )
        return Search(problem, first, predicted, pilots, aggregated, ranking(pilots, aggregated))

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

    def _cheap(self, rows: IntArray) -> Floats:
        return features(self.raw[rows], len(self.targets.texts))

    def _predict(self, model: Model) -> Floats:
        starts = range(0, len(self.raw), _PREDICTED)
        pieces = (features(self.raw[start : start + _PREDICTED], len(self.targets.texts)) for start in starts)
        return filled(len(self.raw), np.float64, map(model.predict, pieces))
