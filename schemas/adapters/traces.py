"""Reasoning traces and agent trajectories: messages with their reward and answer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from schemas.adapters.base import (
    Adapter,
    Made,
    Row,
    first_key,
    has,
    identify,
    is_text,
    items,
    keeping_rest,
    made,
    mapping,
    number,
    optional_text,
    put,
    text,
    to_json,
    without,
    wrong_type,
)
from schemas.adapters.chat import conversation, turns_of
from schemas.adapters.messages import read_messages
from schemas.errors import BadRow
from schemas.record import Draft, Message

_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _choice(row: Row) -> str | None:
    if is_text(row, "question", "reasoning") and isinstance(row.get("options"), list):
        return "has 'question', 'options' and 'reasoning'"
    return None


def _make_choice(row: Row) -> Made:
    """A multiple-choice question with a teacher's reasoning; reward 1 where it picked the gold letter."""
    options = items(row, "options")
    if not all(isinstance(option, str) for option in options) or len(options) > len(_LETTERS):
        raise wrong_type("options", options, "a list of up to 26 texts")
    listed = [f"{letter}. {option}" for letter, option in zip(_LETTERS, options, strict=False)]
    draft: Draft = {
        "kind": "sft",
        "prompt": "\n".join([text(row, "question"), "", *listed]),
        "completion": text(row, "answer_text", "answer"),
        "reasoning": text(row, "reasoning"),
    }
    gold, picked = optional_text(row, "answer_letter"), optional_text(row, "predicted_letter")
    reward = float(gold == picked) if gold and picked else None
    identify(draft, row.get("id"))
    used = ["question", "options", "reasoning", "answer_text" if has(row, "answer_text") else "answer", "answer_letter"]
    return made(put(draft, answer=gold, reward=reward), *used, *(["id"] if "source_id" in draft else []))


def _tau_bench(row: Row) -> str | None:
    return (
        "has 'traj' messages, 'reward' and 'info'"
        if isinstance(row.get("traj"), list) and has(row, "reward", "info")
        else None
    )


def _make_tau_bench(row: Row) -> Made:
    """tau-bench: the same task is tried several times; the task's own id names it, `trial` stays in meta."""
    draft, used = _rollout(row, "traj")
    identify(draft, row.get("task_id"))
    return made(draft, *used, *(["task_id"] if "source_id" in draft else []))


def _rollout(row: Row, key: str) -> tuple[Draft, list[str]]:
    """Messages under `key` with the row's `reward`."""
    turns, rests = read_messages(turns_of(row, key), key)
    draft: Draft = put({}, kind="trajectory", messages=turns, reward=number(row.get("reward")))
    put(draft, meta={key: rests} if rests else None)
    return draft, [key, *(["reward"] if "reward" in draft else [])]


def _fireact(row: Row) -> str | None:
    return "has 'traj', 'reward', 'gt' and 'pred'" if has(row, "traj", "reward", "gt") and "pred" in row else None


_RESPONSE: Final = "### Response:\n"


def _make_fireact(row: Row) -> Made:
    """FireAct: messages, or one text in the Alpaca template, whose halves become question and answer."""
    if isinstance(row.get("traj"), str):
        asked, mark, said = row["traj"].partition(_RESPONSE)
        if not mark:
            raise BadRow("missing_content", "no '### Response:' in 'traj'", "traj")
        turns: list[Message] = [
            {"role": "user", "content": (asked + mark).strip()},
            {"role": "assistant", "content": said},
        ]
        draft: Draft = put({}, kind="trajectory", messages=turns, reward=number(row.get("reward")))
        used = ["traj", *(["reward"] if "reward" in draft else [])]
    else:
        draft, used = _rollout(row, "traj")
    answer = optional_text(row, "gt")
    identify(draft, row.get("_id"))
    same_lines = isinstance(row.get("traj"), str) and row.get("traj_by_line") == row["traj"].split("\n")
    used += ["gt", *(["_id"] if "source_id" in draft else []), *(["traj_by_line"] if same_lines else [])]
    return made(put(draft, answer=answer), *used)


