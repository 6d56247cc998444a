"""Preferences: chosen against rejected, judged pairs, labelled answers (KTO)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from schemas.adapters.alpaca import joined
from schemas.adapters.base import (
    Adapter,
    Made,
    Row,
    first_key,
    has,
    identify,
    is_text,
    keeping_rest,
    made,
    missing,
    number,
    optional_text,
    put,
    text,
    wrong_type,
)
from schemas.adapters.chat import IDS, turns_of
from schemas.adapters.messages import read_messages
from schemas.errors import BadRow
from schemas.record import Draft, Message

_CHOSEN: Final = ("chosen", "chosen_response", "accepted")
_REJECTED: Final = ("rejected", "rejected_response")
_CONTEXTS: Final = ("conversations", "messages", "prompt", "instruction", "question", "query", "input")
_LABELS: Final = ("label", "kto_tag")


def _chosen(row: Row) -> str | None:
    chosen, rejected = first_key(row, *_CHOSEN), first_key(row, *_REJECTED)
    return f"has '{chosen}' and '{rejected}'" if chosen and rejected else None


def _make_chosen(row: Row) -> Made:
    chosen_key = first_key(row, *_CHOSEN) or missing(row, *_CHOSEN)
    rejected_key = first_key(row, *_REJECTED) or missing(row, *_REJECTED)
    shared, chosen, chosen_rest = _reply(row[chosen_key], chosen_key)
    others, rejected, rejected_rest = _reply(row[rejected_key], rejected_key)
    draft: Draft = {"kind": "preference", "completion": chosen["content"], "rejected": rejected["content"]}
    put(draft, reasoning=chosen.get("reasoning"), meta={**chosen_rest, **rejected_rest})
    used: list[str] = []
    context_key = first_key(row, *_CONTEXTS)
    if context_key is None:
        if not shared:
            missing(row, *_CONTEXTS[:3])
        _set_context(draft, shared)
    else:
        used += [context_key, *_add_context(draft, row, context_key)]
    before = draft.get("messages") or [{"role": "user", "content": draft["prompt"]}]
    used += [key for key, turns in ((chosen_key, shared), (rejected_key, others)) if turns in ([], before)]
    return _identified(draft, row, used)


def _reply(value: Any, field: str) -> tuple[list[Message], Message, dict[str, Any]]:
    """(the turns before it, the answer, what was left) of a chosen or rejected side: text, a message or a list."""
    if isinstance(value, str):
        return [], {"role": "assistant", "content": value}, {}
    raws = [value] if isinstance(value, Mapping) else value
    if not isinstance(raws, list | tuple):
        raise wrong_type(field, value, "text, a message or a list of messages")
    turns, rests = read_messages(raws, field)
    rests = _with_extras(turns, rests)
    if turns[-1]["role"] != "assistant" or "content" not in turns[-1]:
        raise BadRow("missing_content", f"'{field}' does not end with an answer", field)
    return turns[:-1], turns[-1], {field: rests} if rests else {}


def _with_extras(turns: list[Message], rests: list[Any]) -> list[Any]:
    """The rests with what the last turn has beside its text: it becomes a completion, which has no place for that."""
    extras = {key: value for key, value in turns[-1].items() if key not in ("role", "content", "reasoning")}
    if not extras:
        return rests
    rests = rests or [{} for _ in turns]
    return [*rests[:-1], {**rests[-1], **extras}]


def _add_context(draft: Draft, row: Row, key: str) -> list[str]:
    """Set prompt or messages from the context under `key`; returns further keys it used up."""
    value = row[key]
    if isinstance(value, str) and value[:2] != "[{":
        if not value.strip():
            raise BadRow("missing_content", f"'{key}' is empty", key)
        extra = optional_text(row, "input") if key == "instruction" else None
        system = optional_text(row, "system", "system_prompt")
        prompt = joined(value, extra)
        _set_context(draft, [{"role": "user", "content": prompt}], system)
        return ["input"] * (extra is not None) + [first_key(row, "system", "system_prompt") or ""] * bool(system)
    turns, rests = read_messages(turns_of(row, key), key)
    _set_context(draft, turns)
    if rests:
        put(draft, meta={**draft.get("meta", {}), key: rests})
    return []


def _set_context(draft: Draft, turns: list[Message], system: str | None = None) -> None:
    """One plain question is a prompt; anything longer is messages, without the answer itself."""
    turns = [{"role": "system", "content": system}, *turns] if system else turns
    if len(turns) == 1 and turns[0].keys() == {"role", "content"} and turns[0]["role"] == "user":
        draft["prompt"] = turns[0]["content"]
    else:
        draft["messages"] = turns


def _identified(draft: Draft, row: Row, used: list[str]) -> Made:
    if id_key := first_key(row, *IDS):
        identify(draft, row[id_key])
        used = [*used, id_key] if "source_id" in draft else used
    return made(draft, *used)


def _kto(row: Row) -> str | None:
    label = first_key(row, *_LABELS)
    if label and isinstance(row[label], bool) and (is_text(row, "prompt", "completion") or "messages" in row):
        return f"has an answer and a true/false '{label}'"
    return None


def _make_kto(row: Row) -> Made:
    label = first_key(row, *_LABELS) or missing(row, *_LABELS)
    draft: Draft = put({}, kind="preference", reward=number(row[label]))
    if is_text(row, "prompt", "completion"):
        put(draft, prompt=row["prompt"], completion=row["completion"])
        return _identified(draft, row, ["prompt", "completion", label])
    turns, rests = read_messages(turns_of(row, "messages"), "messages")
    if len(turns) < 2 or turns[-1]["role"] != "assistant" or "content" not in turns[-1]:
        raise BadRow("missing_content", "'messages' does not end with an answer", "messages")
    rests = _with_extras(turns, rests)
    put(draft, completion=turns[-1]["content"], reasoning=turns[-1].get("reasoning"))
    _set_context(draft, turns[:-1])
    put(draft, meta={"messages": rests} if rests else None)
    return _identified(draft, row, ["messages", label])


def _judged(row: Row, first: str, second: str, winner: int) -> Made:
    """A pair with the index of the better answer (1 or 2). A tie (0) has no rejected side: the second stays in meta."""
    instruction, extra = text(row, "instruction"), optional_text(row, "input")
    sides = {1: text(row, first), 2: text(row, second)}
    draft: Draft = {"kind": "preference", "prompt": joined(instruction, extra), "completion": sides[winner or 1]}
    used = ["instruction", "input", first]
    if winner:
        draft["rejected"] = sides[3 - winner]
        used.append(second)
    return _identified(draft, row, used)


def _alpaca_eval(row: Row) -> str | None:
    return (
        "has 'output_1', 'output_2', 'preference'"
        if is_text(row, "output_1", "output_2") and "preference" in row
        else None
    )


def _make_alpaca_eval(row: Row) -> Made:
    """AlpacaEval annotations: `preference` runs from 1 (the first answer) to 2 (the second)."""
    preference = number(row.get("preference"))
    tie = preference is None or math.isnan(preference) or preference == 1.5
    return _judged(row, "output_1", "output_2", 0 if tie else 1 + int(preference > 1.5))  # type: ignore[operator]


def _pandalm(row: Row) -> str | None:
    return "has 'response1' and 'response2'" if has(row, "response1", "response2") else None


def _make_pandalm(row: Row) -> Made:
    """PandaLM test set: each annotator says 1, 2 or 0 (tie); a strict majority decides."""
    votes = Counter(vote for key, vote in row.items() if key.startswith("annotator") and isinstance(vote, int))
    top, count = votes.most_common(1)[0] if votes else (0, 0)
    return _judged(row, "response1", "response2", top if top in (1, 2) and 2 * count > votes.total() else 0)


def _persona(row: Row) -> str | None:
    if is_text(row, "question", "answer_matching_behavior", "answer_not_matching_behavior"):
        return "has answers matching and not matching a behaviour"
    return None


def _make_persona(row: Row) -> Made:
    draft: Draft = {
        "kind": "preference",
        "prompt": text(row, "question"),
        "completion": text(row, "answer_matching_behavior"),
        "rejected": text(row, "answer_not_matching_behavior"),
    }
    return made(draft, "question", "answer_matching_behavior", "answer_not_matching_behavior")


CHOSEN: Final = Adapter("preference", "chosen and rejected answers", _chosen, keeping_rest(_make_chosen))
KTO: Final = Adapter("kto", "answers labelled good or bad", _kto, keeping_rest(_make_kto))
ALPACA_EVAL: Final = Adapter("alpaca_eval", "AlpacaEval annotations", _alpaca_eval, keeping_rest(_make_alpaca_eval))
PANDALM: Final = Adapter("pandalm", "PandaLM pairs with annotators", _pandalm, keeping_rest(_make_pandalm))
PERSONA: Final = Adapter("persona_eval", "model-written persona evals", _persona, keeping_rest(_make_persona))
