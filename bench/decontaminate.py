"""Decontamination measured: `python bench/decontaminate.py [--data ../shared/data]` prints one JSON line per figure.

`scan`: CPU seconds of one thread per part of the text, with and without code items in the index. `dropped`: what the
defaults drop from pools that have nothing to do with the evaluation sets (or have: `expect`). `renamed`: how many
HumanEval solutions are found after their variables were renamed and the code was formatted anew.
"""

from __future__ import annotations

import argparse
import ast
import gzip
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pyarrow.parquet as pq
import yaml

from pipelines.executor import LocalExecutor
from pipelines.intake import source_units, take_in
from pipelines.pool import RunPool
from pipelines.progress import Silent
from pipelines.recipe import Source
from pipelines.recipe_file import load_recipe
from pipelines.run import Settings, run
from pipelines.store import Store
from stages.decontaminate import Decontaminate

DATA: Final = Path(__file__).resolve().parents[2] / "shared" / "data"
EVALS: Final = (
    "code/humaneval", "code/mbpp_001_600", "targets/gsm8k_test_part1", "targets/math_test_part1",
    "targets/minif2f_informal_valid", "targets/minif2f_lean4_valid",
)  # fmt: skip
POOLS: Final = {
    "instruct/alpaca_52k_rows_00000_42147": "unrelated",
    "rawtext/c4_demo": "unrelated",
    "targets/gsm8k_train": "same authors, other problems",
    "instruct/gpteacher_codegen": "code instructions, some of them textbook problems",
    "code/leetcode_dataset_v0.2.0_train": "code, other problems",
    "rawtext/code_thealgorithms_python": "textbook algorithms",
    "rawtext/code_lm_eval_2_forks": "quotes one MBPP problem in a prompt",
    "code/sandboxfusion_code_eval_shadow_humaneval_python": "modified HumanEval",
    "traces/reflexion_humaneval_mbpp_gpt4": "HumanEval and MBPP themselves, about half of the latter ours",
}


def file(data: Path, name: str) -> str:
    """The path of a data file."""
    return str(data / f"{name}.jsonl.gz")


def curate(folder: Path, source: str, against: Sequence[str], **parameters: Any) -> list[dict[str, Any]]:
    """The decisions of a run over one file."""
    stage = {"decontaminate": {"against": list(against), **parameters}}
    recipe = {"name": "bench", "sources": [{"name": "pool", "path": source}], "stages": [stage]}
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    with LocalExecutor(1) as executor, TemporaryDirectory() as out:
        target = Path(out) / "out"
        run(load_recipe(path), Settings(target, Store(folder / "store"), executor, Silent(), _nothing))
        rows: list[dict[str, Any]] = pq.read_table(target / "lineage/decisions").to_pylist()
    return [row for row in rows if row["stage"] == "decontaminate"]


def _nothing(folder: Path, manifest: Mapping[str, Any]) -> dict[str, bytes]:
    return {}


def dropped(folder: Path, data: Path) -> Iterator[dict[str, Any]]:
    """What the defaults drop from each pool."""
    for name, note in POOLS.items():
        rows = curate(folder, file(data, name), [file(data, one) for one in EVALS])
        reasons = Counter(row["reason"].split(";")[0] for row in rows if not row["keep"])
        yield {"dropped": name, "note": note, "rows": len(rows), "n": reasons.total(), "reasons": dict(reasons)}


def scan(folder: Path, data: Path) -> Iterator[dict[str, Any]]:
    """CPU time of scoring, best of three."""
    for label, evals in (("all", EVALS), ("without code", EVALS[2:])):
        stage = Decontaminate(against=tuple(file(data, name) for name in evals))
        state = stage.fit(pool(folder, []), {"against": pool(folder, stage.against)})
        for name in list(POOLS)[:2]:
            batches = list(pool(folder, [file(data, name)]).batches(stage.reads))
            size = sum(batch.nbytes for batch in batches) / 1e6
            stage.score(batches[0], state)
            seconds = min(_seconds(stage, batches, state) for _ in range(3))
            yield {"scan": name, "items": label, "MB": round(size, 1), "MB/s": round(size / seconds, 1)}


def _seconds(stage: Decontaminate, batches: Sequence[Any], state: Mapping[str, Any]) -> float:
    started = time.thread_time()
    for batch in batches:
        stage.score(batch, state)
    return time.thread_time() - started


def pool(folder: Path, paths: Sequence[str]) -> RunPool:
    """Records of files as a run would read them."""
    if not paths:
        return RunPool.open([])
    with LocalExecutor(1) as executor:
        units = source_units(Source(name="pool", path=tuple(paths)), Path("/"), None)
        taken = take_in(units, Store(folder / "store"), executor, Silent())
    return RunPool.open([part for item in taken for part in item.record_parts()])


class Rename(ast.NodeTransformer):
    """Renames parameters, variables and functions of a program consistently."""

    def __init__(self, tree: ast.AST) -> None:
        nodes = list(ast.walk(tree))
        names = {node.arg for node in nodes if isinstance(node, ast.arg)}
        names |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        names |= {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
        self.names = {name: f"zz{number}" for number, name in enumerate(sorted(names))}

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(self.names.get(node.id, node.id), node.ctx)

    def visit_arg(self, node: ast.arg) -> ast.arg:
        return ast.arg(self.names.get(node.arg, node.arg), node.annotation)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.name = self.names.get(node.name, node.name)
        node.body = node.body[1:] if ast.get_docstring(node) is not None and len(node.body) > 1 else node.body
        return node


def renamed(folder: Path, data: Path) -> Iterator[dict[str, Any]]:
    """HumanEval solutions under other names, at three lengths of run."""
    with gzip.open(file(data, "code/humaneval"), "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    trees = [ast.parse(row["prompt"] + row["canonical_solution"]) for row in rows]
    answers = [ast.unparse(Rename(tree).visit(tree)) for tree in trees]
    path = folder / "renamed.jsonl"
    path.write_text("".join(json.dumps({"instruction": "?", "output": answer}) + "\n" for answer in answers))
    for size in (16, 20, 24):
        rows = curate(folder, str(path), [file(data, "code/humaneval")], code_ngram=size)
        yield {"renamed": len(rows), "code_ngram": size, "found": sum(not row["keep"] for row in rows)}


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    data = parser.parse_args().data
    with TemporaryDirectory() as folder:
        for part in (scan, dropped, renamed):
            for figure in part(Path(folder), data):
                print(json.dumps(figure), flush=True)


if __name__ == "__main__":
    main()
