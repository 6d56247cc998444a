"""The small model that every selection is tried on: one checkpoint, warmed up on the pool, that all start from."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.comparing.plan import Comparison
from pipelines.comparing.sets import Set, Texts
from pipelines.comparing.training import blocks, learn
from pipelines.pool import RunPool
from schemas.hashing import fingerprint
from stages.student.loss import Pair, losses, token_ids
from stages.student.training import threads

if TYPE_CHECKING:
    from stages.student.models import Student


@dataclass(frozen=True)
class Proxy:
    """The model, and its weights as they were before any training."""

    student: Student
    first: dict[str, Any]
    plan: Comparison

    @property
    def parameters(self) -> int:
        """How many weights it has."""
        return sum(weight.numel() for weight in self.student.model.parameters())

    @property
    def window(self) -> int:
        """Tokens of a sequence that it trains on."""
        return min(self.plan.train.window, self.student.context)

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Texts as tokens."""
        return token_ids(self.student.tokenizer, texts)

    def measure(self, sets: Sequence[Set]) -> dict[str, float]:
        """Mean loss of every set in nats per token, of the model as it is now."""
        with threads(1):
            return {found.name: self._loss(found.texts) for found in sets}

    def trained(self, chosen: Texts, seed: int, sets: Sequence[Set]) -> dict[str, float]:
        """Losses after training on `chosen`, beginning at the checkpoint; it is there again afterwards."""
        tokenizer = self.student.tokenizer
        last = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else self.student.start
        train = self.plan.train
        tokens = blocks(self.tokens(chosen.texts), (self.student.start, int(last)), train.tokens, self.window, seed)
        try:
            learn(self.student, tokens, max(1, train.batch // self.window), self.plan.rate, seed)
            return self.measure(sets)
        finally:
            self.student.model.load_state_dict(self.first)

    def _loss(self, texts: Texts) -> float:
        found = losses(self.student, [Pair("", text) for text in texts.texts], 4_096)
        return float(found.nll.sum() / np.maximum(found.tokens.sum(), 1))


def open_proxy(plan: Comparison, folder: str) -> Proxy:
    """The checkpoint in `folder`."""
    from stages.student.models import load

    # Not the stored type: in bfloat16 small steps would be lost.
    student = load(folder, dtype="float32")
    first = {name: value.detach().clone() for name, value in student.model.state_dict().items()}
    return Proxy(student, first, plan)


def checkpoint(plan: Comparison, pool: RunPool, run: str, out: Path) -> str:
    """Folder of the checkpoint: the model given, or the built-in one after its schooling on the pool.

    `run` is the fingerprint of the run that made the pool. A killed schooling continues; a finished one is found.
    """
    from stages.student.models import check_model

    if plan.model is not None:
        check_model(plan.model)
        return plan.model
    size = plan.student.model_copy(update={"seed": plan.seed})
    folder = out / "base" / fingerprint({"pool": run, "size": size.model_dump()})
    if not (folder / "config.json").is_file():
        _school(pool, size, folder)
    return str(folder)


@contextmanager
def quietly() -> Iterator[None]:
    """Without the bars that transformers draws whenever it loads or saves weights."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _school(pool: RunPool, size: Any, folder: Path) -> None:
    from stages.student.builtin import fit, from_state

    scratch = folder.with_name(f"{folder.name}.unfinished")
    pool.scratch = scratch / "steps"
    pool.scratch.mkdir(parents=True, exist_ok=True)
    student = from_state(fit(pool, size), "cpu")
    student.model.save_pretrained(scratch / "model")
    student.tokenizer.model_max_length = student.context
    student.tokenizer.save_pretrained(scratch / "model")
    (scratch / "model").rename(folder)
    shutil.rmtree(scratch)
