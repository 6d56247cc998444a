"""One record's way through: ask, read, check, compare; for the instruction first, then for the answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from stages.llm.request import NoReply, Reply, Request, or_stop
from stages.reflect.checked import checks_of, is_tested, keeps_instruction
from stages.reflect.gates import Gates, refusal_of
from stages.reflect.parsing import Unparsed, parse
from stages.reflect.prompts import Call, Template, request
from stages.reflect.selecting import Measure, misaligned, worse_answer, worse_instruction
from stages.reflect.turns import Pair, Row, Turn, read_turn

REWRITTEN: Final = "rewritten"
Measuring = Callable[[Turn], Awaitable[Measure | str]]
_PARTS: Final[Mapping[Call, tuple[str, ...]]] = {"instruction": ("instruction", "answer"), "response": ("answer",)}
_WORSE: Final = {"instruction": worse_instruction, "response": worse_answer}


@dataclass(frozen=True)
class Tools:
    """What a rewrite needs: templates of the calls to make in order, bounds, and functions that do the work.

    `verify` says why a new answer fails its record's own checks (None: it passes); `can_test` is False where no program
    can be run here; `measure` is None where every rewrite that passes is taken.
    """

    templates: tuple[Template, ...]
    gates: Gates
    ask: Callable[[Request], Awaitable[Reply | NoReply]]
    verify: Callable[[Row, str], Awaitable[str | None]]
    measure: Measuring | None = None
    can_test: bool = True


@dataclass(frozen=True)
class Proposal:
    """What came of one call: a new pair, or why there is none (`kept: ...` or `failed: ...`), and what was paid."""

    template: Template
    pair: Pair | None
    fault: str | None
    replies: tuple[Reply, ...]


@dataclass(frozen=True)
class Outcome:
    """What came of a record: its status, the new pair where it is `rewritten`, every proposal, and every measure."""

    status: str
    pair: Pair | None = None
    proposals: tuple[Proposal, ...] = ()
    measures: Mapping[str, Measure] = field(default_factory=dict)


async def rewrite(row: Row, tools: Tools) -> Outcome:
    """Rewrite the last turn of a canonical row, or say why it stays.

    Raises RunError or GateError where no further reply can be had in this run.
    """
    turn = read_turn(row)
    if isinstance(turn, str):
        return Outcome(f"kept: {turn}")
    templates = [each for each in tools.templates if each.call == "response" or not keeps_instruction(row)]
    if not templates:
        return Outcome("kept: its instruction must stay")
    if is_tested(row) and not tools.can_test:
        return Outcome("kept: its tests cannot be run here")
    return await _in_turn(turn, templates, row, tools)


async def _in_turn(turn: Turn, templates: list[Template], row: Row, tools: Tools) -> Outcome:
    """One call after the other, each from what is best by then: `branch` names what made that."""
    measures: dict[str, Measure] = {}
    if tools.measure:
        original = await tools.measure(turn)
        if isinstance(original, str):  # nothing could be compared with it: nothing is asked
            return Outcome(f"kept: {original}")
        measures["original"] = original
    proposals: list[Proposal] = []
    best, branch = turn, "original"
    for template in templates:
        proposal = await _propose(template, best, row, tools)
        if proposal.pair and tools.measure:
            proposal = await _compared(proposal, proposal.pair, best, branch, measures, tools.measure)
        if proposal.pair:
            best, branch = replace(best, pair=proposal.pair), template.call
        proposals.append(proposal)
    if best is turn:  # the last call's reason tells
        return Outcome(str(proposals[-1].fault), None, tuple(proposals), measures)
    fault = misaligned(measures[branch]) if tools.measure else None
    status, pair = (f"kept: {fault}", None) if fault else (REWRITTEN, best.pair)
    return Outcome(status, pair, tuple(proposals), measures)


async def _propose(template: Template, turn: Turn, row: Row, tools: Tools) -> Proposal:
    """Ask, once more where the reply cannot be read, and hold the new pair to every gate."""
    checks = checks_of(row, turn)
    replies: list[Reply] = []
    fault = ""
    for sections in (False, True):
        wanted, mark = request(template, turn, checks, sections)
        answer = or_stop(await tools.ask(replace(wanted, about=row.get("content_hash", ""))))
        if isinstance(answer, NoReply):
            fault = f"failed: {answer.kind.replace('_', ' ')}"
            break
        replies.append(answer)
        if answer.finish_reason != "stop":
            fault = f"kept: reply cut off; finish reason {answer.finish_reason}"
            break
        try:
            pair = parse(answer.text, mark, turn.pair.instruction if template.call == "response" else None)
        except Unparsed as error:
            fault = f"failed: unreadable reply; {error}"
            continue
        refusal = refusal_of(turn.pair, pair, tools.gates, _PARTS[template.call]) or await tools.verify(
            row, pair.answer
        )
        return Proposal(template, None if refusal else pair, refusal and f"kept: {refusal}", tuple(replies))
    return Proposal(template, None, fault, tuple(replies))


async def _compared(
    proposal: Proposal, pair: Pair, old: Turn, branch: str, measures: dict[str, Measure], measure: Measuring
) -> Proposal:
    """The proposal, without its pair where the student finds it no better than `old`; adds to `measures`."""
    new = proposal.template.call
    found = await measure(replace(old, pair=pair))
    if isinstance(found, str):
        return replace(proposal, pair=None, fault=f"kept: {found}")
    fault = _WORSE[new](measures[branch], found)
    measures[new] = found
    return replace(proposal, pair=None, fault=f"kept: {fault}") if fault else proposal
