"""The `tests` stage: how many distinct tests of a code problem could really be run, and a least number of them."""

from __future__ import annotations

import sys
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from schemas.room import filled
from stages.contract import DECIDES, REASONS, Decisions, RunsIn, Scores, Stage, State
from stages.sandbox import Limits
from stages.text import explode
from stages.verify import VERSION
from stages.verify.columns import VERIFY_COLUMNS, judged, require_sandbox, verified_columns

Flags = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]


class Tests(Stage):
    """Drop code problems with fewer than `min_tests` distinct usable tests (DeepCoder's rule asks for five).

    With `verify`, every reference solution runs against every test in a sandbox, and problems whose solution does not
    pass a share of `min_pass_rate` of them are dropped too. Put a plain `tests` stage first to verify only problems
    that have enough tests.

    A test is usable if it can fail: it has an expected output, or it is source code that checks. A mere reference to
    a file is not. Two tests are the same if input, output and source agree but for white space at either end and at
    line ends. A problem that has no separate tests but a test program (`test_code`) counts as having one.
    """

    __test__: ClassVar[bool] = False  # pytest would take it for a class of tests
    name: ClassVar[str] = "tests"
    reads: ClassVar[tuple[str, ...]] = ("kind", "tests", "test_code", *VERIFY_COLUMNS)
    runs_in: ClassVar[RunsIn] = "thread"

    min_tests: int = Field(5, ge=0, description="Fewest distinct usable tests.", json_schema_extra=DECIDES)
    verify: bool = Field(False, description="Run the solutions against the tests in a sandbox.")
    min_pass_rate: float = Field(
        1.0, ge=0, le=1, description="Share of the tests that a solution must pass.", json_schema_extra=DECIDES
    )
    cpu_s: float = Field(10.0, gt=0, description="CPU seconds per test, where the problem does not say.")
    memory_mb: int = Field(2048, ge=64, description="Memory per test, where the problem does not say.")
    max_solutions: int = Field(3, ge=1, description="How many of a problem's solutions are tried.")

    def check(self) -> None:
        """Raise RecipeError if solutions are to be verified and this machine has no sandbox."""
        if self.verify:
            require_sandbox()

    def scoring(self) -> dict[str, Any]:
        """Limits matter to verified scores alone, and so does the interpreter that runs the solutions."""
        if self.verify:
            return {**super().scoring(), "interpreter": sys.version, "verifier": VERSION}
        return {"verify": False}

    def task_rows(self) -> int:
        """Few rows where every one of them may run for seconds."""
        return 128 if self.verify else super().task_rows()

    def score(self, batch: pa.RecordBatch, state: State) -> pa.RecordBatch:
        """`n_tests` (all), `usable` (those that can be run), `n_distinct` (of these); null unless code."""
        lists, whole = batch["tests"], _not_blank(batch["test_code"])
        flat, parents = explode(lists)
        listed = np.bincount(parents, minlength=len(lists))
        keys = test_keys(flat)
        can_run = np.asarray(keys.is_valid())
        rows = parents[can_run]
        alone = (listed == 0) & whole
        other = ~np.asarray(pc.equal(batch["kind"], "code"))
        columns = {
            "n_tests": listed + alone,
            "usable": np.bincount(rows, minlength=len(lists)) + alone,
            "n_distinct": _distinct(rows, keys.drop_null(), len(lists)) + alone,
        }
        arrays = {name: pa.array(counts, mask=other) for name, counts in columns.items()}
        if self.verify:
            limits = Limits(cpu_s=self.cpu_s, memory_mb=self.memory_mb)
            arrays |= verified_columns(batch, limits, self.max_solutions)
        return pa.RecordBatch.from_pydict(arrays)

    def decide(self, scores: Scores) -> Decisions:
        """Keep problems with enough tests, and every record that is no code problem; the score is the number."""
        parts = [self._counted(batch) for batch in scores.scores(["n_tests", "n_distinct"])]
        keep = filled(len(scores), np.bool_, [keep for keep, _, _ in parts])
        reason = pa.chunked_array([reason for _, reason, _ in parts], REASONS)
        score = filled(len(scores), np.float64, [score for _, _, score in parts])
        counted = Decisions(keep, reason, score)
        return judged(scores, counted, ~np.isnan(score), self.min_pass_rate) if self.verify else counted

    def _counted(self, batch: pa.RecordBatch) -> tuple[Flags, pa.DictionaryArray, npt.NDArray[np.float64]]:
        """Whether each row stays, why, and its number of distinct tests (NaN where it is no code problem)."""
        problem = np.asarray(batch["n_distinct"].is_valid())
        distinct = pc.fill_null(batch["n_distinct"], 0).to_numpy()
        given = pc.fill_null(batch["n_tests"], 0).to_numpy()
        enough = distinct >= self.min_tests
        reason = _reasons(problem, given, distinct, enough, self.min_tests).dictionary_encode()
        return ~problem | enough, reason, np.where(problem, distinct, np.nan)


def test_keys(tests: pa.StructArray) -> pa.StringArray:
    """What makes a test distinct, null for one that is not usable."""
    given, expected, source = (_tidy(tests.field(name)) for name in ("input", "output", "code"))
    checks = pa.array(_not_blank(tests.field("code")))
    usable = pc.or_(pc.is_valid(expected), checks)
    parts = [pc.fill_null(part, "\x01") for part in (given, expected, source)]
    return pc.if_else(usable, pc.binary_join_element_wise(*parts, "\x00"), pa.scalar(None, pa.string()))


def _tidy(texts: pa.StringArray) -> pa.StringArray:
    return pc.utf8_trim_whitespace(pc.replace_substring_regex(texts, r"[ \t\r]+\n", "\n"))


def _not_blank(texts: pa.StringArray) -> Flags:
    filled = pc.greater(pc.binary_length(pc.utf8_trim_whitespace(texts)), 0)
    return np.asarray(pc.fill_null(filled, False).to_numpy(zero_copy_only=False))


def _distinct(rows: Counts, keys: pa.StringArray, n_rows: int) -> Counts:
    codes = keys.dictionary_encode().indices.to_numpy()
    pairs = np.unique(np.stack([rows, codes]), axis=1)
    return np.bincount(pairs[0], minlength=n_rows)


def _reasons(problem: Flags, given: Counts, distinct: Counts, enough: Flags, least: int) -> pa.StringArray:
    shown, total = (pa.array(counts).cast(pa.string()) for counts in (distinct, given))
    cases = [~problem, enough, given == 0, distinct == 0]
    return pc.case_when(
        pa.StructArray.from_arrays([pa.array(case) for case in cases], ["other", "enough", "none", "unusable"]),
        pa.scalar("not a code problem"),
        pc.binary_join_element_wise("tests:", shown, " "),
        pa.scalar("tests: none"),
        pc.binary_join_element_wise("tests: none of", total, "usable", " "),
        pc.binary_join_element_wise("tests:", shown, f"of {least} required", " "),
    )
