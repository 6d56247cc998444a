"""The one exception tree of Curatrix. The command's exit status follows from the class."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CuratrixError(Exception):
    """Anything Curatrix raises on purpose. `exit_status` is what `curate` exits with."""

    exit_status = 1


class RecipeError(CuratrixError):
    """The recipe, an argument or an input it names is wrong; nothing has been written."""

    exit_status = 2


class RunError(CuratrixError):
    """The run cannot go on: I/O, a broken invariant, a stage that cannot work here."""


class GateError(CuratrixError):
    """A safety limit tripped (quarantine share, budget, over-deletion)."""

    exit_status = 3


class BadRow(CuratrixError):
    """One row cannot be used. It goes to quarantine; its neighbours go on.

    `kind` is a short, stable category for grouping (`invalid_json`, `missing_content`, ...),
    `field` the source field at fault, where one is.
    """

    def __init__(self, kind: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.field = field


def nearest(name: str, valid: Iterable[str]) -> str:
    """A hint naming the closest valid value, or all of them when none is close."""
    options = sorted(valid)
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"valid: {', '.join(options)}" if options else "nothing is valid here"
