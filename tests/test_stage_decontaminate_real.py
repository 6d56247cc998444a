"""Decontamination on real data: against brute force, on unrelated rows, with renamed solutions, at speed."""

from __future__ import annotations

import ast
import time
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import regex
from decontam import details, file_records, run, runs, share, stage, words_of
from pools import MemoryPool, batches, records

EVALS = (
    "code/humaneval", "code/mbpp_001_600", "targets/gsm8k_test_part1", "targets/math_test_part1",
    "targets/minif2f_informal_valid", "targets/minif2f_lean4_valid",
)  # fmt: skip


@cache
def table(folder: Path, name: str, limit: int | None = None) -> pa.Table:
    return file_records(folder / f"{name}.jsonl.gz", limit)


@cache
def evaluations(folder: Path) -> pa.Table:
    return pa.concat_tables([table(folder, name) for name in EVALS])


def jaccard(left: str, right: str) -> float:
    a, b = runs(left, 5), runs(right, 5)
    return len(a & b) / len(a | b)


def question_limit(words: int) -> tuple[int, float, float]:
    """Length of the runs, the share, and the similarity from which on a question of so many words counts."""
    return (8, 0.9, 0.9) if words < 26 else (13, 0.5, 0.6)


def brute_force(prompts: list[str], questions: list[str]) -> list[bool]:
    """Which prompts repeat a question, by comparing all with all."""
    common: dict[int, Counter[tuple[str, ...]]] = {}
    for size in (8, 13):
        sized = [question for question in set(questions) if question_limit(len(words_of(question)))[0] == size]
        common[size] = Counter(run_ for question in sized for run_ in runs(question, size))
    flagged = []
    for prompt in prompts:
        shares = []
        for question in questions:
            size, least, alike = question_limit(len(words_of(question)))
            found = share(question, prompt, size, common[size], 10) >= least
            shares.append(found or jaccard(prompt, question) >= alike)
        flagged.append(any(shares))
    return flagged


def test_shadow_humaneval_against_brute_force(shared_data: Path) -> None:
    items = table(shared_data, "code/humaneval")
    shadow = table(shared_data, "code/sandboxfusion_code_eval_shadow_humaneval_python")
    prompts = shadow["prompt"].to_pylist()
    expected = brute_force(prompts, items["prompt"].to_pylist())
    assert 1 <= sum(expected) < 20
    only_prompts = records([{"kind": "sft", "prompt": prompt} for prompt in prompts])
    found = run(stage(fields=["question"]), only_prompts, items)
    assert [not keep for keep in found.keep] == expected
    full = run(stage(), shadow, items)
    assert all(not keep for keep, flag in zip(full.keep, expected, strict=True) if flag)
    assert 9 <= int((~full.keep).sum()) < 20  # the code gives away more than the statements, but not all is taken over


@pytest.mark.parametrize(("copy", "at_least"), [(str, 164), (str.upper, 164)])
def test_every_humaneval_question_finds_itself(shared_data: Path, copy: type[str], at_least: int) -> None:
    items = table(shared_data, "code/humaneval")
    planted = records([{"text": f"Look:\n{copy(prompt)}\nDone."} for prompt in items["prompt"].to_pylist()])
    decisions = run(stage(fields=["question"]), planted, items)
    assert int((~decisions.keep).sum()) >= at_least
    assert decisions.related_id == items["source_id"].to_pylist()


def test_unrelated_rows_are_kept(shared_data: Path) -> None:
    alpaca = table(shared_data, "instruct/alpaca_52k_rows_00000_42147", 10_000)
    decisions = run(stage(), alpaca, evaluations(shared_data))
    dropped = [reason for keep, reason in zip(decisions.keep, decisions.reason, strict=True) if not keep]
    assert len(dropped) <= 5, dropped  # 0.05%; measured: see docs/decontaminate.md
    assert not any("gsm8k" in reason or "math" in reason or "minif2f" in reason for reason in dropped)


def test_the_training_half_of_gsm8k_is_kept(shared_data: Path) -> None:
    """Same authors, same style, other problems: the hardest unrelated rows there are."""
    decisions = run(stage(), table(shared_data, "targets/gsm8k_train"), table(shared_data, "targets/gsm8k_test_part1"))
    assert int((~decisions.keep).sum()) <= 7  # 0.1%


