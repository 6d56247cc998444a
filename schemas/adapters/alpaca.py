"""Single-turn instruction data: Alpaca in all its spellings, bare prompt/completion pairs, Gorilla's API cards."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any, Final

from schemas.adapters.base import (
    Adapter,
    Made,
    Row,
    as_json_text,
    first_key,
    identify,
    is_text,
    keeping_rest,
    made,
    missing,
    optional_text,
    put,
    text,
    wrong_type,
)
from schemas.adapters.reasoning import split_think
from schemas.errors import BadRow
from schemas.record import Draft, Message

COMPLETIONS: Final = ("output", "response", "completion", "answer", "target")
_INPUTS: Final = ("input", "context")
_IDS: Final = ("id", "uid", "_id", "idx", "task_id")
REASONINGS: Final = ("reasoning", "reasoning_content", "thinking")
_PLAIN: Final = (frozenset({"instruction", "input", "output"}), frozenset({"instruction", "input", "response"}))


def joined(instruction: str, extra: str | None) -> str:
    """Instruction and input as one prompt: a blank line between them, no trace of an empty input."""
    return f"{instruction}\n\n{extra}" if extra and not extra.isspace() else instruction


def _alpaca(row: Row) -> str | None:
    if "instruction" in row and ("output" in row or "response" in row or first_key(row, *COMPLETIONS)):
        return "has 'instruction' and an output"
    return None


def _read_alpaca(row: Row) -> list[Draft]:
    # The bulk of all instruction data has exactly these keys: no loops and no calls for it.
    if (keys := row.keys()) <= _PLAIN[0] or keys <= _PLAIN[1]:
        instruction, extra, output = row.get("instruction"), row.get("input"), row.get("output", row.get("response"))
        if type(instruction) is str and type(output) is str and "<think>" not in output[:99]:
            if not instruction or instruction.isspace():
                return _read_any_alpaca(row)
            if extra == "" or extra is None:
                return [{"kind": "sft", "prompt": instruction, "completion": output}]
            if type(extra) is str and not extra.isspace():
                return [{"kind": "sft", "prompt": f"{instruction}\n\n{extra}", "completion": output}]
    return _read_any_alpaca(row)


def _make_alpaca(row: Row) -> Made:
    instruction = text(row, "instruction")
    extra_key = first_key(row, *_INPUTS)
    extra = optional_text(row, *_INPUTS)
    prompt = joined(instruction, extra) if instruction.strip() else (extra or "")
    if not prompt.strip():
        raise BadRow("missing_content", "'instruction' is empty", "instruction")
    output = first_key(row, *COMPLETIONS) or missing(row, *COMPLETIONS[:2])
    draft, used = _answered(row, output, "instruction", output, extra_key or "input")
    twins = [key for key in COMPLETIONS if key != output and row.get(key) == row[output]]
    turns, system_key = _earlier_turns(row)
    if turns:
        used += (system_key, "history")
        answer: Message = {"role": "assistant", "content": draft.pop("completion")}
        draft["messages"] = [*turns, {"role": "user", "content": prompt}, answer]
    else:
        draft["prompt"] = prompt
    return made(draft, *used, *twins)


def _earlier_turns(row: Row) -> tuple[list[Message], str]:
    """LLaMA-Factory's `system` and `history` columns as messages."""
    system_key = first_key(row, "system", "system_prompt") or "system"
    system, history = row.get(system_key), row.get("history")
    history = [] if history is None else history
    if not isinstance(system, str | None):
        raise wrong_type(system_key, system, "text")
    turns: list[Message] = [{"role": "system", "content": system}] if system else []
    if not isinstance(history, list | tuple):
        raise wrong_type("history", history, "a list")
    for pair in history:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(isinstance(side, str) for side in pair):
            raise BadRow("wrong_type", "'history' is not a list of [question, answer] pairs", "history")
        turns += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    return turns, system_key


def _answered(row: Row, completion_key: str, *used: str) -> tuple[Draft, tuple[str, ...]]:
    """The half of a draft that follows a prompt: completion, reasoning, the row's own id."""
    completion = text(row, completion_key)
    thought, completion = split_think(completion)
    draft: Draft = {"kind": "sft", "completion": completion}
    if thought is not None:
        draft["reasoning"] = thought
    elif (reasoning := first_key(row, *REASONINGS)) and isinstance(row[reasoning], str):
        draft["reasoning"] = row[reasoning]
        used += (reasoning,)
    if id_key := first_key(row, *_IDS):
        identify(draft, row[id_key])
        used += (id_key,) if "source_id" in draft else ()
    return draft, used


