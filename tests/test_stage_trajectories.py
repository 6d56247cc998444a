"""The `trajectories` stage: reading runs in every notation, judging them, and ranking them within a task."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pools import records, run, score
from pydantic import ValidationError

from schemas.errors import RecipeError
from stages.contract import Decisions
from stages.trajectories.actions import Action, last_words, question, read_run
from stages.trajectories.gains import Gains, entity_scores, gains, required
from stages.trajectories.outcome import by_answer, by_reward, by_verdict, final_answer, same_answer
from stages.trajectories.stage import Trajectories
from stages.trajectories.tasks import at_least_median, ranks

Turn = dict[str, Any]


def says(text: str, *calls: tuple[str, str]) -> Turn:
    """An assistant turn with native tool calls."""
    made = [{"id": f"c{at}", "name": name, "arguments": given} for at, (name, given) in enumerate(calls)]
    return {"role": "assistant", "content": text, **({"tool_calls": made} if made else {})}


def tool(text: str, name: str | None = None) -> Turn:
    return {"role": "tool", "content": text, **({"tool_call_id": name} if name else {})}


def user(text: str) -> Turn:
    return {"role": "user", "content": text}


def calls_of(*messages: Turn) -> list[tuple[str, str, str | None]]:
    return [tuple(action) for action in read_run(messages).actions]


# Reading


def test_native_calls_are_paired_with_their_results_by_id() -> None:
    turns = [says("", ("a", '{"x": 1}'), ("b", "{}")), tool("second", "c1"), tool("first", "c0")]
    assert calls_of(*turns) == [("a", '{"x":1}', "first"), ("b", "{}", "second")]


def test_equal_arguments_are_equal_text_whatever_their_order_and_spaces() -> None:
    turns = [says("", ("a", '{"x": 1, "y": " two  words "}'), ("a", '{"y":"two words","x":1}'))]
    assert len(set(read_run(turns).actions)) == 1


def test_calls_as_json_in_the_text_with_several_responses() -> None:
    text = '<think><tool_call>{"name": "no"}</tool_call></think>'
    text += '<tool_call>\n{"name": "search", "arguments": {"q": "x"}}\n</tool_call>'
    text += '<tool_call>{"name": "visit", "arguments": {"url": "u"}}</tool_call>'
    answer = user("<tool_response>one</tool_response>\n<tool_response>two</tool_response>")
    assert calls_of(says(text), answer) == [("search", '{"q":"x"}', "one"), ("visit", '{"url":"u"}', "two")]


def test_a_malformed_call_is_a_call_too() -> None:
    assert calls_of(says("<tool_call>{oops</tool_call>"))[0][0] == "malformed"


def test_react_in_turns_and_in_one_text() -> None:
    turns = [
        says("Thought: hm\nAction: search[Kurt Gerron]"),
        user("Observation: born 1897"),
        says("Action: finish[x]"),
    ]
    assert calls_of(*turns) == [("search", "Kurt Gerron", "Observation: born 1897"), ("finish", "x", None)]
    text = "Thought: a\nAction: search[A]\nObservation: found\nmore\nThought: b\nAction: finish[B]\nObservation: done"
    one = read_run([user("q"), says(text)])
    assert one.actions == [Action("search", "A", "found\nmore"), Action("finish", "B", "done")]
    assert one.steps == 2


def test_react_with_action_input_over_several_lines() -> None:
    text = (
        'Thought: a\nAction: python\nAction Input: {"code":\n "1"}\nObservation: 1\nThought: done\nAction: Final Answer'
    )
    assert calls_of(says(text)) == [("python", '{"code":"1"}', "1")]


@pytest.mark.parametrize(
    ("text", "answer", "expected"),
    [
        ("<thought>t</thought>\n<execute>\nls  -l\n</execute>", user("Observation: x"), ("execute", "ls -l")),
        ("Let me look.\n```\nopen main.py\n```", user("[File]"), ("code", "open main.py")),
        ("<command>\nls\n</command>", user("x"), ("command", "ls")),
        ("<function=bash><parameter=c>ls</parameter></function>", user("x"), ("bash", "<parameter=c>ls</parameter>")),
        ("SELECT 1", tool("1"), ("action", "SELECT 1")),
    ],
)
def test_other_notations(text: str, answer: Turn, expected: tuple[str, str]) -> None:
    assert [action[:2] for action in calls_of(says(text), answer)] == [expected]


_MARKS = ["Action: ", "Action Input: ", "Observation: ", "<tool_call>", "</tool_call>", "```\n", "\n", "x[", "]", "{}"]
_MARKS += ["<think>", "</think>", "<execute>", "</execute>", "a b"]


@given(st.lists(st.lists(st.sampled_from(_MARKS)), max_size=6))
def test_any_text_can_be_read(texts: list[list[str]]) -> None:
    roles = ("assistant", "user", "tool")
    turns = [{"role": roles[at % 3], "content": "".join(text)} for at, text in enumerate(texts)]
    found = read_run(turns)
    assert found.steps >= sum(turn["role"] == "assistant" for turn in turns)
    gains(found.actions)


def test_a_long_run_in_one_text_is_read_in_time() -> None:
    text = "".join(f"Thought: t\nAction: search[q{at}]\nObservation: o{at}\n" for at in range(5_000))
    found = read_run([says(text)])
    assert (len(found.actions), found.steps) == (5_000, 5_000)
    assert found.actions[-1] == Action("search", "q4999", "o4999")


def test_talk_is_no_action() -> None:
    run_ = read_run([user("hi"), says("Hello, who are you?"), user("me"), says("```\ncode\n```")])
    assert run_.actions == []
    assert run_.steps == 2


def test_question_and_last_words() -> None:
    turns = [
        {"role": "system", "content": "s"},
        user("one"),
        user("two"),
        says("a"),
        user("three"),
        says("", ("t", "")),
    ]
    assert question(turns) == "one\ntwo"
    assert last_words(turns) == "a"


# Gains


def action(tool_: str, given: str, result: str | None) -> Action:
    return Action(tool_, given, result)


def test_gains_count_repeats_and_new_results() -> None:
    actions = [
        action("s", "a", "x"), action("s", "a", "x"), action("s", "a", "y"), action("s", "b", "x"),
        action("s", "c", ""), action("s", "d", ""), action("s", "e", None),
    ]  # fmt: skip
    assert gains(actions) == Gains(repeated=2, same_result=1, unique=4)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xy"), st.sampled_from(["1", "2", "", None]))))
def test_gains_add_up(made: list[tuple[str, str, str | None]]) -> None:
    actions = [Action(*each) for each in made]
    found = gains(actions)
    assert found.repeated == len(actions) - len({each[:2] for each in made})
    assert found.same_result <= found.repeated
    assert found.unique <= len(actions) - found.repeated
    assert (found.unique >= 1) == bool(actions)


def test_required_entities_in_every_form() -> None:
    assert required('["Marie Curie", "Pierre  CURIE"]') == [("marie curie",), ("pierre curie",)]
    assert required("Radium\nPolonium\n\n") == [("radium",), ("polonium",)]
    assert required([["NYC", "New York"], "Rome"]) == [("nyc", "new york"), ("rome",)]
    assert required(None) == required("") == []


def test_entities_count_on_visits_as_whole_words() -> None:
    turns = [
        user("q"),
        says("", ("web_search", '{"q":"x"}')), tool("Marie Curie, Pierre Curie and Irène"),
        says("", ("visit", '{"u":"1"}')), tool("About Marie-Curie. The curies. 东京塔很高"),
        says("done"),
    ]  # fmt: skip
    found = entity_scores(["Marie Curie", "Pierre Curie", "Curie", "塔"], turns, ("search",))
    assert found == {"n_required": 4, "n_found": 3, "isr": 3 / 4, "ise": 3 / 3}
    assert entity_scores(["Pierre Curie"], turns, ())["isr"] == 1.0


# Outcomes


def test_rewards_and_verdicts() -> None:
    assert by_reward(None, 1.0) is None
    assert by_reward(0.8, 1.0) == (False, "reward 0.8")
    assert by_reward(0.8, 0.5) == (True, "reward 0.8")
    assert by_verdict([{"verdict": None}]) is None
    assert by_verdict([{"verdict": "wrong_answer"}, {"verdict": "accepted"}]) == (True, "verdict accepted")
    assert by_verdict([{"verdict": "time_limit"}]) == (False, "verdict time_limit")


@pytest.mark.parametrize(
    ("gold", "given_", "same"),
    [
        ("Santa Claus", "It was **Santa Claus**, of course.", True),
        ("The Archers", "the archers", True),
        ("Yes", "Yes, it was published in 1949.", True),
        ("Yes", "No. Although some say yes.", False),
        ("5", "She took part in **5** Olympiads, from 1990.", True),
        ("5", "She took part in 15 Olympiads.", False),
        ("592,620", "592620", True),
        ("1/2", "0.5", True),
        ("D", "The answer is (D).", True),
        ("D", "A and D are close, but the answer is B.", False),
        ("Rome", "Romeo and Juliet", False),
        ("x", "", False),
        ("-5", "5", False),
        ("−5", "-5", True),
        ("-5 °C", "It was **-5 °C** at noon.", True),
        ("5 apples", "She owes -5 apples.", False),
        ("-0.5", "0.5", False),
        ("1/2", "1.2", False),
        ("x > 5", "x < 5", False),
        ("x > 50", "So x < 50 holds.", False),
        ("x ≤ 50", "x ≥ 50", False),
        ("C++", "C", False),
        ("C++", "c++", True),
        ("language C", "In the language C++.", False),
        ("2^3", "2*3", False),
        ("\\frac{1}{2}", "-\\frac{1}{2}", False),
        ("$-\\frac{1}{2}$", "-\\frac{1}{2}", True),
        ("(3, 4]", "[3, 4)", False),
        ("1939–1945", "1939-1945", True),
        ("March 5, 1990", "march 5 1990", True),
        ("COVID-19", "covid 19", True),
        ("The A-Team", "A-Team", True),
        ("Dr. Yulius, M.A.", "It is **Dr. Yulius, M.A.**, who spoke first.", True),
        ("a/b", "b", False),
        ("Ottoman Empire", "It was the **Ottoman** Empire.", True),
    ],
)
def test_answers(gold: str, given_: str, same: bool) -> None:
    assert same_answer(gold, given_) is same


def test_a_run_that_hands_in_the_answer_with_the_wrong_sign_is_wrong() -> None:
    turns = [user("Compute 2-7"), says("Action: calculator[7-2]"), user("Observation: 5"), says("Action: finish[5]")]
    decisions = judge([{"kind": "trajectory", "answer": "-5", "messages": turns}])
    assert pa.array(decisions.reason).to_pylist() == ["not successful; answer '-5', given '5'"]


def test_what_a_run_hands_in() -> None:
    assert (
        final_answer([action("finish", "Boston Celtics", None)], "Action: finish[Boston Celtics]") == "Boston Celtics"
    )
    assert final_answer([action("finish", "", None)], "Action: finish[]") == ""
    assert final_answer([], "so\n<answer>\n Ricin \n</answer>") == "Ricin"
    assert final_answer([], "thus \\boxed{\\frac{1}{2}}.") == "\\frac{1}{2}"


def test_a_patch_is_no_gold_answer() -> None:
    assert by_answer("\ndiff --git a/x b/x\n", [], "diff --git a/x b/x") is None


# Ranking


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.floats(0, 1)), max_size=30))
def test_ranks_are_one_to_n_in_each_task(rows: list[tuple[int, bool, float]]) -> None:
    tasks, marked = np.array([row[0] for row in rows], np.int64), np.array([row[1] for row in rows], np.bool_)
    key = np.array([row[2] for row in rows], np.float64)
    found = ranks(tasks, marked, [key], np.arange(len(rows), dtype=np.int64))
    assert (found.place[~marked] == 0).all()
    for task in set(tasks[marked].tolist()):
        mine = np.flatnonzero(marked & (tasks == task))
        assert sorted(found.place[mine].tolist()) == list(range(1, len(mine) + 1))
        assert (np.diff(key[mine[np.argsort(found.place[mine])]]) >= 0).all()
        assert (found.size[mine] == len(mine)).all()
        assert (found.place[found.best[mine]] == 1).all()


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from([0.0, 0.1, 0.2])), max_size=20))
def test_at_least_half_of_every_task_reaches_its_median(rows: list[tuple[int, float]]) -> None:
    tasks, values = np.array([row[0] for row in rows], np.int64), np.array([row[1] for row in rows], np.float64)
    good = at_least_median(tasks, np.ones(len(rows), np.bool_), values)
    for task in set(tasks.tolist()):
        mine = tasks == task
        middle = float(np.percentile(values[mine], 50, method="higher"))
        assert (good[mine] == (values[mine] >= middle)).all()


# The stage


def tried(
    task: str, reward: float | None, queries: Sequence[str], said: str = "done", **columns: Any
) -> dict[str, Any]:
    """A run of one search per step, and a last word."""
    turns = [user(task)]
    for at, query in enumerate(queries):
        turns += [says("", ("search", json.dumps({"q": query}))), tool(f"result {at} for {query}")]
    turns.append(says(said))
    return {"kind": "trajectory", "messages": turns, "reward": reward, **columns}


def judge(rows: Sequence[dict[str, Any]], earlier: dict[str, pa.Array] | None = None, **parameters: Any) -> Decisions:
    return run(Trajectories(**parameters), records(rows), earlier=earlier)


def kinds(decisions: Decisions) -> list[str]:
    return [reason.partition(";")[0] for reason in pa.array(decisions.reason).to_pylist()]


def test_score_columns_of_one_run() -> None:
    table = records([tried("t", 1.0, ["a", "a", "b"])])
    row = score(Trajectories(), table).table([field.name for field in Trajectories().score(
        table.select(list(Trajectories.reads)).to_batches()[0], {}
    ).schema]).to_pylist()[0]  # fmt: skip
    assert row.pop("task")
    assert row == {
        "success": True, "success_source": "reward", "outcome": "reward 1", "n_steps": 4, "n_actions": 3,
        "n_repeated": 1, "n_same_result": 0, "n_unique": 2, "efficiency": 2 / 3, "n_required": None, "n_found": None,
        "isr": None, "ise": None,
    }  # fmt: skip


def test_reasons_of_the_defaults() -> None:
    rows = [
        tried("a", 1.0, ["x", "y"]),
        tried("b", 0.0, ["x", "y"]),
        tried("c", None, ["x", "y"]),
        tried("d", 1.0, ["x", "x", "x", "y"]),
        tried("e", 1.0, ["x", "x", "y", "z"]),
        {"kind": "sft", "prompt": "p", "completion": "c"},
    ]
    decisions = judge(rows)
    assert kinds(decisions) == [
        "kept: successful", "not successful", "no success flag", "kept: successful", "kept: successful",
        "kept: not judged",
    ]  # fmt: skip
    assert decisions.keep.tolist() == [True, False, False, True, True, True]
    assert pa.array(decisions.reason)[1].as_py() == "not successful; reward 0"


def test_repeats_over_the_share_drop_a_run() -> None:
    rows = [tried("a", 1.0, ["x", "x", "x", "x", "y"]), tried("b", 1.0, ["x", "x", "y", "z"])]
    strict = judge(rows)
    assert pa.array(strict.reason)[0].as_py() == "repeats itself: over 50% of its calls; 3 of 5"
    assert strict.keep.tolist() == [False, True]
    assert judge(rows, repeats="call_and_result").keep.tolist() == [True, True]  # every result was another
    assert judge(rows, max_repeated=0.2).keep.tolist() == [False, False]


def test_a_run_that_gains_little() -> None:
    decisions = judge([tried("a", 1.0, ["x", "x", "y"])], min_efficiency=0.7)
    assert pa.array(decisions.reason)[0].as_py().startswith("gains little: not over 0.7 new results per call; ")


def test_steps_have_bounds() -> None:
    rows = [tried("a", 1.0, []), tried("b", 1.0, ["x"]), tried("c", 1.0, ["x", "y", "z"])]
    decisions = judge(rows, min_steps=2, max_steps=3)
    assert pa.array(decisions.reason).to_pylist()[::2] == ["too few steps: under 2; 1", "too many steps: over 3; 4"]
    with pytest.raises(ValidationError, match="min_steps = 3"):
        Trajectories(min_steps=3, max_steps=2)


def test_the_best_of_each_task_stay() -> None:
    rows = [
        tried("a", 1.0, ["x", "y", "z"]), tried("a", 1.0, ["x"]), tried("a", 0.0, []), tried("a", 1.0, ["x", "y"]),
        tried("b", 1.0, ["x", "y", "z"]),
    ]  # fmt: skip
    decisions = judge(rows, per_task=1)
    assert kinds(decisions) == [
        "not among the 1 best of its task", "kept: successful", "not successful", "not among the 1 best of its task",
        "kept: successful",
    ]  # fmt: skip
    assert decisions.related is not None
    assert decisions.related.tolist() == [1, -1, -1, 1, -1]
    assert decisions.detail is not None
    told = json.loads(pa.array(decisions.detail)[0].as_py())
    assert (told["rank"], told["of"], told["by"]) == (3, 3, "reward")
    assert judge(rows, per_task=2).keep.tolist() == [False, True, False, True, True]


def test_the_most_efficient_may_be_best() -> None:
    rows = [tried("a", 1.0, ["x", "x"]), tried("a", 1.0, ["x", "y", "z"])]
    assert judge(rows, per_task=1).keep.tolist() == [True, False]
    assert judge(rows, per_task=1, best="efficient").keep.tolist() == [False, True]


def test_a_known_success_goes_before_an_unknown_one() -> None:
    rows = [tried("a", None, ["x"]), tried("a", 1.0, ["x", "y"])]
    decisions = judge(rows, per_task=1, unknown="keep")
    assert decisions.keep.tolist() == [False, True]
    assert kinds(judge(rows, unknown="keep"))[0] == "kept: no success flag"


def test_tasks_by_id_and_by_meta() -> None:
    rows = [
        tried("hello", 1.0, ["x"], source_id="7", meta='{"t": {"id": 1}}'),
        tried("good day", 1.0, ["x", "y"], source_id="7", meta='{"t": {"id": 2}}'),
        tried("good day", 1.0, ["x", "z", "w"], source_id="8", meta='{"t": {"id": 1}}'),
    ]
    assert judge(rows, per_task=1, task="source_id").keep.tolist() == [True, False, True]
    assert judge(rows, per_task=1, task="meta.t.id").keep.tolist() == [True, True, False]
    assert judge(rows, per_task=1).keep.tolist() == [True, True, False]
    with pytest.raises(ValidationError, match="not question, source_id or meta"):
        Trajectories(task="id")


def test_a_verifier_overrules_a_flag_and_a_flag_the_reward() -> None:
    values = (False, True, None, 1)
    metas = [json.dumps({"info": {"done": value}}) for value in values]
    rows = [tried(str(at), 1.0, ["x"], meta=meta) for at, meta in enumerate(metas)]
    flag = {"field": "info.done", "values": [True]}
    assert judge(rows, flag=flag).keep.tolist() == [False, True, True, False]
    verdicts = pa.array([True, False, None, None])
    decisions = judge(rows, {"tests.verified": verdicts}, verifier="tests.verified", flag=flag)
    assert decisions.keep.tolist() == [True, False, True, False]
    assert pa.array(decisions.reason)[1].as_py() == "not successful; tests.verified: not passed"
    shares = pa.array([1.0, 0.5, None, 1.0])
    assert judge(rows, {"tests.pass_rate": shares}, verifier="tests.pass_rate").keep.tolist() == [
        True,
        False,
        True,
        True,
    ]
    with pytest.raises(RecipeError, match="neither a verdict nor a number"):
        judge(rows, {"tests.status": pa.array(["a"] * 4)}, verifier="tests.status")


def test_the_final_answer_tells_where_no_reward_does() -> None:
    rows = [tried("a", None, ["x"], "It is Rome.", answer="Rome"), tried("b", None, ["x"], "Oslo", answer="Rome")]
    assert judge(rows).keep.tolist() == [True, False]
    assert kinds(judge(rows, accurate=["reward"])) == ["no success flag"] * 2


def structured(action: str, given: Any, fence: str = "```\n") -> Turn:
    """A turn of LangChain's structured chat agent."""
    blob = json.dumps({"action": action, "action_input": given}, indent=2)
    return says(f"Thought: I need data.\nAction:{'' if fence == ' ' else chr(10)}{fence}{blob}\n```")


