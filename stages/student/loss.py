"""How well a student foresees texts: negative log-likelihoods of targets after their contexts.

Context and target are tokenised apart, so that a target has the same tokens whatever comes before it. An empty context
becomes the student's `start` token; before any other context stands what the tokenizer itself puts there.
A pair too long for the student's window loses tokens of the context from the left, down to the first one; a target too
long by itself is scored over the tokens that fit, and `cut`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from stages.contract import IntArray
from stages.student.models import Student

Floats = npt.NDArray[np.float64]
TOKENS_PER_BATCH: Final = 8192
"""Tokens of a batch unless told: logits over 32,000 words are then a gigabyte at most."""


class Pair(NamedTuple):
    """A target text and the context it is foreseen from; an empty context is none."""

    context: str
    target: str


class Losses(NamedTuple):
    """One entry per pair."""

    nll: Floats  # summed over the target's scored tokens, in nats
    tokens: npt.NDArray[np.int64]  # scored tokens of the target
    context_tokens: npt.NDArray[np.int64]  # tokens of the context that were looked at
    truncated: npt.NDArray[np.bool_]  # the context lost tokens
    cut: npt.NDArray[np.bool_]  # the target itself did not fit: the loss is that of its beginning

    @property
    def mean(self) -> Floats:
        """Mean loss per token in nats; NaN for a target without tokens."""
        mean: Floats = np.full(len(self.nll), np.nan)
        return np.divide(self.nll, self.tokens, out=mean, where=self.tokens > 0)


@dataclass(frozen=True)
class _Item:
    """One tokenised pair: `ids` of context and target, the target from `start` on."""

    ids: list[int]
    start: int
    truncated: bool
    cut: bool


def losses(student: Student, pairs: Sequence[Pair], tokens_per_batch: int = TOKENS_PER_BATCH) -> Losses:
    """The loss of every target after its context, in the order given.

    Pairs run in batches of at most `tokens_per_batch` tokens, padding included, alike lengths together. What a pair
    gets does not depend on its neighbours, up to the rounding of the model's arithmetic (float32: below 1e-5).
    """
    items = tokenised(student, pairs)
    nll = np.zeros(len(items))
    for rows in batched([len(item.ids) for item in items], tokens_per_batch):
        nll[rows] = _batch_losses(student, [items[row] for row in rows])
    return Losses(
        nll,
        np.array([len(item.ids) - item.start for item in items], np.int64),
        np.array([item.start for item in items], np.int64),
        np.array([item.truncated for item in items], np.bool_),
        np.array([item.cut for item in items], np.bool_),
    )


def tokenised(student: Student, pairs: Sequence[Pair]) -> list[_Item]:
    """Pairs as token ids that fit the student's window."""
    if not pairs:
        return []
    contexts = token_ids(student.tokenizer, [pair.context for pair in pairs])
    targets = token_ids(student.tokenizer, [pair.target for pair in pairs])
    opens = _opens(student)
    return [_fitted(student, _opened(student, c, opens), t) for c, t in zip(contexts, targets, strict=True)]


def token_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """The tokens of each text, without any that the tokenizer would put around it."""
    # A tokenizer warns of texts beyond its window, which are cut here.
    encoded = tokenizer(list(texts), add_special_tokens=False, truncation=False, verbose=False)
    return [list(ids) for ids in encoded["input_ids"]]


def batched(lengths: Sequence[int], tokens_per_batch: int) -> list[IntArray]:
    """Rows in groups whose longest length times their number is at most the budget (or a row alone), longest first.

    Rows of one length stay in the order given.
    """
    order = np.argsort(-np.asarray(lengths, np.int64), kind="stable")
    groups: list[IntArray] = []
    while len(order):
        take = max(1, tokens_per_batch // max(1, lengths[order[0]]))
        groups.append(order[:take])
        order = order[take:]
    return groups


def _opens(student: Student) -> bool:
    """Whether the tokenizer itself begins a text with the start token."""
    return list(student.tokenizer("a", verbose=False)["input_ids"])[:1] == [student.start]


def _opened(student: Student, context: list[int], opens: bool) -> list[int]:
    if not context or (opens and context[0] != student.start):
        return [student.start, *context]
    return context


def _fitted(student: Student, context: list[int], target: list[int]) -> _Item:
    room = student.context - len(target)
    if room >= len(context):
        return _Item(context + target, len(context), False, False)
    left = context[-room:] if room > 0 else context[-1:]
    return _Item(left + target[: student.context - len(left)], len(left), True, room < 1)


def _batch_losses(student: Student, items: Sequence[_Item]) -> Floats:
    """Summed losses. Padding stands at the right, where a causal model's earlier tokens do not see it: no mask."""
    import torch

    longest = max(len(item.ids) for item in items)
    ids = torch.tensor([item.ids + [student.start] * (longest - len(item.ids)) for item in items])
    first, last = min(item.start for item in items) - 1, longest - 1
    scored = torch.tensor([[item.start <= at < len(item.ids) for at in range(first + 1, longest)] for item in items])
    if not scored.any():
        return np.zeros(len(items))
    with torch.inference_mode():
        logits = _logits(student, ids.to(student.device), first, last)
        nll = _nll(logits, ids[:, first + 1 :].to(student.device)).cpu()
        return np.asarray(torch.where(scored, nll.double(), 0).sum(dim=1).numpy())


def _logits(student: Student, ids: Any, first: int, last: int) -> Any:
    """Logits of positions `first` to before `last`; the output layer computes no others where the model allows it."""
    import torch

    if "logits_to_keep" not in _parameters(unwrapped(student.model).forward.__func__):
        return student.model(input_ids=ids, use_cache=False).logits[:, first:last]
    wanted = torch.arange(first, last, device=ids.device)
    return student.model(input_ids=ids, use_cache=False, logits_to_keep=wanted).logits


def _nll(logits: Any, targets: Any) -> Any:
    """Losses per position in float32, row by row: a second copy of all logits would double the memory."""
    import torch

    rows = [torch.nn.functional.cross_entropy(x.float(), y, reduction="none") for x, y in zip(logits, targets)]  # noqa: B905
    return torch.stack(rows)


def unwrapped(model: Any) -> Any:
    """The `transformers` model inside a `peft` one, else the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@cache
def _parameters(function: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)
