"""The `targets` stage without a model: final results, loops, responses taken apart, modes r1 and r2."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pools import MemoryPool, records
from pydantic import ValidationError
from tokenizers import Tokenizer, models, pre_tokenizers

from schemas.errors import RecipeError
from schemas.record import CONTENT_COLUMNS, content_hash, content_of
from stages.targets.agree import disagreement
from stages.targets.loops import longest_loop, words_of
from stages.targets.response import cut_off, split, unfinished
from stages.targets.results import Result, final_result, result_line, same_result, same_value, without_result_line
from stages.targets.stage import RESULT, Targets

ANY_TEXT = st.one_of(st.text(max_size=40), st.text(alphabet="0123456789./,-%()[]{}\\ $xfrac", max_size=40))

# Final results


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("so \\boxed{\\frac{1}{2}} and \\boxed{\\text{(D)}}", ("letter", "D")),
        ("thus $\\boxed{x^{2}+1}$.", ("stated", "x^{2}+1")),
        ("3 + 4 = 7\n#### 7", ("stated", "7")),
        ("hm <answer> Paris </answer> ok", ("stated", "Paris")),
        ("It is 5, so **the answer is (C)**.", ("letter", "C")),
        ("The correct option is B because A is wrong.", ("letter", "B")),
        ("Answer: 3.14 meters. More text", ("stated", "3.14 meters")),
        ("因此正确答案：D", ("letter", "D")),
        ("A\n", ("letter", "A")),
        ("Steps.\nFinal result: **12**", ("stated", "12")),
        ("```python\nprint(1)\n```\nThat is it.", ("code", "print(1)\n")),
        ("There were 3 of them. So she has 1,250 apples left.", ("number", "1,250")),
    ],
)
def test_final_results(text: str, expected: tuple[str, str]) -> None:
    assert final_result(text) == Result(*expected)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["", "Hello there.", "Steps 1 and 2.\nFinal result: none", "In 1984 he left. Then he wrote."]
)
def test_no_final_result(text: str) -> None:
    assert final_result(text) is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("1/2", "0.5", True), ("\\frac{1}{2}", "\\dfrac12", True), ("50\\%", "0.5", True), ("50%", "50", True),
        ("$1{,}000$", "1000", True), ("1,000", "1000", True), ("1,000", "1000.0", True), ("x = 5", "5", True),
        ("(1, 2)", "\\left(1,2\\right)", True), ("(1, 2)", "(2, 1)", False), ("-3", "−3", True),
        ("2\\pi", "2 \\pi", True),
        ("\\text{east}", "East", True), ("90^\\circ", "90", True), ("1/3", "0.333333", False), ("7", "8", False),
        ("1/0", "1/0", True), ("[0, 1)", "[0, 1)", True), ("12 cm", "12\\text{ cm}", True), ("+4", "4", True),
        ("(3,4]", "[3,4)", False), ("(1,2)", "[1,2]", False), ("(3,4]", "3,4", False), ("(1,2)", "1,2", True),
        ("\\{1,2\\}", "1,2", True), ("(5)", "[5]", True), ("\\left(0, \\frac12\\right]", "(0, 0.5]", True),
    ],
)  # fmt: skip
def test_values_are_compared_as_mathematics(one: str, other: str, same: bool) -> None:
    assert same_value(one, other) is same
    assert same_value(other, one) is same


@given(st.integers(-(10**6), 10**6), st.integers(1, 999))
def test_a_fraction_equals_itself_however_written(above: int, below: int) -> None:
    sign = "-" if above < 0 else ""
    written = f"{sign}\\frac{{{abs(above)}}}{{{below}}}"
    assert same_value(f"{above}/{below}", written)
    assert not same_value(f"{above + 1}/{below}", written)


@given(ANY_TEXT, ANY_TEXT)
def test_results_of_any_text_can_be_compared(one: str, other: str) -> None:
    assert same_value(one, one)
    assert same_value(one, other) == same_value(other, one)
    found = final_result(one)
    assert found is None or same_result(found, found)


def test_a_number_of_any_length_is_just_text() -> None:
    assert same_value("9" * 5_000, "9" * 5_000)
    assert not same_value("9" * 5_000, "8" * 5_000)


def test_code_is_equal_whatever_its_comments_and_blank_lines() -> None:
    one, other = Result("code", "# add\nx = 1 \n\ny = 2\n"), Result("code", "x = 1\ny = 2")
    assert same_result(one, other)
    assert not same_result(one, Result("code", "x = 1\n y = 2"))
    assert not same_result(one, Result("stated", "x = 1\ny = 2"))


def test_the_result_line_can_be_taken_out() -> None:
    text = "We add.\nFinal result: $7$\n"
    assert result_line(text) == "$7$"
    assert without_result_line(text) == "We add."


@pytest.mark.parametrize(
    ("answer", "summary", "differs"),
    [
        ("So \\boxed{42}.", "We add.\nFinal result: 42.0", None),
        ("So \\boxed{42}.", "We add.\nFinal result: 41", "41, not 42"),
        ("So \\boxed{42}.", "We add 40 and 2.", "none, not 42"),
        ("The answer is (D).", "It is D.\nFinal result: D. 17 m", None),
        ("The answer is (D).", "Final result: none", "none, not D"),
        ("A poem about the sea.", "First the sea.\nFinal result: none", None),
        ("A poem about the sea.", "x\nFinal result: a river", "a river, which the answer does not have"),
        ("The capital is Paris.", "x\nFinal result: Paris", None),
        ("So she has 18 apples.", "x\nFinal result: 18", None),
        ("So she has 18 apples.", "x\nFinal result: 17", "17, which the answer does not have"),
        ("So she has 18 apples.", "x\nFinal result: none", None),
        ("```\nx = 1\n```", "We set x.\nFinal result: none", None),
        ("```\nx = 1\n```", "```\nx = 1\n```\nFinal result: none", None),
        ("```\nx = 1\n```", "```\nx = 2\n```\nFinal result: none", "code that the answer does not have"),
    ],
)
def test_summaries_must_agree_with_the_answer(answer: str, summary: str, differs: str | None) -> None:
    assert disagreement(answer, summary) == differs


# Loops


@given(
    st.lists(st.sampled_from("abcde"), min_size=1, max_size=12), st.integers(2, 12),
    st.lists(st.sampled_from("vwxyz"), max_size=30), st.lists(st.sampled_from("VWXYZ"), max_size=30),
)  # fmt: skip
def test_a_passage_that_occurs_k_times_is_a_loop(
    passage: list[str], k: int, before: list[str], after: list[str]
) -> None:
    words = [*before, *passage * k, *after]
    found = longest_loop(words, k, len(passage) * k)
    assert found is not None
    assert found.words >= len(passage) * k
    assert found.times >= k


@given(st.lists(st.sampled_from("ab"), max_size=60), st.integers(2, 5), st.integers(2, 30))
def test_a_loop_is_what_brute_force_finds(words: list[str], times: int, least: int) -> None:
    best = 0
    for n in range(1, len(words) // times + 1):
        for start in range(len(words) - n):
            end = start + n
            while end < len(words) and words[end] == words[end - n]:
                end += 1
            if end - start >= max(least, n * times) and end - start > n:
                best = max(best, end - start)
    found = longest_loop(words, times, least)
    assert (found.words if found else 0) == best


def test_words_in_scripts_without_spaces_are_characters() -> None:
    assert words_of("我们，2 cats") == ["我", "们", "，", "2", "cats"]


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_ascii_words_are_the_same_beside_other_scripts(text: str) -> None:
    assert [*words_of(text), "我"] == words_of(f"{text} 我")


def test_ordinary_prose_does_not_loop() -> None:
    rng = random.Random(0)
    words = [
        rng.choice(["the", "a", "of", "wait", "so", "then", "we", "have", "that", "is", "it"]) for _ in range(5_000)
    ]
    assert longest_loop(words, 4, 60) is None


# Responses


@pytest.mark.parametrize(
    ("text", "thought", "answer", "fault"),
    [
        ("<think>\nhm\n</think>\n\nYes.", "hm", "Yes.", None),
        ("hm</think>Yes.", "hm", "Yes.", None),
        ("Sure. <think>hm</think> Yes.", "hm", "Sure.\n\nYes.", None),
        ("<think></think>Yes.", "", "Yes.", None),
        ("Yes.", "", "Yes.", None),
        ("<think>hm", "", "<think>hm", "think block not closed"),
        ("</think> <think>", "", "</think> <think>", "think block not closed"),
        ("<think>a</think>b<think>c</think>", "", None, "several think blocks"),
        ("<think>a<think>b</think>", "", None, "think block not closed"),
    ],
)
def test_texts_are_taken_apart(text: str, thought: str, answer: str | None, fault: str | None) -> None:
    said = split(text)
    assert (said.thought, said.answer, said.fault) == (thought, text if answer is None else answer, fault)
    assert said.thinks == ("think>" in text)


def test_a_thought_beside_the_text_must_be_the_only_one() -> None:
    assert split("Yes.", " hm ").thought == "hm"
    assert split("a</think>Yes.", "hm").fault == "think tags in the answer"


@pytest.mark.parametrize(
    ("meta", "reason"),
    [
        (None, None), ("{}", None), ('{"finish_reason": "stop"}', None), ('{"finish_reason": "length"}', "length"),
        ('{"choices": [{"finish_reason": "length"}]}', "length"), ('{"response": {"stop_reason": "end_turn"}}', None),
        ('{"stop_reason": "max_tokens"}', "max_tokens"), ('{"finish_reason": 1}', None), ("[1]", None),
        ('{"choices": []}', None), ('{"loss": Infinity, "finish_reason": "length"}', "length"),
    ],
)  # fmt: skip
def test_finish_reasons(meta: str | None, reason: str | None) -> None:
    assert unfinished(meta) == reason


def test_open_code_fences_are_cut_off() -> None:
    assert cut_off("```python\nx = 1")
    assert not cut_off("```python\nx = 1\n```\n")
    assert not cut_off("Install it:\n```pip install x```\nand you are done.")
    assert cut_off("```pip install x```\nThen run\n```python\nx = 1")
    assert not cut_off("````md\n```py\nx\n````\n")
    assert not cut_off("```\nx = 1\n``` and so on")  # cut off nowhere, if not closed as Markdown wants it


# The stage


def rewritten(row: dict[str, Any], **parameters: Any) -> dict[str, Any]:
    """The result columns of one record."""
    stage = Targets(**parameters)
    batch = records([row]).select(list(stage.reads)).combine_chunks().to_batches()[0]
    result = next(stage.stream(iter([batch]), {}, Path("/nonexistent")))
    assert result.schema.equals(RESULT)
    found: dict[str, Any] = result.to_pylist()[0]
    return found


PAIR = {"kind": "sft", "prompt": "6 * 7?", "reasoning": "six times seven is 42", "completion": "It is 42."}
CHAT = {
    "kind": "sft",
    "messages": [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello", "reasoning": "greet"},
        {"role": "user", "content": "6 * 7?"},
        {"role": "assistant", "content": "<think>six times seven</think>\n\nIt is 42."},
    ],
}


def test_r1_leaves_the_record_as_it_is() -> None:
    for row in (PAIR, CHAT):
        found = rewritten(row, mode="r1")
        table = records([row]).to_pylist()[0]
        after = {**table, **{name: found[name] for name in ("messages", "completion", "reasoning")}}
        hashes = [content_hash(content_of({name: each[name] for name in CONTENT_COLUMNS})) for each in (table, after)]
        assert hashes[0] == hashes[1]
        assert found["rewrite_status"] == "r1: original response"


def test_r2_is_the_answer_alone() -> None:
    found = rewritten(PAIR)
    assert (found["completion"], found["reasoning"], found["rewrite_status"]) == ("It is 42.", None, "r2: answer alone")
    assert (found["tokens_r1"], found["tokens_r2"], found["tokens_r3"]) == (5 + 4, 4, None)
    chat = rewritten(CHAT)["messages"]
    assert [turn["content"] for turn in chat] == ["hi", "hello", "6 * 7?", "It is 42."]
    assert all(turn["reasoning"] is None for turn in chat)


@pytest.mark.parametrize("made", [PAIR, CHAT])
def test_a_target_is_chosen_once(made: dict[str, Any]) -> None:
    once = rewritten(made)
    again = rewritten({**made, **{name: once[name] for name in ("messages", "completion", "reasoning")}})
    assert again["rewrite_status"] == "unchanged: no reasoning"
    assert all(again[name] == once[name] for name in ("messages", "completion", "reasoning"))


def test_r2_keeps_tool_calls_and_prompts() -> None:
    call = {"id": "c", "name": "f", "arguments": "{}"}
    turns = [
        {"role": "user", "content": "q"}, {"role": "assistant", "reasoning": "hm", "tool_calls": [call]},
        {"role": "tool", "content": "<think>no</think>", "tool_call_id": "c"},
        {"role": "assistant", "content": "done", "reasoning": "so"},
    ]  # fmt: skip
    chat = rewritten({"kind": "sft", "messages": turns})["messages"]
    assert chat[1]["tool_calls"] == [call]
    assert chat[2]["content"] == "<think>no</think>"
    prompted = rewritten({**PAIR, "prompt": None, "messages": [{"role": "user", "content": "q"}]})
    assert (prompted["completion"], prompted["messages"][0]["content"]) == ("It is 42.", "q")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"completion": "", "reasoning": "hm"}, "bad: no answer"),
        ({"completion": "<think>hm and on", "reasoning": None}, "bad: think block not closed"),
        ({"completion": "<think>a</think>b<think>c</think>d", "reasoning": None}, "bad: several think blocks"),
        ({"meta": '{"finish_reason": "length"}'}, "bad: generation did not finish; finish reason length"),
        ({"completion": "```\nx"}, "bad: answer cut off; a code fence is open"),
        ({"completion": "so it goes " * 30}, "bad: the answer loops"),
        ({"reasoning": None}, "unchanged: no reasoning"),
        ({"completion": None, "reasoning": None}, "unchanged: no response"),
    ],
)
@pytest.mark.parametrize("mode", ["r1", "r2"])
def test_what_is_no_target_stays_or_goes(change: dict[str, Any], status: str, mode: str) -> None:
    row = {**PAIR, **change}
    found = rewritten(row, mode=mode)
    assert found["rewrite_status"] == status
    assert (found["completion"], found["reasoning"]) == (row["completion"], row["reasoning"])
    for on_bad in ("keep", "drop"):
        decisions = Targets(mode=mode, on_bad=on_bad).decide(
            MemoryPool(records([row]), pa.Table.from_pylist([found], RESULT))
        )
        assert decisions.keep.tolist() == [on_bad == "keep" or not status.startswith("bad")]
        assert pa.array(decisions.reason).to_pylist() == [status]


def test_decisions_tell_the_tokens_of_every_target() -> None:
    found = pa.Table.from_pylist([rewritten(PAIR)], RESULT)
    decisions = Targets().decide(MemoryPool(records([PAIR]), found))
    assert decisions.score is not None
    assert decisions.detail is not None
    assert decisions.score.tolist() == [4.0]
    assert json.loads(pa.array(decisions.detail)[0].as_py()) == {"tokens_r1": 9, "tokens_r2": 4}
    assert Targets(on_bad="drop").scoring() == Targets().scoring()


def test_a_looping_thought_is_not_trained_on() -> None:
    row = {**PAIR, "reasoning": "First " + "Wait, let me check that again. " * 20}
    found = rewritten(row, mode="r1")
    assert found["rewrite_status"].startswith("r2 instead of r1: the thought loops; 160 words repeat 20.0 times 'Wait")
    assert (found["completion"], found["reasoning"], found["loop_words"]) == ("It is 42.", None, 160)
    assert rewritten(row)["rewrite_status"] == "r2: answer alone"
    assert rewritten(row, mode="r1", loop_times=21)["rewrite_status"] == "r1: original response"
    assert rewritten(row, mode="r1", loop_words=161)["rewrite_status"] == "r1: original response"


def test_an_empty_think_block_is_taken_out() -> None:
    found = rewritten({**PAIR, "reasoning": None, "completion": "<think>\n\n</think>\n\nIt is 42."})
    assert (found["completion"], found["rewrite_status"]) == ("It is 42.", "r2: answer alone")


def test_tokens_are_the_tokenizers(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"[U]": 0}, unk_token="[U]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    found = rewritten(PAIR, tokenizer=str(tmp_path))
    assert (found["tokens_r1"], found["tokens_r2"]) == (5 + 3, 3)
    with pytest.raises(RecipeError, match="is not a tokenizer"):
        Targets(tokenizer=str(tmp_path / "none.json")).check()


def test_modes_without_a_model_do_not_depend_on_one() -> None:
    summariser = {"url": "http://127.0.0.1:9/v1", "model": "m"}
    assert Targets(mode="r2", summariser=summariser).scoring() == Targets(mode="r2").scoring()
    assert Targets(mode="r2").estimate(pa.table({}), 10) == {}
    with pytest.raises(ValidationError, match="needs a `summariser`"):
        Targets(mode="r3")


# Real traces


def traces(folder: Path, name: str) -> pa.Table:
    import gzip

    from schemas.adapters import adapt, adapter, detect

    lines = gzip.decompress((folder / "traces" / name).read_bytes()).decode().split("\n")
    raw = [json.loads(line) for line in lines if line]
    fitting = adapter(detect(raw[:50]).adapter)
    drafts = [dict(draft) for row in raw for draft in adapt(row, fitting)]
    return records([{**draft, "meta": json.dumps(draft.get("meta"))} for draft in drafts])


def all_rewritten(table: pa.Table, **parameters: Any) -> list[dict[str, Any]]:
    stage = Targets(**parameters)
    batch = table.select(list(stage.reads)).combine_chunks().to_batches()[0]
    found: list[dict[str, Any]] = stage.rewrite(batch, {}).to_pylist()
    return found


def test_pcmb_traces_are_all_targets(shared_data: Path) -> None:
    table = traces(shared_data, "deepseek_pcmb_traces_part1.jsonl.gz")
    assert {row["rewrite_status"] for row in all_rewritten(table, mode="r1")} == {"r1: original response"}
    found = all_rewritten(table)
    assert {row["rewrite_status"] for row in found} == {"r2: answer alone"}
    assert [row["completion"] for row in found] == [text.strip() for text in table["completion"].to_pylist()]
    assert all(row["reasoning"] is None for row in found)
    golds = table["answer"].to_pylist()
    assert [final_result(row["completion"]) for row in found] == [Result("letter", gold) for gold in golds]


def test_final_results_of_qwen_samples_agree_with_their_judge(shared_data: Path) -> None:
    table = traces(shared_data, "qwen_math_cot_100.jsonl.gz")
    assert len(table) == 800
    for row in table.select(["completion", "answer", "reward"]).to_pylist():
        found = final_result(row["completion"])
        same = found is not None and same_value(found.value, row["answer"])
        assert same is (row["reward"] == 1.0) or "{,}" in row["answer"]  # their judge takes 10{,}000 for no number
    assert {row["rewrite_status"] for row in all_rewritten(table)} == {"unchanged: no reasoning"}


def test_tool_use_with_reasoning_in_every_turn(shared_data: Path) -> None:
    table = traces(shared_data, "llamafactory_reason_tool_use_50.jsonl.gz")
    found = all_rewritten(table)
    kinds = [row["rewrite_status"].partition(";")[0] for row in found]
    assert (kinds.count("r2: answer alone"), kinds.count("bad: no answer")) == (37, 11)  # 11 end in a tool call
    assert kinds.count("bad: think tags in the answer") == 2
    for row, before in zip(found, table["messages"].to_pylist(), strict=True):
        if row["rewrite_status"].startswith("bad"):
            assert row["messages"] == before
        else:
            assert [{**turn, "reasoning": None} for turn in before] == row["messages"]
