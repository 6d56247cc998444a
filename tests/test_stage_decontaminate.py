"""Decontamination: what counts as repeating an evaluation item, and what a decision says about it."""

from __future__ import annotations

import random
import unicodedata
from typing import Any

import pyarrow as pa
import pytest
import regex
from decontam import details, items, run, score, stage
from pools import records

from stages.contract import Decisions

QUESTION = (
    "Natalia sold forty eight clips to her friends in April and then she sold half as many clips in the month of May. "
    "How many clips did Natalia sell altogether in April and May, if she kept three for her little brother?"
)
ANSWER = "In May she sold half of forty eight clips, which makes twenty four clips, so she sold seventy two altogether."
OTHER = "The farmer counted thirty cows and twenty geese before the storm drove half of the animals over the river."


def text_rows(*texts: str) -> pa.Table:
    return records([{"text": text} for text in texts])


def filler(words: int, seed: int = 0) -> str:
    rng = random.Random(seed)
    return " ".join(f"w{rng.randrange(5000)}" for _ in range(words))


def outcome(decisions: Decisions) -> list[bool]:
    return [bool(keep) for keep in decisions.keep]


def test_a_question_in_a_long_document_is_found_and_located() -> None:
    document = f"{filler(30_000)}\n{QUESTION.upper()}\n{filler(30_000, 1)}"
    decisions = run(stage(), text_rows(document, filler(500)), items([{"prompt": QUESTION, "completion": ANSWER}]))
    assert outcome(decisions) == [False, True]
    assert decisions.reason[0] == "contaminated: question of items; item/0, 100% of its words"
    assert decisions.related_id is not None
    assert list(decisions.related_id) == ["item/0", None]
    found = details(decisions)[0]
    assert found is not None
    assert found["file"] == "items.jsonl"
    assert found["path"] == "text"
    assert document[found["start"] : found["stop"]] == QUESTION.upper().rstrip("?")
    assert found["text"] == QUESTION.upper().rstrip("?")


def test_answers_count_separately() -> None:
    against = items([{"prompt": QUESTION, "completion": ANSWER}])
    table = records([{"kind": "sft", "prompt": OTHER, "completion": ANSWER}])
    decisions = run(stage(), table, against)
    assert decisions.reason[0] == "contaminated: answer of items; item/0, 100% of its words"
    assert outcome(run(stage(fields=["question"]), table, against)) == [True]


@pytest.mark.parametrize(
    ("row", "path"),
    [
        ({"kind": "sft", "prompt": QUESTION}, "prompt"),
        ({"kind": "sft", "prompt": OTHER, "reasoning": QUESTION}, "reasoning"),
        ({"kind": "preference", "prompt": OTHER, "rejected": QUESTION}, "rejected"),
        ({"messages": [{"role": "user", "content": text} for text in (OTHER, QUESTION)]}, "messages[1].content"),
        ({"messages": [{"role": "assistant", "content": OTHER, "reasoning": QUESTION}]}, "messages[0].reasoning"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"name": "a", "arguments": OTHER},
                                                              {"name": "b", "arguments": QUESTION}]}]},
            "messages[0].tool_calls[1].arguments",
        ),
        ({"kind": "code", "solutions": [{"code": OTHER}, {"code": QUESTION}]}, "solutions[1].code"),
    ],
)  # fmt: skip
def test_every_text_of_a_record_is_searched(row: dict[str, Any], path: str) -> None:
    decisions = run(stage(), records([{"text": OTHER}, row]), items([{"prompt": QUESTION}]))
    assert outcome(decisions) == [True, False]
    found = details(decisions)[1]
    assert found is not None
    assert found["path"] == path


def chat(*asked: str) -> dict[str, Any]:
    """A conversation with an answer to every question."""
    turns = [({"role": "user", "content": text}, {"role": "assistant", "content": "Sure."}) for text in asked]
    return {"kind": "sft", "messages": [turn for pair in turns for turn in pair]}


@pytest.mark.parametrize(
    "asked",
    [
        ("Name seven rivers in southern Sweden today", "Now sort them by their length"),
        ("Write a haiku about winter", "Make it funnier please", "Add one more line now"),
        ("Name three rivers", "Sort them now"),
    ],
)
def test_a_conversation_of_short_turns_is_found_in_its_copy(asked: tuple[str, ...]) -> None:
    table = records([chat(*asked), chat(asked[0], "Thanks, that will do."), chat(asked[-1])])
    decisions = run(stage(), table, items([chat(*asked)]))
    assert outcome(decisions) == [False, True, True]
    found = details(decisions)[0]
    assert found is not None
    assert found["path"] == "messages[user]"
    assert "\n".join(asked)[found["start"] : found["stop"]] == found["text"] == "\n".join(asked)


