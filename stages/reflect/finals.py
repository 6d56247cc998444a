"""Whether a rewritten solution still ends with the result its record is known to have."""

from __future__ import annotations

from stages.targets.results import final_result, same_value


def states(solution: str, answer: str) -> bool:
    """Whether a worked solution states `answer` as its result, however either is written."""
    found = final_result(solution)
    return found is not None and found.kind != "code" and same_value(found.value, answer)


def form_of(solution: str) -> str:
    """How a solution marks its final answer: `####`, `\\boxed{}` or ""."""
    return "####" if "####" in solution else "\\boxed{}" if "\\boxed{" in solution else ""
