"""What influence depends on beside the records. Needs no torch, so that recipes can be read without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from stages.student.builtin import Size
from stages.student.turns import TURN_COLUMNS
from stages.text import TEXT_COLUMNS, On

Counts = Literal["auto", "response", "text"]
"""Whose loss counts: the response's, every token's, or the response's where a record has one and else every token's."""
Which = Literal["all", "attention", "mlp"]
Kind = Literal["ekfac", "kfac", "identity"]

READS: Final = tuple(dict.fromkeys([*TEXT_COLUMNS, *TURN_COLUMNS]))
"""Record columns that reading a record as tokens needs."""


@dataclass(frozen=True)
class Setup:
    """Parameters of the model, its curvature and how records are read; they are those of `Quad`."""

    model: str | None
    student: Size
    layers: Which
    factors: Kind
    damping: float
    on: On
    counts: Counts
    seed: int