@pytest.mark.parametrize("fence", ["```\n", "```json\n", "", " "])
def test_actions_of_structured_chat(fence: str) -> None:
    turns = [structured("Search", f"topic {at}", fence) for at in range(5)]
    turns.append(structured("look_up", {"b": 1, "a": [2]}, fence))
    told = [turn for at, each in enumerate(turns) for turn in (each, user(f"Observation: result {at}"))]
    last = structured("Final Answer", "7", fence)
    expected = [("search", f"topic {at}", f"Observation: result {at}") for at in range(5)]
    expected += [("look_up", '{"a":[2],"b":1}', "Observation: result 5")]
    assert calls_of(user("Q"), *told, last) == [*expected, ("finish", "7", None)]
    decisions = judge([{"kind": "trajectory", "answer": "7", "messages": [user("Q"), *told, last]}])
    assert kinds(decisions) == ["kept: successful"]


def test_structured_chat_in_one_text() -> None:
    texts = [f"{structured('search', f'topic {at}')['content']}\nObservation: result {at}" for at in range(3)]
    assert calls_of(says("\n".join(texts))) == [("search", f"topic {at}", f"result {at}") for at in range(3)]


def test_an_action_that_is_a_command_in_a_fence() -> None:
    turns = [says("Action:\n```bash\nls -l\n```"), user("total 0"), says("Action:\n```\n{not json\n```"), user("?")]
    assert calls_of(*turns) == [("code", "ls -l", "total 0"), ("code", "{not json", "?")]


