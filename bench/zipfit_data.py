"""Real texts for bench/zipfit.py, from the folder of public data beside the checkout."""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def rows(name: str) -> list[dict[str, Any]]:
    """The rows of the `.jsonl.gz` called `name`, wherever it lies."""
    path = next(DATA.glob(f"**/{name}.jsonl.gz"))
    with gzip.open(path, "rb") as handle:
        return [json.loads(line) for line in handle.read().split(b"\n") if line]


def texts(name: str, *fields: str, limit: int | None = None) -> list[str]:
    """The named fields of each row, those that are not empty, joined by newlines."""
    return ["\n".join(str(row[field]) for field in fields if row.get(field)) for row in rows(name)][:limit]


def functions() -> list[str]:
    """Top-level functions and classes of three Python code bases, 100 to 3,000 characters, each once."""
    files = [
        row["content"]
        for name in ("code_lm_eval_2_forks", "code_llamafactory_4_forks", "code_thealgorithms_python")
        for row in rows(name)
    ]
    pieces = {piece for text in files for piece in re.split(r"\n(?=def |class )", text)[1:]}
    return sorted(piece for piece in pieces if 100 < len(piece) < 3_000)


def workload(count: int = 20_000) -> list[str]:
    """A mixed pool: instructions, maths, code, theorems; mean about 550 bytes."""
    draw = random.Random(0)
    code = functions()
    draw.shuffle(code)
    pool = [
        *texts("gsm8k_train", "question", "answer", limit=5_000),
        *texts("gpteacher_codegen", "instruction", "input", "response", limit=3_500),
        *texts("alpaca_52k_rows_00000_42147", "instruction", "input", "output", limit=6_000),
        *code[:5_100],
        *texts("minif2f_lean4_valid", "informal_prefix", "formal_statement"),
        *texts("proofnet_valid", "nl_statement", "nl_proof", "formal_statement"),
    ]
    draw.shuffle(pool)
    return pool[:count]


def long_texts(count: int, size: int = 13_500) -> list[str]:
    """Whole source files cut to about `size` bytes."""
    files = [row["content"] for name in ("code_lm_eval_2_forks", "code_llamafactory_4_forks") for row in rows(name)]
    joined = "\n".join(files)
    return [joined[k * size : (k + 1) * size] for k in range(count)]


def humaneval() -> list[str]:
    """The 164 HumanEval problems with their solutions."""
    return texts("humaneval_prompts", "prompt", "canonical_solution")


NEEDLES: dict[str, Callable[[], list[str]]] = {
    "HumanEval": humaneval,
    "ProofNet": lambda: texts("proofnet_valid", "nl_statement", "nl_proof", "formal_statement"),
    "miniF2F": lambda: texts("minif2f_lean4_valid", "informal_prefix", "formal_statement"),
    "GSM8K": lambda: texts("gsm8k_test_part1", "question", "answer"),
    "Alpaca GPT-4": lambda: texts("llamafactory_alpaca_en_demo", "instruction", "input", "output"),
    "MATH": lambda: texts("math_test_part1", "problem", "solution"),
    "Dolly": lambda: texts("dolly_3k_part1", "instruction", "input", "output"),
    "Roleplay": lambda: texts("gpteacher_roleplay", "instruction", "input", "response"),
    "CruxEval": lambda: texts("cruxeval", "code", "input", "output"),
    "News": lambda: [text[:2_000] for text in texts("mccormick_articles_1000", "text")],
    "Yelp": lambda: texts("self_refine_yelp_gpt4_part1", "review"),
}


def background(without: str = "") -> list[str]:
    """6,000 to 8,500 rows to hide needles in, without the source that the needles come from."""
    draw = random.Random(3)
    parts = {
        "GSM8K": texts("gsm8k_train", "question", "answer", limit=1_500),
        "code": texts("gpteacher_codegen", "instruction", "input", "response", limit=1_500),
        "Alpaca": draw.sample(texts("alpaca_52k_rows_00000_42147", "instruction", "input", "output"), 3_000),
        "functions": draw.sample(functions(), 1_500),
        "Pile": texts("toy_pile", "contents", limit=700),
        "C4": texts("c4_demo", "text"),
    }
    return [text[:4_000] for name, part in parts.items() if not without.startswith(name) for text in part]
