"""The pure parts of `reflect`: turns, prompts, reading replies, gates."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import RecipeError
from stages.fences import Block, fenced
from stages.reflect.checked import check_failure, keeps_instruction
from stages.reflect.finals import states
from stages.reflect.gates import Gates, is_empty, refusal_of, similarity
from stages.reflect.language import language_of, same_language
from stages.reflect.parsing import Unparsed, mark_for, parse
from stages.reflect.prompts import SHIPPED, Checks, json_schema, read_template, request
from stages.reflect.selecting import Measure, misaligned, worse_answer, worse_instruction
from stages.reflect.turns import Pair, Turn, read_turn, replaced
from stages.reflect.work import LIMITS
from stages.sandbox import Sandbox

MARK = "0a1b2c3d"
OLD = Pair("Explain how tides come about.", "The moon pulls the water of the ocean, so that it rises twice a day.")
NEW = Pair(
    "Explain how tides come about, and why there are two a day instead of one.",
    "The moon pulls the near ocean more strongly than the Earth, and the Earth more strongly than the far ocean: both "
    "sides bulge, and a coast passes under each bulge once while the Earth turns.",
)
both = ("instruction", "answer")


def sections(**parts: str) -> str:
    return "\n".join(f"[[{MARK} {name}]]\n{text}\n[[{MARK} end]]" for name, text in parts.items())


def message(role: str, content: str | None, **more: object) -> dict[str, object]:
    return {"role": role, "content": content, **more}


# Turns


def test_prompt_and_completion_are_a_turn() -> None:
    row = {"kind": "sft", "prompt": "Q", "completion": "A"}
    assert read_turn(row) == Turn(Pair("Q", "A"))
    assert replaced(row, Pair("Q2", "A2")) == {"prompt": "Q2", "completion": "A2"}


def test_the_last_turn_of_a_conversation_is_rewritten_and_the_rest_stays() -> None:
    said = [message("system", "Be brief."), message("user", "Hi"), message("assistant", "Hello"),
            message("user", "Q", name="eve"), message("assistant", "A", weight=1.0)]  # fmt: skip
    row = {"kind": "sft", "messages": said}
    assert read_turn(row) == Turn(Pair("Q", "A"), "Be brief.", (("user", "Hi"), ("assistant", "Hello")))
    after = replaced(row, Pair("Q2", "A2"))["messages"]
    assert after[:3] == said[:3]
    assert after[3:] == [message("user", "Q2", name="eve"), message("assistant", "A2", weight=1.0)]


def test_a_code_problem_is_answered_by_its_solution() -> None:
    row = {"kind": "code", "prompt": "Q", "language": "python", "solutions": [{"code": "print(1)\n"}]}
    turn = read_turn(row)
    assert isinstance(turn, Turn)
    assert turn.pair.answer == "```python\nprint(1)\n```"
    assert keeps_instruction(row)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"kind": "text", "text": "x"}, "not an instruction"),
        ({"kind": "preference", "prompt": "Q", "completion": "A", "rejected": "B"}, "not an instruction"),
        ({"kind": "trajectory", "messages": [message("user", "Q"), message("assistant", "A")]}, "not an instruction"),
        ({"kind": "sft", "prompt": "Q"}, "no answer"),
        ({"kind": "sft", "prompt": "Q", "completion": " \n"}, "no answer"),
        ({"kind": "sft", "prompt": " ", "completion": "A"}, "not an instruction"),
        ({"kind": "sft", "prompt": "Q", "completion": "A", "reasoning": "because"}, "has reasoning"),
        ({"kind": "sft", "messages": [message("user", "Q")]}, "no answer"),
        ({"kind": "sft", "messages": [message("assistant", "A")]}, "not an instruction"),
        ({"kind": "sft", "messages": [message("user", "Q"), message("assistant", "A", weight=0.0)]},
         "answer not trained on"),
        ({"kind": "sft", "messages": [message("user", "Q"), message("assistant", "", tool_calls=[{"name": "f"}]),
                                      message("tool", "1", tool_call_id="a"), message("assistant", "A")]},
         "uses tools"),
    ],
)  # fmt: skip
def test_what_is_no_instruction_with_an_answer_stays(row: dict[str, object], reason: str) -> None:
    assert read_turn(row) == reason


# Prompts


@pytest.mark.parametrize("call", ["instruction", "response"])
def test_a_prompt_shows_the_whole_turn_between_marks_of_its_own(call: str) -> None:
    template = read_template(call, SHIPPED[call])  # type: ignore[arg-type, index]
    turn = Turn(Pair("Q {{ example }} {% raw %}", "[[ end ]]"), "Be brief.", (("user", "Hi"),))
    asked, mark = request(template, turn, Checks(tested=True, final_form="####"))
    text = asked.messages[0]["content"]
    for name, said in (("system prompt", "Be brief."), ("earlier turn of the user", "Hi"), ("answer", "[[ end ]]")):
        assert f"[[{mark} {name}]]\n{said}\n[[{mark} end]]" in text
    assert "Q {{ example }} {% raw %}" in text
    assert asked.json_schema == json_schema(call)  # type: ignore[arg-type]
    assert asked.template == template.version
    again, _ = request(template, turn, Checks(), sections=True)
    assert again.json_schema is None
    assert again.key("m") != asked.key("m")


def test_prompts_name_the_published_criteria() -> None:
    turn = Turn(OLD)
    first = request(read_template("instruction", SHIPPED["instruction"]), turn, Checks())[0].messages[0]["content"]
    second = request(read_template("response", SHIPPED["response"]), turn, Checks())[0].messages[0]["content"]
    for word in ("complex", "detail", "knowledge", "more than one way", "logical reasoning"):
        assert word in first
    for word in ("helpful", "relevant", "accurate", "level of detail"):
        assert word in first
        assert word in second
    assert "####" not in second
    assert "tests" not in second


def test_a_template_of_ones_own_is_versioned_by_content(tmp_path) -> None:
    path = tmp_path / "mine.j2"
    path.write_text("{{ example }}\n{{ format }}")
    one = read_template("response", path)
    path.write_text("{{ example }}\n\n{{ format }}")
    assert one.version.startswith("mine@")
    assert read_template("response", path).version != one.version


@pytest.mark.parametrize("text", ["{{ example }}", "{{ format }} {{ exmple }} {{ example }}", "{% if %}",
                                  "{{ ''.__class__.__mro__ }}{{ example }}{{ format }}"])  # fmt: skip
def test_a_template_that_cannot_work_is_refused(tmp_path, text: str) -> None:
    (tmp_path / "mine.j2").write_text(text)
    with pytest.raises(RecipeError, match=r"mine\.j2"):
        read_template("response", tmp_path / "mine.j2")


# Reading replies


def test_json_in_every_dress() -> None:
    plain = json.dumps({"critique": "ok", "instruction": "Q", "answer": "A"})
    dressed = (plain, f"```json\n{plain}\n```", f"<think>{{}} hm</think>\n{plain}", f"Sure! {plain} Bye.",
               '{"critique": "a\nb", "instruction": "Q", "answer": "A"}')  # fmt: skip
    for text in dressed:
        assert parse(text, MARK, None) == Pair("Q", "A")
    assert parse(plain, MARK, "mine") == Pair("mine", "A")


@pytest.mark.parametrize(
    "answer", ["Call the Endpoint", "N/A is a code; the End of it", "[[end]]\n[[ end ]]\nend\nEnd"]
)
def test_sections_end_only_at_their_mark(answer: str) -> None:
    """A pattern that ends at `End` makes `Call the` of `Call the Endpoint`; `N/A` in an answer is no missing answer."""
    for text in (sections(critique="c", answer=answer), json.dumps({"critique": "", "answer": answer})):
        assert parse(text, MARK, "Q").answer == answer
    assert refusal_of(Pair("Q", "old"), Pair("Q", answer), Gates(), ("answer",)) is None


def test_a_new_instruction_is_never_paired_with_the_old_answer() -> None:
    for text in (sections(instruction="Q2"), json.dumps({"critique": "", "instruction": "Q2"}),
                 json.dumps({"instruction": "Q2", "answer": None})):  # fmt: skip
        with pytest.raises(Unparsed, match="no answer"):
            parse(text, MARK, None)


@pytest.mark.parametrize("text", ["", "Certainly!", "{", "[1, 2]", '{"answer": 3}', f"[[{MARK} answer]]\ncut off",
                                  sections(answer="one") + "\n" + sections(answer="two"), "{" * 5000])  # fmt: skip
def test_what_cannot_be_read_is_not_guessed(text: str) -> None:
    with pytest.raises(Unparsed):
        parse(text, MARK, "Q")


@given(st.lists(st.text(max_size=40), min_size=1, max_size=3))
def test_no_text_holds_its_mark(texts: list[str]) -> None:
    mark = mark_for(*texts)
    assert all(mark not in text for text in texts)
    assert mark == mark_for(*texts)
    assert len(mark) == 8


@given(st.text(min_size=1).filter(lambda text: text.strip()))
def test_any_answer_survives_json(answer: str) -> None:
    assert parse(json.dumps({"critique": "{}", "answer": answer}), MARK, "Q").answer == answer.strip()


# Gates


def test_a_good_rewrite_passes() -> None:
    assert refusal_of(OLD, NEW, Gates(), both) is None


@pytest.mark.parametrize(
    ("instruction", "answer", "reason"),
    [
        (NEW.instruction, "", "empty (answer)"),
        (NEW.instruction, " n/a. ", "empty (answer)"),
        ("", NEW.answer, "empty (instruction)"),
        (NEW.instruction, "I'm sorry, but I can't help with that. " + NEW.answer, "refusal (answer)"),
        (NEW.instruction, "As an AI language model, I know about tides. " + NEW.answer, "refusal (answer)"),
        (NEW.instruction, "The original answer lacked detail. " + NEW.answer, "leaked critique (answer)"),
        ("Here is the new instruction: " + NEW.instruction, NEW.answer, "leaked critique (instruction)"),
        (NEW.instruction + " {{ instruction }}", NEW.answer, "placeholder (instruction)"),
        (NEW.instruction, NEW.answer + " [Insert your answer here]", "placeholder (answer)"),
        (NEW.instruction, f"[[{MARK} answer]] " + NEW.answer, "placeholder (answer)"),
        (NEW.instruction, NEW.answer + "\n```python\nprint(1)\n", "unbalanced code fence (answer)"),
        (NEW.instruction, "月亮对近处海水的引力比对地球的引力更强，因此海水每天涨落两次。", "other language (answer)"),
        (NEW.instruction, "Der Mond zieht das nahe Wasser stärker an als die Erde, und die Erde stärker als das ferne: "
         "auf beiden Seiten ist ein Berg, und die Küste kommt an jedem einmal vorbei.", "other language (answer)"),
        (NEW.instruction, OLD.answer + "!", "near copy (answer)"),
        (OLD.instruction.upper(), NEW.answer, "near copy (instruction)"),
        (NEW.instruction, "The moon does.", "too short (answer)"),
        (NEW.instruction, NEW.answer * 20, "too long (answer)"),
        (NEW.instruction, NEW.instruction, "answer repeats the instruction"),
    ],
)  # fmt: skip
def test_every_gate(instruction: str, answer: str, reason: str) -> None:
    found = refusal_of(OLD, Pair(instruction, answer), Gates(), both)
    assert found is not None
    assert found.partition(";")[0] == reason


def test_gates_compare_with_the_original() -> None:
    """A text about critiques, templates or refusals may go on being about them."""
    about = Pair("What does {{ name }} do in Jinja?", "In Jinja {{ name }} is replaced. This critique is short.")
    new = Pair(
        "What does {{ name }} do in Jinja, and what if it is undefined?",
        "It prints the value of the variable called name: {{ name }}. An undefined one prints nothing. A critique of "
        "that: errors stay hidden.",
    )
    assert refusal_of(about, new, Gates(), both) is None
    none = Pair("Is there a capital?", "None.")
    assert refusal_of(none, Pair(none.instruction, "N/A"), Gates(), ("answer",)) is None


def test_bounds_are_parameters() -> None:
    assert refusal_of(OLD, Pair(OLD.instruction, OLD.answer + " Twice."), Gates(near_copy=1.0), ("answer",)) is None
    assert refusal_of(OLD, NEW, Gates(max_length_ratio=0.5), both) is not None
    german = Pair(NEW.instruction, "Der Mond zieht das nahe Wasser an, und die Erde ist nicht so nah bei ihm wie das "
                  "Wasser auf der einen Seite.")  # fmt: skip
    assert refusal_of(OLD, german, Gates(language=False), both) is None


@given(st.text(max_size=200), st.text(max_size=200))
def test_similarity_is_symmetric_and_bounded(one: str, other: str) -> None:
    assert similarity(one, other) == similarity(other, one)
    assert 0 <= similarity(one, other) <= 1
    assert similarity(one, one) == 1


def test_similarity_is_the_jaccard_index() -> None:
    assert similarity("abcdefg", "bcdefgh") == pytest.approx(2 / 4)  # abcde bcdef cdefg | bcdef cdefg defgh
    assert similarity("A  b\nc d", "a b c d") == 1


@pytest.mark.parametrize(("text", "empty"), [("", True), (" - ", True), ("N/A", True), ("None.", True), ("0", False),
                                             ("N/A for now", False), ("是", False)])  # fmt: skip
def test_what_counts_as_empty(text: str, empty: bool) -> None:
    assert is_empty(text) is empty


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The tide comes in twice a day, and it is the moon that pulls it.", "english"),
        ("月亮的引力使海水每天涨落两次。", "chinese"),
        ("潮の満ち引きは月の引力によって起こります。", "japanese"),
        ("조석은 달의 인력 때문에 생긴다.", "korean"),
        ("Приливы возникают из-за притяжения Луны.", "cyrillic"),
        ("Die Flut kommt zweimal am Tag, und es ist der Mond, der das Wasser zu sich zieht.", "german"),
        ("使用 TensorFlow 和 Keras 训练一个神经网络模型，然后保存。", "chinese"),
        ("```python\nprint('the of and to is in that')\n```", None),
        ("42", None),
        ("Lorem ipsum dolor sit amet consectetur", "latin"),
    ],
)
def test_languages(text: str, language: str | None) -> None:
    assert language_of(text) == language


def test_unknown_latin_text_is_like_any_latin_text() -> None:
    assert same_language("Lorem ipsum dolor sit amet consectetur", "The tide is in the bay and it is high.")
    assert not same_language("Lorem ipsum dolor sit amet consectetur", "Приливы возникают из-за Луны.")


def test_fences() -> None:
    text = "a\n```py\nx = '```'\n```\nb\n~~~~\n```\n~~~~\n"
    found = fenced(text)
    assert found.blocks == (Block("x = '```'\n", "python"), Block("```\n", ""))
    assert found.prose == "a\nb\n"
    assert found.balanced
    assert not fenced("```\nopen").balanced
    assert fenced("inline ```code``` here").balanced


# Checks


@pytest.mark.parametrize(
    ("solution", "answer", "right"),
    [("So 6 * 7 = 42.\n#### 42", "42", True), ("#### 41", "42", False), ("It is \\boxed{\\frac{1}{2}}.", "0.5", True),
     ("The answer is (C).", "C", True), ("We get 1,000 apples.", "1000", True), ("It may vary.", "42", False)],
)  # fmt: skip
def test_known_results_must_be_stated(solution: str, answer: str, right: bool) -> None:
    assert states(solution, answer) is right
    assert (check_failure({"answer": answer}, solution, None, LIMITS) is None) is right


PROBLEM = {
    "kind": "code", "prompt": "Read n and print its double.", "language": "python", "test_type": "stdio",
    "tests": [{"name": None, "input": f"{n}\n", "output": f"{2 * n}\n", "code": None, "file": None} for n in range(20)],
    "solutions": [{"code": "print(int(input()) * 2)", "language": "python", "verdict": None}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("Shift it:\n```python\nprint(int(input()) << 1)\n```", None),
        ("Add two:\n```python\nprint(int(input()) + 2)\n```", "tests fail"),
        ("Just double it.", "no program"),
        ("In C:\n```c\nint main() {}\n```", "program in another language"),
    ],
)
def test_new_programs_run_against_the_old_tests(answer: str, reason: str | None) -> None:
    with Sandbox() as sandbox:
        found = check_failure(PROBLEM, answer, sandbox, LIMITS)
    assert (found and found.partition(";")[0]) == reason


# Selection


def measure(log_ifd: float, log_r_ifd: float) -> Measure:
    return Measure(2 + log_ifd, 2.0, 3 + log_r_ifd, 3.0, 10, 5)


def test_ratios_are_of_perplexities() -> None:
    from math import exp

    found = Measure(1.5, 2.0, 2.5, 3.5, 10, 5)
    assert exp(found.log_ifd) == pytest.approx(exp(1.5) / exp(2.0))
    assert exp(found.log_r_ifd) == pytest.approx(exp(2.5) / exp(3.5))


def test_ties_do_not_replace() -> None:
    same = measure(-0.5, -0.5)
    assert worse_instruction(same, measure(-0.4, -0.5)) is None
    assert "IFD does not rise" in str(worse_instruction(same, same))
    assert worse_answer(same, measure(-0.5, -0.6)) is None
    assert "r-IFD does not fall" in str(worse_answer(same, same))
    assert misaligned(same) is None
    assert misaligned(measure(0.0, -0.5)) is not None
    assert misaligned(measure(-0.5, 0.0)) is not None


def test_a_loss_that_is_no_number_never_passes() -> None:
    nan = float("nan")
    assert worse_instruction(measure(-0.5, -0.5), measure(nan, -0.5)) is not None
    assert worse_answer(measure(-0.5, -0.5), measure(-0.5, nan)) is not None
    assert misaligned(measure(nan, -0.5)) is not None
