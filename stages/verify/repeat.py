"""A failure counts when it happens twice, the second time with nothing else running."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from stages.sandbox import Sandbox

from .verdict import Attempt, Outcome

_T = TypeVar("_T", Outcome, Attempt)


def twice(sandbox: Sandbox, once: Callable[[], _T]) -> _T:
    """What `once` gives, or what it gives the second time where it failed the first."""
    first = once()
    if _passed(first):
        return first
    with sandbox.alone():
        return once()


def _passed(result: Outcome | Attempt) -> bool:
    return result.passed if isinstance(result, Outcome) else result.failed is None