class _Rename(ast.NodeTransformer):
    """Renames parameters, variables and local functions consistently."""

    def __init__(self, names: set[str]) -> None:
        self.names = {name: f"zz{number}" for number, name in enumerate(sorted(names))}

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(self.names.get(node.id, node.id), node.ctx)

    def visit_arg(self, node: ast.arg) -> ast.arg:
        return ast.arg(self.names.get(node.arg, node.arg), node.annotation)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.name = self.names.get(node.name, node.name)
        return node


def renamed(code: str) -> str:
    """The program with every name of its own changed, formatted anew, without comments."""
    tree = ast.parse(code)
    bound = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    bound |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    bound |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    return ast.unparse(_Rename(bound).visit(tree))


def without_docstrings(code: str) -> str:
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and len(node.body) > 1 and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.unparse(tree)


def test_humaneval_solutions_with_renamed_variables(shared_data: Path) -> None:
    items = table(shared_data, "code/humaneval")
    codes = [solutions[0]["code"] for solutions in items["solutions"].to_pylist()]
    answers = [f"Here you go:\n```python\n{renamed(without_docstrings(code))}\n```" for code in codes]
    decisions = run(stage(), records([{"kind": "sft", "prompt": "?", "completion": text} for text in answers]), items)
    found = int((~decisions.keep).sum())
    hits = [related for related in decisions.related_id or () if related is not None]
    print(f"{found} of 164 found")
    assert found >= 120  # the rest is shorter than a run of tokens, or reformatted by `ast.unparse`
    right = sum(a == b for a, b in zip(decisions.related_id or (), items["source_id"].to_pylist(), strict=True))
    assert right >= 0.97 * len(hits)


def test_speed_of_the_scan(shared_data: Path) -> None:
    """CPU time of one thread, so that other work on the machine does not count; the goal is 20 MB/s."""
    it, against = stage(), evaluations(shared_data)
    read = table(shared_data, "instruct/alpaca_52k_rows_00000_42147", 20_000).select(list(it.reads))
    state = it.fit(MemoryPool(read), {"against": MemoryPool(against)})
    parts = list(batches(read, 4096))
    it.score(parts[0], state)
    started = time.thread_time()
    for batch in parts:
        it.score(batch, state)
    rate = read.nbytes / 1e6 / (time.thread_time() - started)
    print(f"{rate:.0f} MB/s")
    assert rate >= 10  # half the goal: shared machines are slow; bench/decontaminate.py measures


def test_every_benchmark_row_of_a_pool_of_them(shared_data: Path) -> None:
    """Model outputs for HumanEval and all of MBPP, of which `mbpp_001_600` holds a part: exactly that part is found."""
    pool = table(shared_data, "traces/reflexion_humaneval_mbpp_gpt4")
    items = pa.concat_tables([table(shared_data, "code/humaneval"), table(shared_data, "code/mbpp_001_600")])
    known = {" ".join(words_of(prompt)) for prompt in items["prompt"].to_pylist()}
    decisions = run(stage(fields=["question"]), pool, items)
    texts = pool["prompt"].to_pylist()
    for text, keep in zip(texts, decisions.keep, strict=True):
        quoted = regex.findall(r'"""\s*(.*?)\s*"""', text, flags=regex.S)
        same = " ".join(words_of(text)) in known or any(" ".join(words_of(part)) in known for part in quoted)
        assert not (same and keep), text
    assert 300 <= int((~decisions.keep).sum()) <= 340
    _check_spans(texts, details(decisions))


def _check_spans(texts: list[str], told: list[dict[str, Any] | None]) -> None:
    """Characters, text and length of the longest stretches are those of the record."""
    checked = 0
    for text, one in zip(texts, told, strict=True):
        if one is None or one["path"] != "prompt" or one["how"] != "words":
            continue
        span = text[one["start"] : one["stop"]]
        assert span.startswith(one["text"]) or one["text"].startswith(span[:500])
        assert len(words_of(span)) == one["length"]
        checked += 1
    assert checked > 100
