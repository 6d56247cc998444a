"""Influence of the same rows by kronfluence, in an interpreter of its own; bench/quad.py calls it.

    python bench/quad_kronfluence.py FOLDER

FOLDER has `model/` (as `save_pretrained` writes it) and `rows.npz`: `sample`, `pool`, `target` token ids, each padded
to one length, as its loaders need them; `NAME_real`, what is no padding (absent: all is real); `modules`; `batch`;
`repeats`. Writes `found.npz`: `scores` [targets, pool], and processor seconds of factors and scores.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kronfluence.analyzer import Analyzer, prepare_model
from kronfluence.arguments import FactorArguments, ScoreArguments
from kronfluence.task import Task
from torch import nn
from torch.utils.data import TensorDataset
from transformers import AutoModelForCausalLM


class NextToken(Task):
    """Summed next-token loss, as its language-model examples have it."""

    def __init__(self, modules: list[str]) -> None:
        self.modules = modules

    def compute_train_loss(self, batch: Any, model: nn.Module, sample: bool = False) -> torch.Tensor:
        """Summed over the batch; labels drawn from the model where `sample`."""
        logits = model(input_ids=batch[0], use_cache=False).logits[:, :-1].float().flatten(0, 1)
        labels, counted = batch[0][:, 1:].flatten(), batch[1][:, 1:].flatten()
        if sample:
            with torch.no_grad():
                labels = torch.multinomial(torch.softmax(logits, -1), num_samples=1).flatten()
        labels = torch.where(counted, labels, -100)
        return nn.functional.cross_entropy(logits, labels, reduction="sum")

    def compute_measurement(self, batch: Any, model: nn.Module) -> torch.Tensor:
        """The same loss."""
        return self.compute_train_loss(batch, model)

    def get_attention_mask(self, batch: Any) -> torch.Tensor:
        """Which tokens its covariances are over."""
        return batch[1].long()

    def get_influence_tracked_modules(self) -> list[str]:
        """Matrices that take part."""
        return self.modules


def dataset(rows: Any, name: str) -> TensorDataset:
    """Token ids and what of them is no padding."""
    ids = torch.from_numpy(rows[name])
    real = torch.from_numpy(rows[f"{name}_real"]) if f"{name}_real" in rows else torch.ones_like(ids, dtype=torch.bool)
    return TensorDataset(ids, real)


def main(folder: Path) -> None:
    """Factors from `sample`, then scores of `pool` towards every row of `target`."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = np.load(folder / "rows.npz")
    task = NextToken(rows["modules"].tolist())
    model = prepare_model(AutoModelForCausalLM.from_pretrained(folder / "model"), task)
    analyzer = Analyzer("bench", model, task, cpu=True, disable_tqdm=True, output_dir=str(folder / "kronfluence"))
    sample, pool, target = (dataset(rows, name) for name in ("sample", "pool", "target"))
    size = int(rows["batch"])
    start = time.process_time()
    analyzer.fit_all_factors(
        "f", sample, per_device_batch_size=size, factor_args=FactorArguments("ekfac"), overwrite_output_dir=True
    )
    fitted, seconds = time.process_time() - start, []
    for _ in range(int(rows["repeats"])):
        start = time.process_time()
        analyzer.compute_pairwise_scores(
            "s", "f", target, pool, per_device_query_batch_size=len(target), per_device_train_batch_size=size,
            score_args=ScoreArguments(damping_factor=None), overwrite_output_dir=True,
        )  # fmt: skip
        seconds.append(time.process_time() - start)
    scores = analyzer.load_pairwise_scores("s")["all_modules"].numpy()
    np.savez(folder / "found.npz", scores=scores, factor_seconds=fitted, score_seconds=seconds)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
