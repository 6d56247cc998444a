"""What verification says about a problem, plain and complete."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from stages.sandbox import Status, shorten

SHOWN: Final = 300
"""Characters of an input, an expected value or a result kept in a verdict."""


@dataclass(frozen=True)
class Outcome:
    """One check: how it ended, and what was given, wanted and got (shortened) where that is known."""

    name: str
    status: Status
    input: str = ""
    expected: str = ""
    got: str = ""
    detail: str = ""
    cpu_ms: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether it passed."""
        return self.status == "passed"

    def short(self) -> Outcome:
        """The same with every text shortened."""
        texts = (shorten(text, SHOWN) for text in (self.input, self.expected, self.got, self.detail))
        given, expected, got, detail = texts
        return Outcome(self.name, self.status, given, expected, got, detail, self.cpu_ms)


@dataclass(frozen=True)
class Attempt:
    """One program against all checks. `whole`: the tests ran in the program's own process, not apart from it."""

    outcomes: tuple[Outcome, ...]
    total: int
    whole: bool = False

    @property
    def failed(self) -> Outcome | None:
        """The first check that did not pass."""
        return next((outcome for outcome in self.outcomes if not outcome.passed), None)

    @property
    def passed(self) -> int:
        """How many checks passed."""
        return sum(outcome.passed for outcome in self.outcomes)

    @property
    def verified(self) -> bool:
        """Every check was run and passed, and there was at least one."""
        return self.total > 0 and self.passed >= self.total and self.failed is None

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds of all checks."""
        return sum(outcome.cpu_ms for outcome in self.outcomes)


@dataclass(frozen=True)
class Verdict:
    """The outcome for a problem: that of the chosen solution, else of the one that got furthest.

    `n_tests` counts checks, `n_distinct` those that differ; `pass_rate` is passed over run (or over all, where a
    program died on the way); `solution` indexes the record's solutions, None where none could be run.
    """

    status: Status
    verified: bool
    n_tests: int
    n_distinct: int
    pass_rate: float
    cpu_ms: float
    solution: int | None = None
    failed_test: Outcome | None = None
    whole: bool = False
    detail: str = ""
    outcomes: tuple[Outcome, ...] = ()
