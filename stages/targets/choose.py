"""One record's way to its target: what its response allows, and what a summary of the thought has to pass."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from stages.llm.request import NoReply, Reply
from stages.targets.agree import disagreement
from stages.targets.counting import Count
from stages.targets.loops import Loop, longest_loop, words_of
from stages.targets.response import Response, Row, cut_off, read_response, split, unfinished
from stages.targets.results import without_result_line
from stages.targets.variants import Mode, answer_alone, unchanged

BAD: Final = "bad: "
"""How the status of a response begins that is no target."""
_MARK: Final = re.compile(r"\[\[[0-9a-f]{8} \w+\]\]")


@dataclass(frozen=True)
class Settings:
    """The parameters that choosing needs, and how tokens are counted."""

    mode: Mode
    loop_times: int
    loop_words: int
    count: Count


@dataclass(frozen=True)
class Choice:
    """A record before any model is asked: `status` is set where nothing needs to be asked.

    `content` is what stands if no summary comes.
    """

    row: Row
    response: Response | None
    content: dict[str, Any]
    status: str | None
    loop: Loop | None = None


class Summary(NamedTuple):
    """The text to stand before an answer, or why there is none (`fault`)."""

    text: str
    fault: str | None


def choose(row: Row, settings: Settings) -> Choice:
    """Decide all that can be decided without a model. In mode r3, a choice without a status wants a summary."""
    response = read_response(row)
    if response is None:
        return Choice(row, None, unchanged(row), "unchanged: no response")
    if not response.thinks:
        return Choice(row, response, unchanged(row), "unchanged: no reasoning")
    loop = _loop(response.thought, settings)
    fault = _fault(row, response, settings)
    if fault:
        return Choice(row, response, unchanged(row), f"{BAD}{fault}", loop)
    return _for_mode(row, response, loop, settings)


def _for_mode(row: Row, response: Response, loop: Loop | None, settings: Settings) -> Choice:
    alone = answer_alone(row, response)
    if settings.mode == "r2":
        return Choice(row, response, alone, "r2: answer alone", loop=loop)
    if loop:
        told = f"{loop.words} words repeat {loop.times:.1f} times '{loop.passage[:40]}'"
        return Choice(row, response, alone, f"r2 instead of {settings.mode}: the thought loops; {told}", loop=loop)
    if settings.mode == "r1":
        return Choice(row, response, unchanged(row), "r1: original response")
    status = None if response.thought else "r2 instead of r3: the last turn has no thought"
    return Choice(row, response, alone, status)


def _fault(row: Row, response: Response, settings: Settings) -> str | None:
    """Why a record's response is no target at all."""
    if response.fault:
        return response.fault
    if not response.answer:
        return "no answer"
    reason = unfinished(row["meta"])
    if reason:
        return f"generation did not finish; finish reason {reason}"
    if cut_off(response.answer):
        return "answer cut off; a code fence is open"
    return "the answer loops" if _loop(response.answer, settings) else None


def _loop(text: str, settings: Settings) -> Loop | None:
    return longest_loop(words_of(text), settings.loop_times, settings.loop_words)


def read_summary(choice: Choice, answer: Reply | NoReply, settings: Settings) -> Summary:
    """The summary in a reply, if it is whole, shorter than the thought, and arrives at the answer's result."""
    assert choice.response is not None
    if isinstance(answer, NoReply):
        return Summary("", f"no summary; {answer.kind.replace('_', ' ')}")
    said = split(answer.text)
    if answer.finish_reason != "stop" or said.fault:
        return Summary("", f"the summary is cut off; {said.fault or f'finish reason {answer.finish_reason}'}")
    text = without_result_line(said.answer).strip()
    if not text or _MARK.search(text):
        return Summary("", "the summary is empty" if not text else "the summary repeats the prompt")
    if settings.count(text) >= settings.count(choice.response.thought):
        return Summary("", "the summary is no shorter than the thought")
    differs = disagreement(choice.response.answer, said.answer)
    return Summary("", f"the summary's result differs; {differs}") if differs else Summary(text, None)


def result(choice: Choice, settings: Settings, reply: Reply | NoReply | None = None) -> dict[str, Any]:
    """The result columns of a record: its content, its status, token counts of all targets, and what was paid."""
    content, status, summary = choice.content, choice.status, None
    if reply is not None and choice.response is not None:
        summary = read_summary(choice, reply, settings)
        status = f"r2 instead of r3: {summary.fault}" if summary.fault else "r3: summary and answer"
        if not summary.fault:
            content = answer_alone(choice.row, choice.response, summary.text)
    return {
        **content, "rewrite_status": status,
        "loop_words": choice.loop.words if choice.loop else None,
        **_tokens(choice, summary, settings),
    }  # fmt: skip


def _tokens(choice: Choice, summary: Summary | None, settings: Settings) -> dict[str, int | None]:
    """Tokens of each target: null where the record has none of the kind, or no usable summary."""
    response = choice.response
    if response is None or response.fault:
        return {"tokens_r1": None, "tokens_r2": None, "tokens_r3": None}
    thought, answer = settings.count(response.thought), settings.count(response.answer)
    whole = summary is not None and not summary.fault
    return {
        "tokens_r1": thought + answer,
        "tokens_r2": answer,
        "tokens_r3": settings.count(summary.text) + answer if summary and whole else None,
    }
