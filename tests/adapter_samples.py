"""One made-up row or more per adapter, with what must be in its first record: (adapter, row, expected)."""

from __future__ import annotations

import base64
import json
import pickle
import zlib
from typing import Any

CASES = [
    {"input": "1 2\n", "output": "3\n", "testtype": "stdin"},
    {"input": "2 2\n", "output": "4\n", "testtype": "stdin"},
]
CALLS = [{"input": "[1, 2]\n3", "output": "6", "testtype": "functional"}]


def packed(value: Any) -> str:
    """Tests as LiveCodeBench stores its private ones."""
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(value)))).decode()


CHECK = "def check(candidate):\n    assert candidate(1) == 2\n    assert candidate(2) == 3\n"
TURNS = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
SHARE = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]
SAMPLES: list[tuple[str, Any, dict[str, Any]]] = [
    (
        "canonical",
        {
            "record_id": "0a",
            "content_hash": "0b",
            "source": "s",
            "source_id": "7",
            "origin": "a.jsonl#1",
            "kind": "sft",
            "prompt": "Add",
            "completion": "3",
            "meta": '{"topic": "sums"}',
            "messages": [{"role": "user", "content": "Add"}, {"role": "assistant", "content": "3"}],
        },
        {"prompt": "Add", "completion": "3", "source_id": "7"},
    ),
    ("alpaca", {"instruction": "Add", "input": "1, 2", "output": "3"}, {"prompt": "Add\n\n1, 2", "completion": "3"}),
    ("alpaca", {"instruction": "Add", "input": "", "output": "3"}, {"prompt": "Add", "completion": "3"}),
    ("alpaca", {"instruction": "Add", "context": "1 2", "response": "3", "category": "qa"}, {"prompt": "Add\n\n1 2"}),
    ("alpaca", {"instruction": "Go", "response": "x", "output": "x"}, {"completion": "x"}),
    (
        "alpaca",
        {"instruction": "And?", "output": "three", "system": "Be terse", "history": [["One?", "one"], ["Two?", "two"]]},
        {
            "messages": [
                {"role": "system", "content": "Be terse"},
                {"role": "user", "content": "One?"},
                {"role": "assistant", "content": "one"},
                {"role": "user", "content": "Two?"},
                {"role": "assistant", "content": "two"},
                {"role": "user", "content": "And?"},
                {"role": "assistant", "content": "three"},
            ]
        },
    ),
    (
        "alpaca",
        {"instruction": "Why?", "output": "<think>because</think>\n\nSo."},
        {"reasoning": "because", "completion": "So."},
    ),
    (
        "prompt_completion",
        {"prompt": "p", "completion": "c", "id": 7},
        {"prompt": "p", "completion": "c", "source_id": "7"},
    ),
    (
        "prompt_completion",
        {"question": "q", "reasoning_content": "r", "answer": "a"},
        {"prompt": "q", "reasoning": "r", "completion": "a"},
    ),
    (
        "gorilla",
        {"code": "{'Instruction': \"do it\", 'Output': {'api_call': 'f()'}}", "api_call": "f()"},
        {"prompt": "do it", "completion": '{"api_call":"f()"}'},
    ),
    (
        "gorilla",
        {"code": "{'Instruction': I'd like it, 'Output': {'x': 'a\nb'}}", "api_call": "f()"},
        {"prompt": "I'd like it", "completion": "{'x': 'a\nb'}"},
    ),
    ("sharegpt", {"id": "c1", "conversations": SHARE}, {"prompt": "hi", "completion": "hello", "source_id": "c1"}),
    (
        "sharegpt",
        {
            "conversations": [
                {"from": "human", "value": "find"},
                {"from": "function_call", "value": '{"name": "find", "arguments": {"what": "é"}}'},
                {"from": "observation", "value": "found"},
                {"from": "gpt", "value": "there"},
            ],
            "tools": '[{"name": "find"}]',
        },
        {
            "tools": '[{"name": "find"}]',
            "messages": [
                {"role": "user", "content": "find"},
                {"role": "assistant", "tool_calls": [{"name": "find", "arguments": '{"what":"é"}'}]},
                {"role": "tool", "content": "found"},
                {"role": "assistant", "content": "there"},
            ],
        },
    ),
    ("messages", {"messages": TURNS}, {"prompt": "hi", "completion": "hello"}),
    ("messages", {"messages": json.dumps(TURNS)}, {"prompt": "hi", "completion": "hello"}),
    (
        "messages",
        {"uid": "u", "messages": [TURNS[0], {"role": "assistant", "content": {"answer": "42", "kind": "short"}}]},
        {"prompt": "hi", "completion": "42", "meta": {"messages": [{}, {"content": {"kind": "short"}}]}},
    ),
    (
        "messages",
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "value": "a"}, {"type": "image", "url": "x.png"}]},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "reasoning", "value": "hm"},
                        {"type": "tool_call", "value": '{"name": "f", "arguments": {"n": 1}}'},
                    ],
                },
                {"role": "tool", "content": "1", "tool_call_id": "t1"},
                {"role": "assistant", "content": "done", "weight": 0.5},
            ]
        },
        {
            "messages": [
                {"role": "user", "content": "a"},
                {"role": "assistant", "reasoning": "hm", "tool_calls": [{"name": "f", "arguments": '{"n":1}'}]},
                {"role": "tool", "content": "1", "tool_call_id": "t1"},
                {"role": "assistant", "content": "done", "weight": 0.5},
            ],
            "meta": {"messages": [{"content": [{"type": "image", "url": "x.png"}]}, {}, {}, {}]},
        },
    ),
    (
        "messages",
        {
            "messages": [
                TURNS[0],
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": "c9", "type": "function", "function": {"name": "g", "arguments": "{}"}}],
                },
            ]
        },
        {"messages": [TURNS[0], {"role": "assistant", "tool_calls": [{"id": "c9", "name": "g", "arguments": "{}"}]}]},
    ),
    (
        "oasst_tree",
        {
            "message_tree_id": "t",
            "tree_state": "ready",
            "prompt": {
                "text": "q",
                "role": "prompter",
                "replies": [
                    {"text": "a1", "role": "assistant", "rank": 0, "replies": []},
                    {"text": "a2", "role": "assistant", "rank": 1, "replies": []},
                ],
            },
        },
        {"source_id": "t#0", "prompt": "q", "completion": "a1"},
    ),
    (
        "oasst_message",
        {
            "message_id": "m",
            "text": "q",
            "role": "prompter",
            "replies": [{"text": "a", "role": "assistant", "message_id": "m2"}],
        },
        {"source_id": "m#0", "prompt": "q", "completion": "a"},
    ),
    (
        "tagged_chat",
        {"text": "<|user|> q <|eos|> <|ai|> a <|eos|> <|eod|>", "raw_data_id": "5"},
        {"prompt": "q", "completion": "a", "meta": {"raw_data_id": "5"}},
    ),
    (
        "tagged_chat",
        {"text": "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na<|im_end|>"},
        {
            "messages": [
                {"role": "system", "content": "s"},
                {"role": "user", "content": "q"},
                {"role": "assistant", "content": "a"},
            ]
        },
    ),
    (
        "preference",
        {
            "conversations": SHARE[:1],
            "chosen": {"from": "gpt", "value": "yes"},
            "rejected": {"from": "gpt", "value": "no"},
        },
        {"prompt": "hi", "completion": "yes", "rejected": "no", "kind": "preference"},
    ),
    (
        "preference",
        {"prompt": "hi", "chosen": [*TURNS], "rejected": [TURNS[0], {"role": "assistant", "content": "no"}]},
        {"prompt": "hi", "completion": "hello", "rejected": "no"},
    ),
    (
        "preference",
        {"chosen": [*TURNS], "rejected": [TURNS[0], {"role": "assistant", "content": "no"}], "score_chosen": 8.5},
        {"prompt": "hi", "completion": "hello", "rejected": "no", "meta": {"score_chosen": 8.5}},
    ),
    (
        "preference",
        {"system": "s", "question": "q", "chosen": "yes", "rejected": "no"},
        {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}], "rejected": "no"},
    ),
    ("kto", {"messages": TURNS, "label": True}, {"prompt": "hi", "completion": "hello", "reward": 1.0}),
    ("kto", {"prompt": "p", "completion": "c", "label": False}, {"prompt": "p", "completion": "c", "reward": 0.0}),
    (
        "alpaca_eval",
        {"instruction": "i", "output_1": "a", "output_2": "b", "preference": 1.9, "generator_1": "g"},
        {"prompt": "i", "completion": "b", "rejected": "a"},
    ),
    (
        "alpaca_eval",
        {"instruction": "i", "output_1": "a", "output_2": "b", "preference": 1.5},
        {"completion": "a", "meta": {"output_2": "b", "preference": 1.5}},
    ),
    (
        "pandalm",
        {
            "idx": 3,
            "instruction": "i",
            "input": "",
            "response1": "a",
            "response2": "b",
            "annotator1": 2,
            "annotator2": 2,
        },
        {"source_id": "3", "completion": "b", "rejected": "a"},
    ),
    (
        "persona_eval",
        {"question": "q?", "statement": "q", "answer_matching_behavior": " Yes", "answer_not_matching_behavior": " No"},
        {"prompt": "q?", "completion": " Yes", "rejected": " No"},
    ),
    (
        "natural_instructions",
        {
            "_file": "task1.json",
            "Definition": ["Do it."],
            "Domains": ["News"],
            "Positive Examples": [{"input": "x" * 1000, "output": "y"}],
            "Instances": [
                {"id": "i0", "input": "a", "output": ["b", "c"]},
                {"id": "i1", "input": "d", "output": ["e"]},
            ],
        },
        {"source_id": "task1.json#0", "prompt": "Do it.\n\na", "completion": "b"},
    ),
    (
        "self_instruct",
        {"id": "seed_0", "instruction": "i", "instances": [{"input": "", "output": "o"}], "is_classification": False},
        {"source_id": "seed_0#0", "prompt": "i", "completion": "o"},
    ),
    (
        "model_solutions",
        {"question": "q", "ground_truth": "so #### 4", "6b": {"is_correct": False, "solution": "five"}},
        {"prompt": "q", "completion": "five", "reward": 0.0, "answer": "4"},
    ),
    (
        "scored_samples",
        {"idx": 2, "question": "q", "gt": "4", "code": ["is 4", "is 5"], "pred": ["4", "5"], "score": [True, False]},
        {"source_id": "2#0", "prompt": "q", "completion": "is 4", "reward": 1.0, "answer": "4"},
    ),
    ("gsm8k", {"question": "q", "answer": "2+2=4\n#### 4"}, {"completion": "2+2=4\n#### 4", "answer": "4"}),
    ("math", {"problem": "p", "level": "Level 1", "solution": "so \\boxed{\\frac{1}{2}}"}, {"answer": "\\frac{1}{2}"}),
    (
        "informal_proof",
        {"problem_name": "n", "informal_statement": "s", "informal_proof": "p"},
        {"source_id": "n", "prompt": "s", "completion": "p"},
    ),
    (
        "formal_statement",
        {"name": "n", "informal_prefix": "/-- s -/", "formal_statement": "theorem n", "goal": "g"},
        {"prompt": "/-- s -/", "completion": "theorem n", "language": "lean"},
    ),
    (
        "multiple_choice_trace",
        {
            "id": "x",
            "question": "q",
            "options": ["a", "b"],
            "answer_letter": "B",
            "predicted_letter": "B",
            "reasoning": "r",
            "answer_text": "It is B.",
            "reasoning_tokens": 12,
        },
        {"prompt": "q\n\nA. a\nB. b", "reasoning": "r", "completion": "It is B.", "answer": "B", "reward": 1.0},
    ),
    (
        "tau_bench",
        {"task_id": 1, "reward": 0.0, "info": {"task": {"user_id": "u"}}, "traj": TURNS, "trial": 2},
        {"source_id": "1", "kind": "trajectory", "messages": TURNS, "reward": 0.0},
    ),
    (
        "fireact",
        {"_id": "9", "reward": True, "gt": "x", "pred": "x", "traj": TURNS},
        {"messages": TURNS, "reward": 1.0, "answer": "x", "source_id": "9"},
    ),
    (
        "fireact",
        {"_id": "9", "reward": False, "gt": "x", "pred": "y", "traj": "ask\n\n### Response:\nact"},
        {
            "messages": [{"role": "user", "content": "ask\n\n### Response:"}, {"role": "assistant", "content": "act"}],
            "reward": 0.0,
        },
    ),
    (
        "mint",
        {
            "_task": "math",
            "state": {"history": TURNS, "success": True, "error": None},
            "task": {"task_id": 3, "reference": "42", "prompt": "p"},
        },
        {"source_id": "math/3", "messages": TURNS, "reward": 1.0, "answer": "42"},
    ),
    (
        "web_agent",
        {
            "messages": [TURNS[0], {"role": "assistant", "content": "<think>t</think><answer>a</answer>"}],
            "functions": [{"name": "search"}],
            "answer": [["gold"]],
            "task": "k",
        },
        {
            "messages": [TURNS[0], {"role": "assistant", "content": "<answer>a</answer>", "reasoning": "t"}],
            "answer": "gold",
            "tools": '[{"name":"search"}]',
        },
    ),
    (
        "swe_agent",
        {
            "_file": "x.traj",
            "history": [{**TURNS[0], "agent": "main"}],
            "info": {"submission": "diff", "exit_status": "ok"},
        },
        {"source_id": "x.traj", "messages": [TURNS[0]], "answer": "diff", "kind": "trajectory"},
    ),
    (
        "intercode",
        {
            "_id": "0",
            "query": "q",
            "turn_history": {"thoughts": ["t"], "actions": ["ls"], "observations": ["f"], "rewards": [0.5]},
            "summary": {"max_reward": 0.5},
        },
        {
            "reward": 0.5,
            "messages": [
                {"role": "user", "content": "q"},
                {"role": "assistant", "content": "ls", "reasoning": "t"},
                {"role": "tool", "content": "f"},
            ],
        },
    ),
    (
        "self_refine",
        {"record_id": 1, "attempt": 0, "review": "bad", "target_sentiment": "Positive", "transferred_review": "good"},
        {"source_id": "1#0", "prompt": "Positive\n\nbad", "completion": "good"},
    ),
    (
        "verifiable_task",
        {"index": 4, "prompt": [TURNS[0]], "reward_model": {"ground_truth": {"a": 1}, "style": "rule"}},
        {"source_id": "4", "messages": [TURNS[0]], "answer": '{"a":1}', "meta": {"reward_model": {"style": "rule"}}},
    ),
    ("code_file", {"repo": "r", "path": "a/b.py", "content": "x = 1"}, {"text": "x = 1", "language": "python"}),
    ("code_file", {"path": "T.java", "content": "class T {}", "level": 2}, {"language": "java", "source_id": "T.java"}),
    ("text", {"id": "d", "text": "words"}, {"kind": "text", "text": "words", "source_id": "d"}),
    (
        "text",
        {"contents": "words", "metadata": {"set": "Github"}},
        {"text": "words", "meta": {"metadata": {"set": "Github"}}},
    ),
    (
        "humaneval",
        {
            "task_id": "H/0",
            "prompt": "def f(x):\n",
            "entry_point": "f",
            "cannonical_solution": "    return x + 1\n",
            "test": CHECK,
        },
        {
            "entry_point": "f",
            "test_type": "pytest",
            "test_code": CHECK,
            "tests": [
                {"name": "assert 1", "code": "assert candidate(1) == 2"},
                {"name": "assert 2", "code": "assert candidate(2) == 3"},
            ],
            "solutions": [{"code": "def f(x):\n    return x + 1\n", "language": "python", "verdict": "accepted"}],
        },
    ),
    (
        "humaneval",
        {"task_id": "e", "prompt": "# s", "entry_point": "f", "cannonical_solution": "", "test": ""},
        {"prompt": "# s"},
    ),
    (
        "solved_problem",
        {
            "prompt": "def f(x):\n",
            "entry_point": "f",
            "test": CHECK,
            "solution": "def f(x):\n    return 0\n",
            "is_solved": False,
        },
        {"solutions": [{"code": "def f(x):\n    return 0\n", "language": "python", "verdict": "wrong_answer"}]},
    ),
    (
        "problem_prompt",
        {"task_id": "H/0", "prompt": "def f():\n", "canonical_solution": "    pass\n"},
        {"kind": "sft", "prompt": "def f():\n", "completion": "    pass\n", "source_id": "H/0"},
    ),
    (
        "leetcode",
        {
            "task_id": "two-sum",
            "prompt": "import math",
            "completion": "class Solution: ...",
            "entry_point": "Solution().f",
            "test": CHECK,
            "query": "Add.",
            "response": "Like so.",
        },
        {
            "prompt": "Add.",
            "completion": "Like so.",
            "judge": '{"preamble":"import math"}',
            "solutions": [
                {"code": "import math\n\nclass Solution: ...", "language": "python", "verdict": "accepted"},
            ],
        },
    ),
    (
        "mbpp",
        {
            "task_id": 3,
            "text": "Do f.",
            "code": "def f(): ...",
            "test_setup_code": "import re",
            "test_list": ["assert f()"],
        },
        {"source_id": "3", "test_code": "import re\nassert f()", "tests": [{"name": "assert 1", "code": "assert f()"}]},
    ),
    (
        "mbpp_plus",
        {
            "task_id": "Mbpp/2",
            "prompt": "Do f.",
            "entry_point": "f",
            "canonical_solution": "\ndef f(x): return x\n",
            "base_input": [[1]],
            "plus_input": [[2], [3]],
            "atol": 1e-6,
            "assertion": "assert f(1) == 1",
        },
        {
            "tests": [{"name": "assert 1", "code": "assert f(1) == 1"}],
            "judge": '{"inputs":[[1],[2],[3]],"expected":"reference","float_tolerance":1e-6}',
        },
    ),
    (
        "kodcode",
        {
            "question_id": "k1",
            "question": "Do f.",
            "solution": "def f(): return 1",
            "test": "from solution import f\n\ndef test_a():\n    assert f()\n\ndef test_b():\n    assert f() != 2\n",
            "test_info": [{"function_name": "f"}],
        },
        {"entry_point": "f", "source_id": "k1", "test_type": "pytest"},
    ),
    (
        "cruxeval",
        {"id": "s0", "code": "def f(x):\n    return x", "input": "'a'", "output": "'a'"},
        {"test_code": "assert f('a') == 'a'", "entry_point": "f", "answer": "'a'"},
    ),
    (
        "io_problem",
        {
            "question": "Add.",
            "input_output": '{"inputs": ["1 2\\n"], "outputs": ["3\\n"]}',
            "solutions": '["print(3)"]',
            "time_limit": "2.0 seconds",
        },
        {
            "tests": [{"input": "1 2\n", "output": "3\n"}],
            "test_type": "stdio",
            "judge": '{"time_limit_s":2.0}',
            "solutions": [{"code": "print(3)", "language": "python", "verdict": "accepted"}],
        },
    ),
    (
        "io_problem",
        {
            "question": "Add.",
            "input_output": "{'inputs': [[1, 2]], 'outputs': [[3]], 'fn_name': 'add'}",
            "solutions": "[]",
        },
        {
            "tests": [{"input": "[1,2]", "output": "[3]"}],
            "test_type": "functional",
            "entry_point": "add",
            "judge": '{"output_may_be_wrapped":true}',
        },
    ),
    (
        "io_problem",
        {"problem": "Add.", "tests": CASES, "solutions": ["```python\nprint(3)\n```"]},
        {
            "tests": [{"input": "1 2\n", "output": "3\n"}, {"input": "2 2\n", "output": "4\n"}],
            "solutions": [{"code": "print(3)", "language": "python", "verdict": "accepted"}],
        },
    ),
    ("io_problem", {"problem": "Add.", "tests": [{"file": "1.in"}]}, {"tests": [{"file": "1.in"}]}),
    (
        "livecodebench",
        {
            "question_id": "q1",
            "question_content": "Sum.",
            "public_test_cases": json.dumps(CALLS),
            "private_test_cases": packed(CALLS),
            "metadata": '{"func_name": "total"}',
            "starter_code": "class Solution:",
        },
        {
            "entry_point": "total",
            "test_type": "functional",
            "tests": [{"input": "[[1, 2],3]", "output": "6"}] * 2,
            "judge": '{"starter_code":"class Solution:"}',
        },
    ),
    (
        "primeintellect",
        {
            "problem_id": "p1",
            "prompt": "Add.",
            "gold_standard_solution": "```python\nprint(3)\n```",
            "verification_info": json.dumps(
                {"language": "python", "test_cases": [{"type": "stdin_stdout", "input": "1 2", "output": "3"}]}
            ),
        },
        {
            "tests": [{"input": "1 2", "output": "3"}],
            "test_type": "stdio",
            "solutions": [{"code": "print(3)", "language": "python", "verdict": "accepted"}],
        },
    ),
    (
        "code_contests",
        {
            "name": "cc",
            "description": "Add.",
            "public_tests": {"input": ["1 2"], "output": ["3"]},
            "private_tests": {"input": [], "output": []},
            "solutions": {"language": [3], "solution": ["print(3)"]},
            "incorrect_solutions": {"language": [2], "solution": ["int main() {}"]},
            "time_limit": {"seconds": 2},
        },
        {
            "tests": [{"name": "public_tests/0", "input": "1 2", "output": "3"}],
            "solutions": [
                {"code": "print(3)", "language": "python", "verdict": "accepted"},
                {"code": "int main() {}", "language": "cpp", "verdict": "wrong_answer"},
            ],
        },
    ),
    (
        "sandboxfusion",
        {"id": 0, "content": "Add.", "labels": "{}", "test": '[{"input": {"stdin": "1"}, "output": {"stdout": "2"}}]'},
        {"tests": [{"input": "1", "output": "2"}], "test_type": "stdio", "source_id": "0"},
    ),
    (
        "sandboxfusion",
        {
            "id": 1,
            "content": "Write it.",
            "canonical_solution": "int f();",
            "labels": '{"programming_language": "cpp"}',
            "test": json.dumps(
                {"code": "#<INSERT>\nint main() {\n    assert(f() == 1);\n    assert(f() != 2);\n}", "asset": None}
            ),
        },
        {
            "language": "cpp",
            "tests": [
                {"name": "assert 1", "code": "#<INSERT>\nint main() {\nassert(f() == 1);"},
                {"name": "assert 2", "code": "assert(f() != 2);"},
            ],
        },
    ),
    (
        "multipl_e",
        {
            "name": "HumanEval_0_f",
            "language": "js",
            "prompt": "function f(){",
            "tests": "const assert = require('a');\nassert.equal(f(), 1);",
            "gpt_solution": "```js\nfunction f(){ return 1 }\n```",
        },
        {
            "language": "javascript",
            "entry_point": "f",
            "tests": [{"name": "assert 1", "code": "assert.equal(f(), 1);"}],
            "solutions": [{"code": "function f(){ return 1 }", "language": "javascript"}],
        },
    ),
    (
        "sampled_programs",
        {"prompt": "def f():\n", "samples": ["    pass", "    return 1"]},
        {"solutions": [{"code": f"def f():\n{end}", "language": "python"} for end in ("    pass", "    return 1")]},
    ),
    (
        "program_rewrite",
        {
            "problem_id": "p1",
            "language": "python",
            "submission_id_v0": "a",
            "submission_id_v1": "b",
            "input": "s",
            "target": "t",
        },
        {"prompt": "s", "completion": "t", "source_id": "a#b", "language": "python"},
    ),
    (
        "quixbugs",
        {
            "name": "gcd",
            "buggy_program": "def gcd(): no",
            "correct_program": "def gcd(): yes",
            "json_testcases": [[[4, 2], 2]],
        },
        {"tests": [{"input": "[4,2]", "output": "2"}], "test_type": "functional", "entry_point": "gcd"},
    ),
    (
        "exercism",
        {
            "slug": "two-fer",
            "config": {
                "files": {"solution": ["two_fer.py"], "test": ["two_fer_test.py"], "example": [".meta/example.py"]}
            },
            "files": {
                ".docs/instructions.md": "Say it.",
                "two_fer.py": "def two_fer(): pass",
                "two_fer_test.py": "class T:\n    def test_a(self):\n        assert 1\n",
                ".meta/example.py": "def two_fer(): return 1",
            },
        },
        {
            "prompt": "Say it.",
            "tests": [{"name": "T.test_a", "code": "def test_a(self):\n    assert 1"}],
            "solutions": [{"code": "def two_fer(): return 1", "language": "python", "verdict": "accepted"}],
        },
    ),
    (
        "icpc_package",
        {
            "package": "sum",
            "problem_yaml": "validation: custom interactive\n",
            "statement": {"problem_statement/problem.en.tex": "Add.", "problem_statement/solution.tex": "Just add."},
            "meta_files": {".timelimit": "3\n"},
            "tests": [{"path": "data/sample/1", "group": "sample", "input": "1 2", "answer": "3"}],
            "submissions": [
                {
                    "path": "submissions/tle/a.py",
                    "expected": "time_limit_exceeded",
                    "language": "python3",
                    "code": "x",
                }
            ],
            "validators": {"output_validators/v.cpp": "int main() {}"},
        },
        {
            "prompt": "Add.",
            "tests": [{"name": "data/sample/1", "input": "1 2", "output": "3"}],
            "solutions": [{"code": "x", "language": "python", "verdict": "time_limit"}],
            "judge": '{"validation":"custom interactive","interactive":true,"time_limit_s":3.0,'
            '"validators":{"output_validators/v.cpp":"int main() {}"}}',
        },
    ),
]
