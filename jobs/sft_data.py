"""From token files to batches: pieces, packs, and the collator that keeps the examples of a pack apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jobs.packing import Overlong, Packs, Pieces, cut, one_each, pack, positions, summary
from jobs.sft_source import Sequences
from schemas.errors import RecipeError

IGNORED = -100
"""Label of a token without a loss."""
_KEYS = ("input_ids", "labels", "position_ids")
Row = dict[str, npt.NDArray[np.int64]]


@dataclass(frozen=True)
class PackedRows:
    """A map-style dataset: item p is pack p, `input_ids`, `labels` and `position_ids`, each int64 of shape [tokens].

    Position ids begin anew for every example; the first token of an example has no label, since what stands before
    it is another example; with `overlong_filter` an example that was cut off has none at all.
    """

    sequences: Sequences
    pieces: Pieces
    packs: Packs
    overlong_filter: bool
    without_loss: int
    """Pieces left out because not one of their tokens has a loss."""

    def __len__(self) -> int:
        """Number of packs."""
        return len(self.packs)

    def __getitem__(self, at: int) -> Row:
        """One pack."""
        chosen = self.packs[at]
        parts = [self._piece(int(piece)) for piece in chosen]
        ids = np.concatenate([ids for ids, _ in parts]).astype(np.int64)
        mask = np.concatenate([mask for _, mask in parts])
        places = positions(self.pieces.lengths[chosen])
        labels = np.where((mask > 0) & (places > 0), ids, IGNORED)
        return {"input_ids": ids, "labels": labels, "position_ids": places}

    def _piece(self, piece: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
        pieces = self.pieces
        ids, mask = self.sequences.read(int(pieces.source[piece]), int(pieces.start[piece]), int(pieces.end[piece]))
        return ids, np.zeros_like(mask) if self.overlong_filter and pieces.truncated[piece] else mask

    def summary(self) -> dict[str, Any]:
        """What became of the sequences."""
        return {**summary(self.pieces, self.packs), "without_loss": self.without_loss, "untold": self.sequences.untold}


def packed_rows(
    sequences: Sequences, context: int, overlong: Overlong, overlong_filter: bool, packing: bool
) -> PackedRows:
    """Cut and pack. A piece without a loss gives no gradient, only cost, and a batch of such pieces a division by zero:
    they are left out and counted. RecipeError where nothing is left."""
    pieces = cut(sequences.lengths, sequences.starts, context, overlong)
    losses = sequences.loss_tokens(pieces.source, pieces.start, pieces.end)
    useful = (losses > 0) & ~(pieces.truncated & overlong_filter)
    if not useful.any():
        reasons = "; ".join(["", *sequences.explained()])
        raise RecipeError(
            f"nothing to train on: none of {len(sequences)} sequences has a loss within {context} tokens{reasons}"
        )
    chosen = _select(pieces, useful)
    packs = (pack if packing else one_each)(chosen.lengths, context)
    return PackedRows(sequences, chosen, packs, overlong_filter, int((~useful).sum()))


def _select(pieces: Pieces, useful: npt.NDArray[np.bool_]) -> Pieces:
    return Pieces(
        pieces.source[useful], pieces.start[useful], pieces.end[useful], pieces.truncated[useful],
        pieces.dropped, pieces.lost_tokens,
    )  # fmt: skip


@dataclass(frozen=True)
class Collator:
    """Rows to a batch of tensors.

    `packed`: rows become lines of equal length; padding is an example of its own behind the last one and there is no
    attention mask, since position ids say where examples begin. `flat`: one line of all rows, without padding, as
    variable-length attention kernels want it. Otherwise rows are padded and masked. `tokens` counts what is no padding.
    """

    pad: int
    packed: bool
    flat: bool = False

    def __call__(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Tensors `input_ids`, `labels`, `position_ids` (and `attention_mask`) of shape [rows, tokens]."""
        import torch

        tokens = sum(len(row["input_ids"]) for row in rows)
        lines = [{key: np.concatenate([row[key] for row in rows]) for key in _KEYS}] if self.flat else list(rows)
        longest = max(len(line["input_ids"]) for line in lines)
        batch = {
            key: torch.from_numpy(np.stack([self._padded(line[key], longest, key) for line in lines])) for key in _KEYS
        }
        if not self.packed:
            real = np.stack([np.arange(longest) < len(line["input_ids"]) for line in lines]).astype(np.int64)
            batch["attention_mask"] = torch.from_numpy(real)
        return {**batch, "tokens": tokens}

    def _padded(self, values: npt.NDArray[np.int64], length: int, key: str) -> npt.NDArray[np.int64]:
        missing = length - len(values)
        if key == "position_ids":
            return np.concatenate([values, np.arange(missing)])
        return np.concatenate([values, np.full(missing, IGNORED if key == "labels" else self.pad, np.int64)])


class EpochOrder:
    """The order of the packs: a permutation that depends on the seed and the epoch alone."""

    def __init__(self, count: int, seed: int) -> None:
        self._count = count
        self._seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; the trainer calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Number of packs."""
        return self._count

    def __iter__(self) -> Iterator[int]:
        """Packs in the order of this epoch."""
        return iter(np.random.default_rng([self._seed, self.epoch]).permutation(self._count).tolist())
