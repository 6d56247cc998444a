"""Rows that hold many examples: natural-instructions tasks, self-instruct tasks, several judged solutions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from schemas.adapters.alpaca import joined
from schemas.adapters.base import (
    Adapter,
    Made,
    Row,
    first_key,
    is_text,
    items,
    keeping_rest,
    number,
    optional_text,
    put,
    text,
    value_of,
    without,
    wrong_type,
)
from schemas.adapters.mathematics import final_answer
from schemas.errors import BadRow
from schemas.record import Draft


def _natural(row: Row) -> str | None:
    if isinstance(row.get("Instances"), list) and row.get("Definition"):
        return "has 'Definition' and 'Instances'"
    return None


def _make_natural(row: Row) -> Made:
    """Super-NaturalInstructions: one draft per instance; of several reference outputs the first is the completion."""
    definition = "\n".join(_texts(value_of(row, "Definition"), "Definition"))
    task = optional_text(row, "_file", "name", "id") or ""
    drafts = []
    for index, raw in enumerate(items(row, "Instances")):
        instance = _object(raw, "Instances")
        outputs = _texts(instance.get("output"), "output")
        draft: Draft = {
            "kind": "sft",
            "source_id": f"{task}#{index}",
            "prompt": joined(definition, text(instance, "input")),
            "completion": outputs[0],
        }
        left = without(instance, "input", "output") | ({"output": outputs[1:]} if len(outputs) > 1 else {})
        drafts.append(put(draft, meta={"Instances": left} if left else None))
    task_key = first_key(row, "_file", "name", "id")
    return Made(drafts, ("Definition", "Instances", *((task_key,) if task_key and drafts else ())))


def _object(value: Any, field: str) -> Row:
    if not isinstance(value, Mapping):
        raise wrong_type(field, value, "a list of objects")
    return value


def _texts(value: Any, field: str) -> list[str]:
    """Text, or a list of it, as a list with at least one entry."""
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list | tuple) or not all(isinstance(item, str) for item in found):
        raise wrong_type(field, value, "text or a list of text")
    if not found:
        raise BadRow("missing_content", f"'{field}' is empty", field)
    return list(found)


def _self_instruct(row: Row) -> str | None:
    if isinstance(row.get("instances"), list) and is_text(row, "instruction"):
        return "has 'instruction' and nested 'instances'"
    return None


def _make_self_instruct(row: Row) -> Made:
    instruction, task = text(row, "instruction"), optional_text(row, "id", "name") or ""
    drafts = []
    for index, raw in enumerate(items(row, "instances")):
        instance = _object(raw, "instances")
        draft: Draft = {
            "kind": "sft",
            "source_id": f"{task}#{index}",
            "prompt": joined(instruction, optional_text(instance, "input")),
            "completion": text(instance, "output"),
        }
        left = without(instance, "input", "output")
        drafts.append(put(draft, meta={"instances": left} if left else None))
    id_key = first_key(row, "id", "name")
    return Made(drafts, ("instruction", "instances", *((id_key,) if id_key and drafts else ())))


def _graded(row: Row) -> list[str]:
    return [
        key for key, value in row.items() if isinstance(value, Mapping) and {"is_correct", "solution"} <= value.keys()
    ]


def _model_solutions(row: Row) -> str | None:
    if is_text(row, "question", "ground_truth") and (keys := _graded(row)):
        return f"has solutions marked right or wrong: {', '.join(keys)}"
    return None


def _make_model_solutions(row: Row) -> Made:
    """Solutions of several models to one question: one labelled answer per model."""
    question, truth, keys = text(row, "question"), text(row, "ground_truth"), _graded(row)
    drafts = []
    for key in keys:
        solution = _object(row[key], key)
        draft: Draft = {"kind": "preference", "prompt": question, "completion": text(solution, "solution")}
        put(draft, answer=final_answer(truth), reward=number(solution["is_correct"]))
        drafts.append(put(draft, meta={key: without(solution, "solution")}))
    return Made(drafts, ("question", *keys))


_PER_SAMPLE: Final = ("code", "pred", "report", "score", "pred_score", "response")


def _samples(row: Row) -> str | None:
    if is_text(row, "question") and all(isinstance(row.get(key), list) for key in ("code", "pred", "score")):
        return "has several sampled answers in 'code' with their 'score'"
    return None


def _make_samples(row: Row) -> Made:
    """Sampled chains of thought with scores: one labelled answer per sample."""
    question, system = text(row, "question"), optional_text(row, "system")
    answer = optional_text(row, "gt", "answer")
    codes = items(row, "code")
    columns = [key for key in _PER_SAMPLE if isinstance(row.get(key), list) and len(row[key]) == len(codes)]
    ident = row.get("idx", row.get("id", ""))
    drafts = []
    for index, completion in enumerate(codes):
        if not isinstance(completion, str):
            raise wrong_type("code", completion, "a list of text")
        draft: Draft = {"kind": "preference", "source_id": f"{ident}#{index}", "completion": completion}
        if system:
            draft["messages"] = [{"role": "system", "content": system}, {"role": "user", "content": question}]
        else:
            draft["prompt"] = question
        put(draft, answer=answer, reward=number(row["score"][index]) if "score" in columns else None)
        taken = ("code", "score") if "reward" in draft else ("code",)
        own = {key: row[key][index] for key in columns if key not in taken and row[key][index] != completion}
        drafts.append(put(draft, meta={key: value for key, value in own.items() if value is not None}))
    return Made(drafts, ("question", "system", *columns, *(("idx",) if drafts else ())))


NATURAL: Final = Adapter("natural_instructions", "Super-NaturalInstructions", _natural, keeping_rest(_make_natural))
SELF_INSTRUCT: Final = Adapter(
    "self_instruct", "tasks with nested instances", _self_instruct, keeping_rest(_make_self_instruct)
)
MODEL_SOLUTIONS: Final = Adapter(
    "model_solutions", "solutions of several models, marked", _model_solutions, keeping_rest(_make_model_solutions)
)
SAMPLES: Final = Adapter("scored_samples", "sampled answers with scores", _samples, keeping_rest(_make_samples))
