"""How well `ifd` with the built-in student, which knows only the pool, finds what Cherry LLM found with LLaMA-7B.

    PYTHONPATH=tests python bench/ifd.py --data ../shared/data --rows 2000 --tokens 200000

The pool is a random sample of Alpaca's rows; a hit is a row among the 5% that Cherry LLM published. AUC is the chance
that a hit ranks above another row; response length alone is the baseline that any selection has to be compared with.
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pools import records
from sklearn.metrics import roc_auc_score
from small_models import ScratchPool

from stages.ifd.stage import Ifd
from stages.student.builtin import Size

CANDIDATES = "alpaca_52k_rows_00000_42147.jsonl.gz"
CHERRIES = "cherry_alpaca_5_percent.jsonl.gz"


def main() -> None:
    """Train, score, compare; one JSON object on stdout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--tokens", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default=None, help="a local model instead of the built-in one")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    candidates, cherries = _rows(given.data / "instruct" / CANDIDATES), _rows(given.data / "instruct" / CHERRIES)
    chosen = np.random.default_rng(given.seed).choice(len(candidates), given.rows, replace=False)
    table, hit = _pool([candidates[row] for row in sorted(chosen)], {_key(row) for row in cherries})
    stage = Ifd(keep=0.05, model=given.model, student=Size(tokens=given.tokens, seed=given.seed))
    scores, seconds = _scored(stage, table)
    print(json.dumps({"rows": given.rows, "hits": int(hit.sum()), **seconds, **_compared(scores, hit)}, indent=1))


def _scored(stage: Ifd, table: pa.Table) -> tuple[pa.Table, dict[str, float]]:
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        state = stage.fit(ScratchPool(table, Path(folder)), {})
        fitted = time.process_time()
        batches = table.select(list(stage.reads)).to_batches(max_chunksize=stage.task_rows())
        scores = pa.Table.from_batches(stage.stream(iter(batches), state, Path(folder)))
    seconds = {"fit_cpu_s": round(fitted - started, 1), "score_cpu_s": round(time.process_time() - fitted, 1)}
    return scores, seconds


def _compared(scores: pa.Table, hit: Any) -> dict[str, float]:
    values = {name: scores[name].to_numpy().astype(float) for name in scores.column_names if name != "problem"}
    usable = np.isfinite(values["ifd"])
    eligible = usable & (values["ifd"] <= 1)
    kept = np.argsort(np.where(eligible, -values["ifd"], np.inf), kind="stable")[: int(0.05 * len(hit))]
    longest = np.argsort(-np.nan_to_num(values["n_target_tokens"]), kind="stable")[: len(kept)]
    return {
        "auc_ifd": _auc(hit, values["ifd"], usable),
        "auc_ifd_up_to_1": _auc(hit, values["ifd"], eligible),
        "auc_ifd_perplexity": _auc(hit, values["ifd_perplexity"], usable),
        "auc_loss_conditional": _auc(hit, values["loss_conditional"], usable),
        "auc_response_tokens": _auc(hit, values["n_target_tokens"], usable),
        "share_over_1": round(float(np.mean(values["ifd"][usable] > 1)), 3),
        "hits_in_top_5_percent": int(hit[kept].sum()),
        "hits_in_longest_5_percent": int(hit[longest].sum()),
        "hits_in_random_5_percent": round(float(hit.mean() * len(kept)), 1),
        "loss_conditional": round(float(np.nanmean(values["loss_conditional"])), 3),
        "loss_alone": round(float(np.nanmean(values["loss_alone"])), 3),
    }


def _auc(hit: Any, score: Any, rows: Any) -> float:
    return round(float(roc_auc_score(hit[rows], score[rows])), 3)


def _pool(rows: list[dict[str, str]], cherries: set[tuple[str, str]]) -> tuple[pa.Table, Any]:
    prompts = [row["instruction"] + (f"\n\n{row['input']}" if row["input"] else "") for row in rows]
    drafts = [{"kind": "sft", "prompt": p, "completion": r["output"]} for p, r in zip(prompts, rows, strict=True)]
    return records(drafts), np.array([_key(row) in cherries for row in rows])


def _key(row: dict[str, str]) -> tuple[str, str]:
    return row["instruction"], row["input"]


def _rows(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


if __name__ == "__main__":
    main()
