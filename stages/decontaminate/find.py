"""Every match of a batch of records, as score columns."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stages.decontaminate.code import code_spans, lex
from stages.decontaminate.index import CODE, NEAR, SHINGLE, WHOLE, Index, Targets
from stages.decontaminate.items import QUESTION
from stages.decontaminate.match import FLOOR, Matches, joined, matches
from stages.decontaminate.pieces import Pieces
from stages.decontaminate.scan import scan_code, scan_whole, scan_words
from stages.decontaminate.tokens import Ints, word_spans, words
from stages.dedup.shingles import ascending, concatenate, shingle
from stages.dedup.texts import composed, normalise
from stages.dedup.verify import Loaded, similarities

MOST: Final = 8
"""Matches recorded per row, the largest shares."""
EXCERPT: Final = 600
"""Bytes of a matched stretch that are recorded."""

MATCH: Final = pa.struct(
    [
        ("item", pa.int32()),
        ("field", pa.int8()),
        ("how", pa.int8()),
        ("share", pa.float64()),
        ("length", pa.int32()),
        ("path", pa.string()),
        ("start", pa.int32()),
        ("stop", pa.int32()),
        ("text", pa.string()),
        ("telling", pa.int32()),
        ("stretches", pa.list_(pa.int32())),
    ]
)


def find(parts: Pieces, index: Index, sizes: Ints, code_size: int) -> Matches:
    """The matches of a batch, by row, the largest shares first, `MOST` per row."""
    strings, targets = composed(parts.strings), index.targets
    tokens = words(strings)
    hits = scan_words(tokens, sizes, index.words_filter, index.words)
    found = [_near(matches(hits, index.words, parts.rows, targets), parts, index)]
    longest = int(targets.lengths[targets.hows == WHOLE].max(initial=0))
    hits = scan_whole(tokens, longest, index.whole)
    found.append(matches(hits, index.whole, parts.rows, targets))
    if len(index.code.keys):
        hits = scan_code(lex(strings), code_size, index.code_filter, index.code)
        found.append(matches(hits, index.code, parts.rows, targets))
    return _best(joined(found))


def _near(found: Matches, parts: Pieces, index: Index) -> Matches:
    """Matches by shingles with the real Jaccard similarity as their share, where it reaches `FLOOR`."""
    at = np.flatnonzero(index.targets.hows[found.targets] == NEAR)
    if not len(at):
        return found
    chosen, left = np.unique(found.pieces[at], return_inverse=True)
    texts = normalise(parts.strings.take(pa.array(chosen)), True, True)
    sets = ascending(shingle(texts, "word", SHINGLE))
    both = concatenate([sets, index.near])
    shares = found.shares.copy()
    loaded = Loaded(both.values, np.stack([both.offsets[:-1], both.offsets[1:]], axis=1))
    shares[at] = similarities(loaded, left, found.targets[at] + len(chosen), "jaccard")
    return found._replace(shares=shares).take(np.flatnonzero(shares >= FLOOR))


def _best(found: Matches) -> Matches:
    order = np.lexsort((found.targets, -found.shares, found.rows))
    rows = found.rows[order]
    rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
    return found.take(order[rank < MOST])


def columns(found: Matches, parts: Pieces, index: Index, n_rows: int) -> pa.RecordBatch:
    """`question`, `answer` (largest share of an item's words or code), `near` (largest Jaccard similarity to a
    question), all null where there is no match, and `matches` for `decide`."""
    targets = index.targets
    hows, fields = targets.hows[found.targets], targets.fields[found.targets]
    shared = hows != NEAR
    return pa.RecordBatch.from_pydict(
        {
            "question": _largest(found, shared & (fields == QUESTION), n_rows),
            "answer": _largest(found, shared & (fields != QUESTION), n_rows),
            "near": _largest(found, ~shared, n_rows),
            "matches": _lists(_structs(found, parts, targets), found.rows, n_rows),
        }
    )


def _largest(found: Matches, wanted: npt.NDArray[np.bool_], n_rows: int) -> pa.Array:
    out = np.zeros(n_rows, dtype=np.float64)
    np.maximum.at(out, found.rows[wanted], found.shares[wanted])
    return pa.array(out, mask=out == 0)


def _lists(structs: pa.StructArray, rows: Ints, n_rows: int) -> pa.ListArray:
    offsets = np.searchsorted(rows, np.arange(n_rows + 1)).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), structs)


def _structs(found: Matches, parts: Pieces, targets: Targets) -> pa.StructArray:
    spans, texts = _spans(found, parts, targets)
    stretches = np.stack([found.begins, found.stops], axis=1).ravel()
    arrays = {
        "item": targets.items[found.targets],
        "field": targets.fields[found.targets],
        "how": targets.hows[found.targets],
        "share": found.shares,
        "length": found.lengths,
        "path": [parts.path(int(piece)) for piece in found.pieces],
        "start": spans[0],
        "stop": spans[1],
        "text": texts,
        "telling": targets.telling()[found.targets],
    }
    made = [pa.array(arrays[name], MATCH.field(name).type) for name in arrays]
    offsets = pa.array(2 * found.parts, pa.int32())
    made.append(pa.ListArray.from_arrays(offsets, pa.array(stretches, pa.int32())))
    return pa.StructArray.from_arrays(made, fields=list(MATCH))


def _spans(found: Matches, parts: Pieces, targets: Targets) -> tuple[Ints, list[str]]:
    """Characters (first, one past the last) of the longest stretches, and their text, shortened."""
    strings = parts.strings.take(pa.array(found.pieces))
    code = targets.hows[found.targets] == CODE
    out = np.zeros((2, len(code)), dtype=np.int64)
    texts = np.empty(len(code), dtype=object)
    for rows, spans in ((np.flatnonzero(~code), word_spans), (np.flatnonzero(code), code_spans)):
        some = strings.take(pa.array(rows))
        first = found.tokens[rows]
        where = spans(some, first, first + found.lengths[rows] - 1)
        out[:, rows] = where[:2]
        data = memoryview(some.buffers()[2] or b"")
        texts[rows] = [_excerpt(bytes(data[a:b])) for a, b in where[2:].T.tolist()]
    return out, texts.tolist()


def _excerpt(text: bytes) -> str:
    return text[:EXCERPT].decode("utf-8", "ignore")
