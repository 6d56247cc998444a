"""Common phrases of the pool: stretches of an item that many records hold without the rest of the item.

A licence header, a prompt template or a well-known quotation can make up much of an evaluation item without any of
the records that hold it having seen the item. So a telling word of an item counts as common where more than `common`
different contents repeat it and none of these repeats nearly the whole item; it then counts neither as found nor as
part of the item. Records that do repeat nearly all of it (`WHOLE_SHARE`) are copies, however many there are.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from stages.decontaminate.tokens import Ints
from stages.dedup.jitted import jit

Floats = npt.NDArray[np.float64]
WHOLE_SHARE: Final = 0.9


def discount(
    keys: Ints, contents: Ints, telling: Ints, shares: Floats, parts: Ints, spans: Ints, common: int
) -> Floats:
    """The shares without common phrases.

    `keys` names the item's text of each match, `contents` the content of its record, `telling` the size of the item's
    text; `spans[parts[m]:parts[m + 1]]` are begin, end, begin, end, ... of what match m found of it.
    """
    order = np.lexsort((contents, keys))
    return _discount(order, keys, contents, telling, shares, parts, spans, common)


@jit
def _frequency(order: Ints, contents: Ints, shares: Floats, parts: Ints, spans: Ints, size: int) -> Ints:
    """In how many different contents that hold only a part each word of an item is found."""
    steps = np.zeros(size + 1, dtype=np.int64)
    for k in range(len(order)):
        m = order[k]
        twin = k > 0 and contents[order[k - 1]] == contents[m]
        if twin or shares[m] >= WHOLE_SHARE:
            continue
        for p in range(parts[m], parts[m + 1], 2):
            steps[spans[p]] += 1
            steps[spans[p + 1]] -= 1
    return np.cumsum(steps)[:size]


@jit
def _discount(
    order: Ints, keys: Ints, contents: Ints, telling: Ints, shares: Floats, parts: Ints, spans: Ints, common: int
) -> Floats:
    out = shares.copy()
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and keys[order[stop]] == keys[order[start]]:
            stop += 1
        if stop - start > common:
            size = telling[order[start]]
            rare = _frequency(order[start:stop], contents, shares, parts, spans, size) <= common
            left = np.sum(rare)
            for m in order[start:stop]:
                if shares[m] >= WHOLE_SHARE or left == size:
                    continue
                found = 0
                for p in range(parts[m], parts[m + 1], 2):
                    found += int(np.sum(rare[spans[p] : spans[p + 1]]))
                out[m] = found / left if left > 0 else 0.0
        start = stop
    return out
