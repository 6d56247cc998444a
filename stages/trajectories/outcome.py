"""Whether a run was right, as the record itself tells: its reward, the verdict on its solution, its final answer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from stages.targets.results import boxed, final_result, same_value
from stages.trajectories.actions import Action
from stages.trajectories.answers import answer_words, has_letters, same_words
from stages.trajectories.gains import named

Tells = Literal["reward", "verdict", "answer"]
_TAG: Final = re.compile(r"<(answer|solution)>\s*(.*?)\s*</\1>", re.S)
_SHORT: Final = 4
"""An answer of fewer letters, or of numbers alone, must be the final result itself: a text may well name it."""
_YES_NO: Final = re.compile(r"\b(yes|no)\b")
_BOLD: Final = re.compile(r"\*\*(.+?)\*\*")
_SHOWN: Final = 60


class Outcome(NamedTuple):
    """Right or wrong (None: nothing tells), what told it, and in which words."""

    success: bool | None
    source: Tells | None
    text: str | None


def outcome(
    row: Mapping[str, Any], actions: Sequence[Action], said: str, order: Sequence[Tells], min_reward: float
) -> Outcome:
    """The first of `order` that the record has; `said` is the run's last text."""
    for source in order:
        if source == "reward":
            told = by_reward(row.get("reward"), min_reward)
        elif source == "verdict":
            told = by_verdict(row.get("solutions") or ())
        else:
            told = by_answer(row.get("answer"), actions, said)
        if told is not None:
            return Outcome(told[0], source, told[1])
    return Outcome(None, None, None)


def by_reward(reward: float | None, least: float) -> tuple[bool, str] | None:
    """Right from `least` on."""
    return None if reward is None else (reward >= least, f"reward {reward:g}")


def by_verdict(solutions: Sequence[Mapping[str, Any]]) -> tuple[bool, str] | None:
    """Right if any solution was accepted; nothing is told where none was judged."""
    verdicts = [solution["verdict"] for solution in solutions if solution.get("verdict")]
    if not verdicts:
        return None
    return "accepted" in verdicts, f"verdict {'accepted' if 'accepted' in verdicts else verdicts[0]}"


def by_answer(gold: str | None, actions: Sequence[Action], said: str) -> tuple[bool, str] | None:
    """Right if the run's final answer is the gold one or names it. A patch is no answer to compare with."""
    if not gold or not gold.strip() or gold.lstrip().startswith(("diff --git", "--- ")):
        return None
    given = final_answer(actions, said)
    return same_answer(gold, given), f"answer {_short(gold)}, given {_short(given)}"


def final_answer(actions: Sequence[Action], said: str) -> str:
    """What a run hands in: its `finish` call, a tagged or boxed answer, or all of its last text."""
    if actions and actions[-1].tool in ("finish", "answer"):
        return actions[-1].arguments
    tags = _TAG.findall(said)
    return str(tags[-1][1]) if tags else boxed(said) or said


def same_answer(gold: str, given: str) -> bool:
    """Whether the given answer equals the gold one as text or number, or names it, where it is of some length."""
    wanted, words = answer_words(gold), answer_words(given)
    if same_value(gold, given) or same_words(gold, given):
        return bool(words)
    if len(wanted) < _SHORT or not has_letters(wanted):
        return _states(gold, wanted, given, words)
    return named(wanted, f" {words} ")


def _states(gold: str, wanted: str, given: str, words: str) -> bool:
    """Whether a text states a short answer: as its final result, in bold type, or as its first yes or no."""
    if wanted in ("yes", "no"):
        first = _YES_NO.search(words)
        return first is not None and first[1] == wanted
    result = final_result(given)
    stated = [] if result is None or result.kind == "code" else [result.value]
    return any(same_value(gold, value) for value in [*stated, *_BOLD.findall(given)])


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return f"'{flat}'" if len(flat) <= _SHOWN else f"'…{flat[-_SHOWN:]}'"
