"""Which of a stage's parameters its scores are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_DIRECT: Final = ("threshold", "min_score", "max_score")


def thresholds(params: Mapping[str, Any]) -> dict[str, float]:
    """Parameters that limit the score in `decisions`, by name; empty where that is not evident.

    `threshold`, `min_score`, `max_score` do; else a limit (`min_tests`) or a pair of limits on one quantity
    (`min_chars`, `max_chars`) that is the only one in use.
    """
    numbers = {key: float(value) for key, value in params.items() if _is_number(value)}
    direct = {key: value for key, value in numbers.items() if key in _DIRECT}
    if direct:
        return direct
    limits = {key: value for key, value in numbers.items() if key.startswith(("min_", "max_"))}
    quantities = {key[4:] for key in limits}
    return limits if len(quantities) == 1 else {}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