_read_any_alpaca = keeping_rest(_make_alpaca)

_PAIRS: Final = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("question", "answer"),
    ("question", "response"),
    ("question", "output"),
    ("query", "response"),
    ("query", "answer"),
    ("problem", "solution"),
    ("problem", "answer"),
    ("input", "output"),
    ("input", "target"),
    ("source", "target"),
    ("prompt", "output"),
    ("prompt", "answer"),
)


def _pair_keys(row: Row) -> tuple[str, str] | None:
    return next((pair for pair in _PAIRS if is_text(row, *pair)), None)


def _pair(row: Row) -> str | None:
    pair = _pair_keys(row)
    return f"has '{pair[0]}' and '{pair[1]}'" if pair else None


def _make_pair(row: Row) -> Made:
    prompt_key, completion_key = _pair_keys(row) or _pair_error(row)
    prompt = row[prompt_key]
    if not prompt.strip():
        raise BadRow("missing_content", f"'{prompt_key}' is empty", prompt_key)
    draft, used = _answered(row, completion_key, prompt_key, completion_key)
    turns, system_key = _earlier_turns(row)
    if not turns:
        return made(put(draft, prompt=prompt), *used)
    answer: Message = {"role": "assistant", "content": draft.pop("completion")}
    draft["messages"] = [*turns, {"role": "user", "content": prompt}, answer]
    return made(draft, *used, system_key, "history")


def _pair_error(row: Row) -> tuple[str, str]:
    for prompt_key, completion_key in _PAIRS:
        if row.get(prompt_key) is not None:
            text(row, prompt_key)
            text(row, completion_key)
    return missing(row, "prompt")


_CARD: Final = re.compile(
    r"^\{'Instruction': (?P<instruction>.*?), '(?P<second>Input|Output)':\s*(?P<rest>.*?)\}?\s*$", re.S
)


def _gorilla(row: Row) -> str | None:
    if is_text(row, "code", "api_call") and row["code"].lstrip()[:1] == "{":
        return "has 'api_call', and 'code' is an object written as Python text"
    return None


def _make_gorilla(row: Row) -> Made:
    """Gorilla APIBench: the conversation is in `code`, a Python literal or (upstream) what only looks like one."""
    card = _card(text(row, "code"))
    prompt = joined(card.pop("Instruction"), card.pop("Input", None))
    completion = card.pop("Output", None)
    if completion is None:
        raise BadRow("missing_content", "no 'Output' in 'code'", "code")
    draft: Draft = {"kind": "sft", "prompt": prompt, "completion": as_json_text(completion)}
    return made(put(draft, meta={"code": card} if card else None), "code")


def _card(source: str) -> dict[str, Any]:
    try:
        value = ast.literal_eval(source.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = _card_by_pattern(source.strip())
    if not isinstance(value, Mapping) or not isinstance(value.get("Instruction"), str):
        raise BadRow("wrong_type", "'code' holds no {'Instruction': …, 'Output': …}", "code")
    if not isinstance(value.get("Input"), str | None):
        raise BadRow("wrong_type", "'Input' in 'code' is not text", "code")
    return {str(key): item for key, item in value.items()}


def _card_by_pattern(source: str) -> dict[str, Any] | None:
    match = _CARD.match(source)
    if not match:
        return None
    card: dict[str, Any] = {"Instruction": _unquoted(match["instruction"])}
    if match["second"] == "Input":
        given, _, output = match["rest"].partition(", 'Output': ")
        return {**card, "Input": given, "Output": output or None}
    return {**card, "Output": match["rest"]}


def _unquoted(written: str) -> str:
    quoted = len(written) > 1 and written[0] == written[-1] and written[0] in "'\""
    return written[1:-1] if quoted else written


ALPACA: Final = Adapter("alpaca", "instruction, optional input, output (or response)", _alpaca, _read_alpaca)
PAIRS: Final = Adapter("prompt_completion", "a prompt and its completion", _pair, keeping_rest(_make_pair))
GORILLA: Final = Adapter("gorilla", "Gorilla APIBench cards", _gorilla, keeping_rest(_make_gorilla))