def test_a_question_within_one_of_several_turns_is_located_there() -> None:
    decisions = run(stage(), records([chat(OTHER, f"Hello. {QUESTION}", "Thanks.")]), items([{"prompt": QUESTION}]))
    found = details(decisions)[0]
    assert found is not None
    assert (found["path"], found["start"]) == ("messages[2].content", len("Hello. "))


def test_the_share_is_of_the_items_words_and_the_threshold_decides() -> None:
    words = QUESTION.split()
    half = " ".join(words[: len(words) // 2])
    against, table = items([{"prompt": QUESTION}]), text_rows(f"{filler(50)} {half} {filler(50, 1)}")
    decisions = run(stage(threshold=0.6, near=None), table, against)
    assert outcome(decisions) == [True]
    assert decisions.score is not None
    assert decisions.score[0] == pytest.approx(0.5, abs=0.03)
    assert decisions.reason[0].startswith("kept: question of items; item/0, ")
    assert outcome(run(stage(threshold=0.4, near=None), table, against)) == [False]
    assert stage(threshold=0.4, near=0.9, fields=["answer"], common=7).scoring() == stage().scoring()


def test_short_items_must_be_there_word_for_word() -> None:
    against = items([{"prompt": "Compute $2 + 3 \\cdot 4$."}, {"prompt": "Who wrote Hamlet?"}])
    table = records(
        [
            {"kind": "sft", "prompt": "compute $2+3 \\cdot 4$"},
            {"text": f"{filler(20)}\nCompute $2 + 3 \\cdot 4$.\n{filler(20)}"},
            {"text": f"{filler(20)} Compute $2 + 3 \\cdot 4$. {filler(20)}"},
            {"kind": "sft", "prompt": "Compute $2 - 3 \\cdot 4$."},
            {"kind": "sft", "prompt": "who wrote hamlet"},
            {"text": f"{filler(20)}\nWho wrote Hamlet?\n{filler(20)}"},
        ]
    )
    decisions = run(stage(), table, against)
    assert outcome(decisions) == [False, False, True, True, False, True]
    assert decisions.reason[0] == "contaminated: question of items; item/0, word for word"


def test_a_reworded_question_is_a_near_copy() -> None:
    words = QUESTION.split()
    reworded = " ".join("apples" if k % 14 == 7 else word for k, word in enumerate(words))
    decisions = run(stage(near=0.2, threshold=1), text_rows(reworded), items([{"prompt": QUESTION}]))
    assert decisions.reason[0].startswith("contaminated: near copy of question of items; item/0, Jaccard 0.")
    assert outcome(run(stage(near=None, threshold=1), text_rows(reworded), items([{"prompt": QUESTION}]))) == [True]


def test_phrases_of_many_items_are_not_telling() -> None:
    phrase = "Write a function that takes a list of integers and returns"
    ends = [
        "the longest run of equal neighbours",
        "every second prime among its members",
        "its median without sorting it",
    ]
    prompts = [f"{phrase} {ends[k % 3]} under the rule called {filler(6, k)}." for k in range(40)]
    table = text_rows(f"{phrase} the sum of the squares of all the odd ones.", f"Please: {prompts[17]}")
    decisions = run(stage(), table, items([{"prompt": prompt} for prompt in prompts]))
    assert outcome(decisions) == [True, False]
    assert decisions.reason[0] == "kept: nothing in common"
    assert decisions.related_id is not None
    assert decisions.related_id[1] == "item/17"


LICENCE = (
    "Licensed under the Apache License, Version 2.0 (the License); you may not use this file except in compliance with "
    "the License. You may obtain a copy of the License at the address below. Unless required by applicable law or "
    "agreed to in writing, software distributed under the License is distributed on an as is basis."
)


def test_phrases_of_many_records_do_not_count_but_copies_do() -> None:
    item = f"{LICENCE} {OTHER}"
    licensed = [f"{LICENCE} {filler(200, seed)}" for seed in range(60)]
    copies = [f"{item} {filler(20, seed)}" for seed in range(100, 160)]
    decisions = run(stage(common=50, near=None), text_rows(*licensed, *copies), items([{"prompt": item}]))
    assert outcome(decisions) == [True] * 60 + [False] * 60
    assert "60 records" in decisions.warnings[0]
    alone = run(stage(common=None, near=None), text_rows(*licensed), items([{"prompt": item}]))
    assert not any(outcome(alone))
    assert alone.warnings == ()


def test_many_copies_of_one_content_are_no_common_phrase() -> None:
    item = f"{LICENCE} {OTHER}"
    text = f"{LICENCE} {filler(50)}"
    table = records([{"text": text, "content_hash": "0" * 32} for _ in range(80)])
    assert not any(outcome(run(stage(common=50, near=None), table, items([{"prompt": item}]))))


CODE = '''
def separate(paren_string: str) -> List[str]:
    """ Splits groups of parentheses. """
    result = []
    current_string = []
    current_depth = 0
    for c in paren_string:
        if c == '(':
            current_depth += 1
            current_string.append(c)
        elif c == ')':
            current_depth -= 1
            current_string.append(c)
            if current_depth == 0:
                result.append(''.join(current_string))
                current_string.clear()
    return result
'''


def renamed(code: str) -> str:
    names = {"separate": "f", "paren_string": "s", "result": "out", "current_string": "buf", "current_depth": "level"}
    for old, new in names.items():
        code = code.replace(old, new)
    return code.replace(" c ", " ch ").replace("(c)", "(ch)").replace('"""', "'''").replace("'('", '"("')


def code_items() -> pa.Table:
    return items([{"kind": "code", "prompt": "def separate", "solutions": [{"code": CODE}]}])


def test_renamed_variables_do_not_hide_a_solution() -> None:
    answer = f"Sure, don't worry:\n```python\n# groups\n{renamed(CODE)}```\nHope it's what you want."
    decisions = run(stage(), records([{"kind": "sft", "prompt": "x", "completion": answer}]), code_items())
    assert outcome(decisions) == [False]
    assert decisions.reason[0].startswith("contaminated: code in answer of items; item/0, 100%")
    found = details(decisions)[0]
    assert found is not None
    assert answer[found["start"] : found["stop"]] == renamed(CODE).strip()


def test_names_that_repeat_differently_are_another_program() -> None:
    names = ("paren_string", "result", "current_string", "current_depth")
    same = regex.sub(rf"\b({'|'.join(names)}|c)\b", "x", CODE)
    assert outcome(run(stage(), text_rows(same), code_items())) == [True]


def test_batch_size_and_threads_of_rows_do_not_matter() -> None:
    rng = random.Random(3)
    questions = [f"{filler(40, seed)}?" for seed in range(30)]
    texts = [f"{filler(30, 99 + k)} {rng.choice(questions)[: rng.randrange(300)]} Ünï\u0308cödé" for k in range(200)]
    table, against = text_rows(*texts), items([{"prompt": question} for question in questions])
    results = [score(stage(), table, against, size)._scores for size in (1, 7, 200)]
    assert results[0] == results[1] == results[2]
    assert results[0].column("question").null_count < 150


def test_composed_and_decomposed_letters_are_the_same() -> None:
    item = "Où est la bibliothèque de l'université où les élèves préparent leurs thèses très tôt l'été près du marché?"

    text = f"Avant: e\u0301. {unicodedata.normalize('NFD', item)} après"
    decisions = run(stage(), text_rows(text), items([{"prompt": item}]))
    assert outcome(decisions) == [False]
    found = details(decisions)[0]
    assert found is not None
    assert unicodedata.normalize("NFC", text[found["start"] : found["stop"]]) == item.rstrip("?")


def test_nothing_to_compare() -> None:
    table = records([{"text": ""}, {"kind": "sft", "prompt": None}, {"messages": []}])
    assert all(outcome(run(stage(), table, items([{"prompt": QUESTION}, {"prompt": ""}, {"text": None}]))))


def test_equal_questions_are_named_once() -> None:
    decisions = run(stage(), text_rows(QUESTION), items([{"prompt": QUESTION}] * 30))
    assert decisions.related_id is not None
    assert list(decisions.related_id) == ["item/0"]


def test_parameters_that_contradict() -> None:
    with pytest.raises(ValueError, match="longer than ngram"):
        stage(ngram=8, short_ngram=9)
