"""The shipped example: a few hundred rows in nine wild formats, made from a seed, with known faults planted in them."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml
import zstandard

from pipelines.demo.problems import function_problems, stdin_problems
from pipelines.demo.texts import article, dialogue, question_and_answer
from pipelines.files import write_bytes, write_table

DEMO_OUT = Path("demo-out")
_SEED = 7
_TRUNCATED = b'{"messages": [{"role": "user", "content": "When does the library op'
_NOT_UTF8 = b'{"messages": [{"role": "user", "content": "Caf\xe9 or tea?"}, {"role": "assistant", "content": "Tea."}]}'


def write_example(folder: Path) -> Path:
    """Write the example's files and recipe into `folder`; the same bytes every time. Returns the recipe's path."""
    rng = random.Random(_SEED)
    alpaca = [_alpaca(rng) for _ in range(200)]
    write_bytes(folder / "alpaca.json", _json_array(alpaca + _near_copies(alpaca[:12])))
    write_bytes(folder / "faq.csv", _csv(_faq(rng, alpaca)))
    write_bytes(
        folder / "chats.jsonl.gz", gzip.compress(_lines(_sharegpt(rng, number) for number in range(70)), mtime=0)
    )
    write_bytes(folder / "tools.jsonl", _with_broken_lines(_lines(_tool_chat(rng, number) for number in range(60))))
    write_bytes(folder / "roleplay.yaml", yaml.safe_dump([_response(rng) for _ in range(40)], width=100).encode())
    write_table(folder / "preferences.parquet", pa.Table.from_pylist([_preference(rng) for _ in range(40)]))
    write_bytes(folder / "functions.jsonl.zst", zstandard.compress(_lines(function_problems(rng))))
    write_bytes(folder / "contest.jsonl", _lines(stdin_problems(rng)))
    write_bytes(folder / "articles.txt", _id_lines(rng))
    for name in ("journal.jsonl", "recipe.yaml"):
        write_bytes(folder / name, files("pipelines.demo").joinpath(name).read_bytes())
    return folder / "recipe.yaml"


def _alpaca(rng: random.Random) -> dict[str, str]:
    question, answer = question_and_answer(rng)
    instruction, _, rest = question.partition("\n")
    return {"instruction": instruction, "input": rest, "output": answer}


def _near_copies(rows: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """The same rows with one word added at the end: near duplicates, not exact ones."""
    return [{**row, "output": f"{row['output']} Indeed."} for row in rows]


def _faq(rng: random.Random, alpaca: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Own rows, and exact copies of Alpaca rows under other column names."""
    own = [dict(zip(("question", "answer"), question_and_answer(rng), strict=True)) for _ in range(45)]
    copies = [
        {"question": "\n\n".join(filter(None, (row["instruction"], row["input"]))), "answer": row["output"]}
        for row in alpaca[20:40]
    ]
    return own + copies


def _sharegpt(rng: random.Random, number: int) -> dict[str, Any]:
    turns = [{"from": "human" if turn % 2 == 0 else "gpt", "value": text} for turn, text in enumerate(dialogue(rng))]
    return {"id": f"chat-{number}", "conversations": turns}


def _tool_chat(rng: random.Random, number: int) -> dict[str, Any]:
    a, b = rng.randint(100, 999), rng.randint(100, 999)
    question, answer = question_and_answer(rng)
    call = {
        "id": f"call_{number}",
        "type": "function",
        "function": {"name": "add", "arguments": json.dumps({"a": a, "b": b})},
    }
    return {
        "messages": [
            {"role": "user", "content": f"{question}\nAlso, what is {a} + {b}?"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": call["id"], "content": str(a + b)},
            {"role": "assistant", "content": f"{answer} And {a} + {b} is {a + b}."},
        ],
        "tools": [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}],
    }


def _response(rng: random.Random) -> dict[str, str]:
    question, answer = question_and_answer(rng)
    return {"instruction": question, "input": "", "response": answer}


def _preference(rng: random.Random) -> dict[str, str]:
    question, answer = question_and_answer(rng)
    return {"prompt": question, "chosen": answer, "rejected": answer.split(". ")[0] + "."}


def _id_lines(rng: random.Random) -> bytes:
    """`<id> <text>` lines; the last four repeat earlier articles with their last word changed."""
    texts = [article(rng) for _ in range(60)]
    texts += [f"{text.rsplit(' ', 1)[0]} anyway" for text in texts[:4]]
    return "".join(f"t{number:04d} {text}\n" for number, text in enumerate(texts)).encode()


def _with_broken_lines(lines: bytes) -> bytes:
    """Two lines that are no JSON, and one row without any content, among good ones."""
    rows = lines.split(b"\n")
    rows.insert(10, _TRUNCATED)
    rows.insert(30, _NOT_UTF8)
    rows.insert(50, b'{"messages": []}')
    return b"\n".join(rows)


def _lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def _json_array(rows: Sequence[Mapping[str, Any]]) -> bytes:
    return json.dumps(rows, indent=2, ensure_ascii=False).encode()


def _csv(rows: Sequence[Mapping[str, str]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ["question", "answer"])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
