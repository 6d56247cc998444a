"""Mathematics: GSM8K, MATH, informal and formal statements and proofs."""

from __future__ import annotations

from typing import Final

from schemas.adapters.base import Adapter, Made, Row, first_key, identify, is_text, keeping_rest, made, put, text
from schemas.errors import BadRow
from schemas.record import Draft

_MARK: Final = "####"
_BOX: Final = "\\boxed{"
_IDS: Final = ("problem_name", "name", "id", "unique_id", "idx", "problem_id")


def final_answer(solution: str) -> str | None:
    """The answer a worked solution ends with: after `####` (GSM8K), or in the last `\\boxed{}` (MATH)."""
    if _MARK in solution:
        return solution.rpartition(_MARK)[2].strip() or None
    return _boxed(solution)


def _boxed(solution: str) -> str | None:
    start = solution.rfind(_BOX)
    if start < 0:
        return None
    depth = 0
    for index in range(start + len(_BOX) - 1, len(solution)):
        depth += {"{": 1, "}": -1}.get(solution[index], 0)
        if depth == 0:
            return solution[start + len(_BOX) : index]
    return None


def _paired(row: Row, prompt: str, completion: str) -> tuple[Draft, list[str]]:
    """Prompt and completion from two fields, with the row's own id."""
    if not text(row, prompt).strip():
        raise BadRow("missing_content", f"'{prompt}' is empty", prompt)
    draft: Draft = {"kind": "sft", "prompt": text(row, prompt), "completion": text(row, completion)}
    used = [prompt, completion]
    if id_key := first_key(row, *_IDS):
        identify(draft, row[id_key])
        used += [id_key] if "source_id" in draft else []
    return draft, used


def _gsm8k(row: Row) -> str | None:
    return (
        "has 'question', and 'answer' ends with ####"
        if is_text(row, "question", "answer") and _MARK in row["answer"]
        else None
    )


def _make_gsm8k(row: Row) -> Made:
    draft, used = _paired(row, "question", "answer")
    return made(put(draft, answer=final_answer(text(row, "answer"))), *used)


def _math(row: Row) -> str | None:
    if is_text(row, "problem", "solution") and ("level" in row or "\\boxed" in row["solution"]):
        return "has 'problem' and a worked 'solution'"
    return None


def _make_math(row: Row) -> Made:
    draft, used = _paired(row, "problem", "solution")
    stated = row.get("answer")
    answer = stated if isinstance(stated, str) and stated else final_answer(text(row, "solution"))
    return made(put(draft, answer=answer), *used, *(["answer"] if answer == stated else []))


def _informal(row: Row) -> str | None:
    return "has an informal statement and proof" if is_text(row, "informal_statement", "informal_proof") else None


def _make_informal(row: Row) -> Made:
    draft, used = _paired(row, "informal_statement", "informal_proof")
    return made(draft, *used)


def _formal(row: Row) -> str | None:
    given = first_key(row, "nl_statement", "informal_prefix")
    return f"has '{given}' and 'formal_statement'" if given and is_text(row, given, "formal_statement") else None


def _make_formal(row: Row) -> Made:
    """Autoformalisation: the statement in words is the prompt, the formal one the completion."""
    draft, used = _paired(
        row, first_key(row, "nl_statement", "informal_prefix") or "informal_prefix", "formal_statement"
    )
    return made(put(draft, language="lean"), *used)


GSM8K: Final = Adapter("gsm8k", "questions with an answer after ####", _gsm8k, keeping_rest(_make_gsm8k))
MATH: Final = Adapter("math", "problems with worked solutions", _math, keeping_rest(_make_math))
INFORMAL: Final = Adapter("informal_proof", "miniF2F in words", _informal, keeping_rest(_make_informal))
FORMAL: Final = Adapter("formal_statement", "miniF2F and ProofNet in Lean", _formal, keeping_rest(_make_formal))