def _mint(row: Row) -> str | None:
    state = row.get("state")
    if isinstance(state, Mapping) and isinstance(state.get("history"), list) and isinstance(row.get("task"), Mapping):
        return "has 'state.history' and 'task'"
    return None


def _make_mint(row: Row) -> Made:
    state, task = mapping(row, "state"), mapping(row, "task")
    turns, rests = read_messages(turns_of(state, "history"), "history")
    draft: Draft = put({}, kind="trajectory", messages=turns, reward=number(state.get("success")))
    reference = task.get("reference")
    put(draft, answer=reference if isinstance(reference, str) else None)
    left = without(state, "history") | ({"history": rests} if rests else {})
    task_left = without(task, "reference") if "answer" in draft else task
    identify(draft, f"{row['_task']}/{task.get('task_id', '')}" if is_text(row, "_task") else task.get("task_id"))
    return made(put(draft, meta={"state": left, "task": task_left}), "state", "task")


def _web_agent(row: Row) -> str | None:
    if isinstance(row.get("messages"), list) and isinstance(row.get("functions"), list) and "answer" in row:
        return "has 'messages', 'functions' and a gold 'answer'"
    return None


def _make_web_agent(row: Row) -> Made:
    """WebDancer: `answer` is a list of lists of accepted texts; the first is the answer, all stay in meta."""
    (draft,), used = conversation(row, "messages", "trajectory")
    gold = row.get("answer")
    while isinstance(gold, Sequence) and not isinstance(gold, str) and gold:
        gold = gold[0]
    alone = row.get("answer") in (gold, [gold], [[gold]])
    put(draft, answer=gold if isinstance(gold, str) else None)
    return made(draft, *used, *(["answer"] if "answer" in draft and alone else []))


def _swe_agent(row: Row) -> str | None:
    history = row.get("history")
    if isinstance(history, list) and history and isinstance(history[0], Mapping) and "agent" in history[0]:
        return "has a 'history' of turns with an 'agent'"
    return None


def _make_swe_agent(row: Row) -> Made:
    """SWE-agent `.traj`, also those with a history only. The submitted patch is the answer."""
    turns, rests = read_messages(turns_of(row, "history"), "history")
    draft: Draft = put({}, kind="trajectory", messages=turns, meta={"history": rests} if rests else None)
    info = row.get("info")
    submission = info.get("submission") if isinstance(info, Mapping) else None
    if isinstance(submission, str):
        put(
            draft,
            answer=submission,
            meta={**draft.get("meta", {}), "info": without(mapping(row, "info"), "submission")},
        )
    identify(draft, row.get("instance_id") or row.get("_file"))
    own = [key for key in ("instance_id", "_file") if row.get(key) == draft.get("source_id")]
    return made(draft, "history", *own, *(["info"] if "answer" in draft else []))


def _intercode(row: Row) -> str | None:
    return (
        "has 'query' and 'turn_history'"
        if is_text(row, "query") and isinstance(row.get("turn_history"), Mapping)
        else None
    )


def _make_intercode(row: Row) -> Made:
    """InterCode: thoughts, actions and observations in parallel lists; the best reward of the run is its reward."""
    history = mapping(row, "turn_history")
    turns: list[Message] = [{"role": "user", "content": text(row, "query")}]
    actions, observations = items(history, "actions"), items(history, "observations")
    thoughts = items(history, "thoughts") if has(history, "thoughts") else []
    if not all(isinstance(said, str) for said in [*actions, *observations, *thoughts]):
        raise wrong_type("turn_history", history, "lists of text")
    for index, action in enumerate(actions):
        turn: Message = {"role": "assistant", "content": action}
        if index < len(thoughts):
            turn["reasoning"] = thoughts[index]
        turns.append(turn)
        if index < len(observations):
            turns.append({"role": "tool", "content": observations[index]})
    whole = len(actions) >= max(len(observations), len(thoughts))
    left = without(history, "actions", "observations", "thoughts") if whole else history
    summary = row.get("summary")
    reward = number(summary.get("max_reward")) if isinstance(summary, Mapping) else None
    draft: Draft = put(
        {}, kind="trajectory", messages=turns, reward=reward, meta={"turn_history": left} if left else None
    )
    id_key = first_key(row, "_id", "task_id")
    identify(draft, row.get(id_key or ""))
    return made(draft, "query", "turn_history", *([id_key] if id_key and "source_id" in draft else []))