def searched(names: Sequence[str], visits: Sequence[str], **columns: Any) -> dict[str, Any]:
    turns = [user("find them"), says("", ("search", '{"q":"all"}')), tool(" ".join(names))]
    for at, text in enumerate(visits):
        turns += [says("", ("visit", json.dumps({"u": at}))), tool(text)]
    return {"kind": "trajectory", "messages": [*turns, says("done")], "answer": json.dumps(list(names)), **columns}


def test_isr_and_ise_keep_what_webleaper_keeps() -> None:
    names = [f"entity{at}" for at in range(10)]
    rows = [
        searched(names, [" ".join(names[:4])]),  # ISR 0.4, ISE 4/3
        searched(names, [" ".join(names[:3])]),  # ISR 0.3 is not over 0.3
        searched(names, [" ".join(names[:4]), *["nothing"] * 40]),  # ISE 4/43
    ]
    decisions = judge(rows, entities="answer", accurate=["reward"], min_efficiency=0.0)
    assert decisions.keep.tolist() == [True, False, False]
    assert kinds(decisions) == [
        "kept: finds enough", "too little found: ISR not over 0.3", "finds too slowly: ISE not over 0.1"
    ]  # fmt: skip
    assert decisions.score is not None
    np.testing.assert_allclose(decisions.score, [4 / 3, 1.0, 4 / 43])


