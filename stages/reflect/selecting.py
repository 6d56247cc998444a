"""Selective Reflection-Tuning: a student model says whether a rewrite teaches more than what it replaces."""

from __future__ import annotations

import math
from typing import NamedTuple

from schemas.errors import BadRow
from stages.reflect.turns import Turn
from stages.student.loss import Pair as Target
from stages.student.loss import losses
from stages.student.models import Student
from stages.student.turns import Turn as Said
from stages.student.turns import asked_backwards, shown

_NAMES = ("answer", "answer_alone", "instruction", "instruction_alone")


class Measure(NamedTuple):
    """Mean losses in nats per token of a pair's answer and instruction, with what leads to them and alone."""

    answer: float  # after the instruction and all before it
    answer_alone: float
    instruction: float  # guessed from the answer
    instruction_alone: float
    answer_tokens: int
    instruction_tokens: int

    @property
    def log_ifd(self) -> float:
        """log of IFD = PPL(answer | instruction) / PPL(answer)."""
        return self.answer - self.answer_alone

    @property
    def log_r_ifd(self) -> float:
        """log of r-IFD = PPL(instruction | answer, asked to guess it) / PPL(instruction)."""
        return self.instruction - self.instruction_alone


def measure(student: Student, turn: Turn) -> Measure | str:
    """The four losses of a turn's pair, or why the student cannot tell.

    They run as one batch of their own, so that they do not depend on which other records come along.
    """
    said = [Said("system", turn.system)] if turn.system else []
    said += [Said(role, text) for role, text in turn.history]
    try:
        forward = shown(student.tokenizer, [*said, Said("user", turn.pair.instruction)])
        backward = asked_backwards(student, turn.pair.answer)
    except BadRow:
        return "the student's chat template refuses the turns"
    answer, instruction = turn.pair.answer, turn.pair.instruction
    pairs = [Target(forward, answer), Target("", answer), Target(backward, instruction), Target("", instruction)]
    found = losses(student, pairs)
    if found.truncated.any() or found.cut.any():
        return "too long for the student"
    means = [float(mean) for mean in found.mean]
    if not all(math.isfinite(mean) for mean in means):
        return "no loss"
    return Measure(means[0], means[1], means[2], means[3], int(found.tokens[0]), int(found.tokens[2]))


def worse_instruction(old: Measure, new: Measure) -> str | None:
    """Why a new instruction is not taken: its IFD must rise, and no tie is a rise. None where it is taken."""
    return None if new.log_ifd > old.log_ifd else f"IFD does not rise; {_change(old.log_ifd, new.log_ifd)}"


def worse_answer(old: Measure, new: Measure) -> str | None:
    """Why a new answer is not taken: its r-IFD must fall. None where it is taken."""
    return None if new.log_r_ifd < old.log_r_ifd else f"r-IFD does not fall; {_change(old.log_r_ifd, new.log_r_ifd)}"


def misaligned(final: Measure) -> str | None:
    """Why a pair that would be taken is not: instruction and answer must help to foresee each other, both ways."""
    if final.log_ifd < 0 and final.log_r_ifd < 0:
        return None
    return f"IFD or r-IFD not below 1; {math.exp(final.log_ifd):.3f}, {math.exp(final.log_r_ifd):.3f}"


def _change(before: float, after: float) -> str:
    return f"{math.exp(before):.3f} to {math.exp(after):.3f}"