def _self_refine(row: Row) -> str | None:
    return (
        "has 'review' and 'transferred_review'"
        if is_text(row, "review", "transferred_review", "target_sentiment")
        else None
    )


def _make_self_refine(row: Row) -> Made:
    """Self-Refine, sentiment transfer: one attempt is one rewrite of the review towards `target_sentiment`."""
    draft: Draft = {
        "kind": "sft",
        "prompt": f"{text(row, 'target_sentiment')}\n\n{text(row, 'review')}",
        "completion": text(row, "transferred_review"),
    }
    used = ["target_sentiment", "review", "transferred_review"]
    if all(isinstance(row.get(key), str | int) for key in ("record_id", "attempt")):
        draft["source_id"] = f"{row['record_id']}#{row['attempt']}"
        used += ["record_id", "attempt"]
    return made(draft, *used)


def _verifiable(row: Row) -> str | None:
    if isinstance(row.get("prompt"), list) and isinstance(row.get("reward_model"), Mapping):
        return "has 'prompt' messages and 'reward_model'"
    return None


_INDEX: Final = re.compile(r"^[\w./:-]+$")


def _make_verifiable(row: Row) -> Made:
    """Tasks for RL with a checkable answer (verl): the prompt as messages, the ground truth as the answer."""
    turns, rests = read_messages(turns_of(row, "prompt"), "prompt")
    judge = mapping(row, "reward_model")
    truth = judge.get("ground_truth")
    draft: Draft = put({}, kind="trajectory", messages=turns, meta={"prompt": rests} if rests else None)
    put(draft, answer=truth if isinstance(truth, str) or truth is None else to_json(truth))
    put(draft, meta={**draft.get("meta", {}), "reward_model": without(judge, "ground_truth")})
    if isinstance(row.get("index"), int | str) and _INDEX.match(str(row["index"])):
        identify(draft, row["index"])
    return made(draft, "prompt", "reward_model", *(["index"] if "source_id" in draft else []))


CHOICE: Final = Adapter(
    "multiple_choice_trace", "questions with a teacher's reasoning", _choice, keeping_rest(_make_choice)
)
TAU_BENCH: Final = Adapter("tau_bench", "tau-bench trajectories", _tau_bench, keeping_rest(_make_tau_bench))
FIREACT: Final = Adapter("fireact", "FireAct trajectories", _fireact, keeping_rest(_make_fireact))
MINT: Final = Adapter("mint", "MINT trajectories", _mint, keeping_rest(_make_mint))
WEB_AGENT: Final = Adapter("web_agent", "WebDancer trajectories", _web_agent, keeping_rest(_make_web_agent))
SWE_AGENT: Final = Adapter("swe_agent", "SWE-agent .traj", _swe_agent, keeping_rest(_make_swe_agent))
INTERCODE: Final = Adapter("intercode", "InterCode runs", _intercode, keeping_rest(_make_intercode))
SELF_REFINE: Final = Adapter("self_refine", "Self-Refine attempts", _self_refine, keeping_rest(_make_self_refine))
VERIFIABLE: Final = Adapter(
    "verifiable_task", "prompts with a ground truth", _verifiable, keeping_rest(_make_verifiable)
)
