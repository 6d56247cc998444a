"""Which rows fill a quota; in a cascade, how many of the best rows that takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np

from stages.contract import IntArray
from stages.zipfit.cascade import Search
from stages.zipfit.ranking import Quota, Ties, best_first, within

_BEYOND: Final = 1.1  # the next rows are seldom exactly like the last ones
_LEAST, _MOST_MORE = 1.25, 4.0  # each step has its price, and so has every row too many


class Filling(NamedTuple):
    """Rows to keep, the best first.

    Attributes:
        rows: as many as the quota has room for.
        looked_at: how many of the best rows they were chosen from.
        full: whether the quota has no room for another row.
    """

    rows: IntArray
    looked_at: int
    full: bool


class Filler(NamedTuple):
    """How a quota is filled: `admit` leaves out of an order what is too similar to rows before it."""

    limit: Quota
    tokens: IntArray
    admit: Callable[[IntArray], IntArray]

    def fill(self, order: IntArray) -> Filling:
        """The first rows of `order` that are admitted and fit."""
        admitted = self.admit(order)
        rows = within(admitted, self.tokens, self.limit)
        looked_at = int(np.flatnonzero(order == rows[-1])[0]) + 1 if len(rows) else 0
        return Filling(rows, looked_at, len(rows) == self.limit.rows or len(rows) < len(admitted))

    def first_guess(self) -> int:
        """How many of the best rows fill the quota if they are of average size."""
        if np.isinf(self.limit.tokens):
            return self.limit.rows
        return int(self.limit.tokens / max(1.0, float(self.tokens.mean()))) + 1

    def next_guess(self, k: int, filling: Filling) -> int:
        """The same once it is known how far the best `k` go."""
        spent, budget = float(self.tokens[filling.rows].sum()), self.limit.tokens
        share = len(filling.rows) / self.limit.rows if np.isinf(budget) else spent / budget
        factor = _BEYOND / share if share else _MOST_MORE
        return int(k * min(max(factor, _LEAST), _MOST_MORE)) + 1


def fill_from(search: Search, filler: Filler, ties: Ties, most: int) -> Filling:
    """Fill a quota with none but rows that a cascade guarantees to be the best, of `most` that there are."""
    k = min(most, filler.first_guess())
    while True:
        found = search.find(k)
        exact = np.flatnonzero(found.is_exact)
        filling = filler.fill(exact[best_first(search.score[exact], ties[exact], k)])
        if filling.full or k == most:
            return filling
        k = min(most, filler.next_guess(k, filling))