def test_entities_in_meta_decide_the_same() -> None:
    names = [f"entity{at}" for at in range(10)]
    visits = [[" ".join(names[:4])], [" ".join(names[:3])]]
    rows = [{**searched(names, each), "meta": json.dumps({"r": {"names": names}})} for each in visits]
    for row in rows:
        del row["answer"]
    decisions = judge(rows, entities="meta.r.names", accurate=["reward"])
    assert decisions.keep.tolist() == [True, False]


def test_runs_of_tasks_with_few_entities_compete() -> None:
    names = ["alpha", "beta"]
    rows = [searched(names, ["alpha beta", *[f"n{at}" for at in range(extra)]]) for extra in (0, 30, 3)]
    decisions = judge(rows, entities="answer", accurate=["reward"])
    assert decisions.keep.tolist() == [True, False, True]  # 2/3, 2/33 and 2/6 per step: the median is 2/6
    assert kinds(decisions)[1] == "finds more slowly than its task's median"


def test_warnings() -> None:
    assert "no record is of kind trajectory" in judge([{"kind": "text", "text": "x"}]).warnings[0]
    assert "nothing tells success" in judge([tried("a", None, ["x"])]).warnings[0]


def test_an_empty_batch_has_the_same_columns() -> None:
    table = records([tried("a", 1.0, ["x"])]).select(list(Trajectories.reads))
    full, empty = table.to_batches()[0], table.slice(0, 0).to_batches()
    schema = Trajectories().score(full, {}).schema
    assert all(Trajectories().score(batch, {}).schema == schema for batch in empty)


def test_decisions_do_not_depend_on_batches() -> None:
    rows = [tried(str(at % 3), float(at % 2), ["x"] * (at % 4)) for at in range(12)]
    stage, table = Trajectories(per_task=1), records(rows)
    one, many = run(stage, table), run(stage, table, batch_size=5)
    assert one.keep.tolist() == many.keep.tolist()
    assert Counter(kinds(one)) == Counter(kinds(many))
