"""Starting a fine-tuning job from another program: in this process, or in one process per GPU with torchrun."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobs.sft import RESULT, finetune
from jobs.sft_config import load_config
from pipelines.files import read_json
from schemas.errors import RunError


def launch(
    directory: Path | None, job: Path, overrides: Sequence[str] = (), processes: int | None = None
) -> dict[str, Any]:
    """Fine-tune on the run in `directory` as the YAML file `job` says, and return what `training.json` holds.

    `processes`: by default as many as there are GPUs, at least one. One runs here; more run under torchrun on this
    machine. Raises what `finetune` raises; RunError where one of several processes fails.
    """
    config = load_config(job, overrides)
    count = processes or _devices(config.cpu)
    if count == 1:
        return finetune(directory, config)
    done = subprocess.run(command(directory, job, overrides, count), check=False)
    if done.returncode:
        raise RunError(f"fine-tuning failed in one of {count} processes (exit status {done.returncode}); see its log")
    result: dict[str, Any] = read_json(config.out / RESULT)
    return result


def command(directory: Path | None, job: Path, overrides: Sequence[str], processes: int) -> list[str]:
    """The words that start a job in several processes on this machine."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    words = [word for item in overrides for word in ("--set", item)]
    data = ["--data", str(directory)] if directory is not None else []
    return [*torchrun, "-m", "jobs.sft", str(job), *data, *words]


def _devices(cpu: bool) -> int:
    import torch

    return 1 if cpu else max(1, torch.cuda.device_count())
