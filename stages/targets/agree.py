"""Whether a summary of a thought arrives at the result that the answer states."""

from __future__ import annotations

from typing import Final

from stages.targets.results import Result, code_blocks, final_result, result_line, same_result, same_value

_SHOWN: Final = 40


def disagreement(answer: str, summary: str) -> str | None:
    """How the summary's final result differs from the answer's, None where it does not.

    A result that the answer marks (a box, a letter, "the answer is") must be the summary's too. Where the answer has
    none, or just ends with a number, the summary may state none; if it states one, the answer must have it. Programs
    in the summary must be among those of the answer.
    """
    wanted, stated = final_result(answer), final_result(summary)
    if any(not _is_among(code, answer) for code in code_blocks(summary)):
        return "code that the answer does not have"
    if wanted is None or wanted.kind in ("number", "code"):
        return _unsupported(wanted, stated, answer)
    if stated is None or (stated.kind == "number" and result_line(summary) is None):
        return f"none, not {_short(wanted.value)}"
    return None if same_result(wanted, stated) else f"{_short(stated.value)}, not {_short(wanted.value)}"


def _unsupported(wanted: Result | None, stated: Result | None, answer: str) -> str | None:
    """For an answer without a marked result: a stated one must be its last number, or stand in it."""
    if stated is None or stated.kind in ("number", "code"):
        return None
    if wanted is not None and same_value(stated.value, wanted.value):
        return None
    if _flat(stated.value) in _flat(answer):
        return None
    return f"{_short(stated.value)}, which the answer does not have"


def _is_among(code: str, answer: str) -> bool:
    blocks = code_blocks(answer)
    return any(same_result(Result("code", code), Result("code", block)) for block in blocks)


def _flat(text: str) -> str:
    return " ".join(text.casefold().replace("$", "").split())


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _SHOWN else f"{flat[:_SHOWN]}…"
