"""Comparison on the host: words and integers exactly, reals within a tolerance, never by the program's own `==`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Final

_REAL: Final = re.compile(r"[+-]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][+-]?\d+)?")
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
TOLERANCE: Final = 1e-6
"""Absolute and relative, where the expected value is a real number and the problem does not say more."""


@dataclass(frozen=True)
class Rules:
    """How outputs are compared. Without `any_number`, a tolerance applies only where a real number is expected."""

    absolute: float = TOLERANCE
    relative: float = TOLERANCE
    any_number: bool = False
    case_sensitive: bool = True
    space_sensitive: bool = False


def same_output(expected: str, got: str, rules: Rules) -> bool:
    """Whether standard output is right: token by token, so that line ends and spacing do not matter by default."""
    if rules.space_sensitive and _spaces(expected) != _spaces(got):
        return False
    wanted, given = expected.split(), got.split()
    return len(wanted) == len(given) and all(map(lambda a, b: _same_token(a, b, rules), wanted, given))


def _spaces(text: str) -> list[str]:
    return re.findall(r"\s+", text.rstrip("\n") + "\n")


def _same_token(expected: str, got: str, rules: Rules) -> bool:
    if expected == got:
        return True
    if not rules.case_sensitive and expected.lower() == got.lower():
        return True
    pattern = _NUMBER if rules.any_number else _REAL
    if not (rules.absolute or rules.relative) or not pattern.fullmatch(expected) or not _NUMBER.fullmatch(got):
        return False
    return close(float(expected), float(got), rules)


def close(expected: float, got: float, rules: Rules) -> bool:
    """Whether two numbers agree within the absolute or the relative tolerance."""
    if math.isnan(expected):
        return math.isnan(got)
    if math.isinf(expected) or math.isinf(got):
        return expected == got
    return abs(expected - got) <= max(rules.absolute, rules.relative * abs(expected))


def same_value(expected: Any, got: Any, rules: Rules) -> bool:
    """Whether a function's result is right. `got` is plain data; tuples equal lists, since JSON has no tuples."""
    if isinstance(expected, float) or (isinstance(expected, complex) and isinstance(got, int | float | complex)):
        return _same_real(expected, got, rules)
    if isinstance(expected, bool | int | str | bytes) or expected is None:
        return _same_scalar(expected, got, rules)
    if isinstance(expected, Mapping):
        return _same_mapping(expected, got, rules)
    if isinstance(expected, Set):
        return isinstance(got, Set) and expected == got
    if isinstance(expected, Sequence):
        matching = isinstance(got, Sequence) and not isinstance(got, str | bytes) and len(expected) == len(got)
        return matching and all(same_value(a, b, rules) for a, b in zip(expected, got, strict=True))
    return type(expected) is type(got) and bool(expected == got)


def _same_real(expected: float | complex, got: Any, rules: Rules) -> bool:
    if isinstance(got, bool) or not isinstance(got, int | float | complex):
        return False
    if isinstance(expected, complex) or isinstance(got, complex):
        left, right = complex(expected), complex(got)
        return close(left.real, right.real, rules) and close(left.imag, right.imag, rules)
    try:
        return close(expected, float(got), rules)
    except OverflowError:
        return False


def _same_scalar(expected: Any, got: Any, rules: Rules) -> bool:
    if isinstance(expected, int) and isinstance(got, int | float):
        loose = rules.any_number and isinstance(got, float)
        return close(float(expected), got, rules) if loose else expected == got
    return type(expected) is type(got) and bool(expected == got)


def _same_mapping(expected: Mapping[Any, Any], got: Any, rules: Rules) -> bool:
    if not isinstance(got, Mapping) or len(expected) != len(got):
        return False
    named = {str(key): value for key, value in got.items()}  # JSON has only text keys
    by_key = all(key in got and same_value(value, got[key], rules) for key, value in expected.items())
    return by_key or all(
        isinstance(key, str) and key in named and same_value(value, named[key], rules)
        for key, value in expected.items()
    )
