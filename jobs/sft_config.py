"""What a fine-tuning job is told: one YAML file, every key with a default but the model and where to write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jobs.packing import Overlong
from pipelines.formats.chat_mask import Unstable
from schemas.errors import RecipeError, nearest

FREE = frozenset({"out", "save_steps", "keep_checkpoints", "log_steps", "workers", "resume", "data"})
"""Keys that may change when a job is resumed: they do not change what is learnt."""


class Lora(BaseModel):
    """Low-rank adapters in place of full fine-tuning (extra `train`, library peft)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: int = Field(16, gt=0, description="Rank of the adapters.")
    alpha: int = Field(32, gt=0, description="Scale: adapters count alpha / rank.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout before the adapters.")
    targets: str | list[str] = Field("all-linear", description="Module names, or `all-linear`.")


class SftConfig(BaseModel):
    """One fine-tuning job. Relative paths are relative to the file that holds them."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model: Path = Field(description="Folder of a causal LM in the format of `transformers`.")
    out: Path = Field(description="Folder for checkpoints, the final model and training.json.")
    data: Path | None = Field(None, description="The run's directory; the command's --data goes before it.")
    tokenizer: Path | None = Field(None, description="Folder of the tokenizer; the model's own by default.")
    chat_template: Path | None = Field(None, description="A Jinja file in place of the tokenizer's chat template.")
    when_unstable: Unstable = Field(
        "error", description="Templates that tell earlier turns differently later: error, unroll or last."
    )
    split: str = Field("train", description="Split of the run to train on.")
    context: int = Field(2048, gt=1, description="Tokens per packed sequence.")
    packing: bool = Field(True, description="Pack several examples into a sequence, without attention between them.")
    overlong: Overlong = Field("drop", description="Examples longer than the context: drop, split or keep (cut off).")
    overlong_filter: bool = Field(True, description="No loss on examples that `overlong: keep` cut off.")
    epochs: float = Field(1.0, gt=0, description="Passes over the data.")
    max_steps: int | None = Field(None, gt=0, description="Optimizer steps, in place of epochs.")
    batch: int = Field(1, gt=0, description="Sequences per device and micro-step.")
    accumulate: int = Field(8, gt=0, description="Micro-steps per optimizer step.")
    lr: float = Field(1e-5, gt=0, description="Highest learning rate.")
    schedule: Literal["cosine", "linear", "constant", "constant_with_warmup"] = Field(
        "cosine", description="Learning rate over the steps."
    )
    warmup: float = Field(0.03, ge=0, lt=1, description="Share of the steps with a rising learning rate.")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's weight decay.")
    max_grad_norm: float = Field(1.0, ge=0, description="Gradients are clipped to this norm; 0 leaves them.")
    optimizer: str = Field("adamw_torch", description="A name that `transformers` knows as `optim`.")
    neftune_alpha: float = Field(0.0, ge=0, description="NEFTune: noise on the embeddings; 5 to 15, 0 is off.")
    lora: Lora | None = Field(None, description="Train adapters only; null is full fine-tuning.")
    bf16: bool | None = Field(None, description="Compute in bfloat16; null: where the device can.")
    attention: str | None = Field(None, description="sdpa, eager, flash_attention_2, …; null: what the model takes.")
    gradient_checkpointing: bool = Field(False, description="Less memory for a third more compute.")
    cpu: bool = Field(False, description="Stay on the CPU even where there is a GPU.")
    save_steps: int = Field(500, gt=0, description="Optimizer steps between checkpoints.")
    keep_checkpoints: int = Field(2, ge=2, description="Newest checkpoints to keep.")
    log_steps: int = Field(10, gt=0, description="Optimizer steps between lines of the log.")
    workers: int = Field(0, ge=0, description="Processes that read ahead, per rank.")
    seed: int = Field(0, ge=0, description="Seed of the order of the data, adapters, dropout and noise.")
    resume: bool = Field(True, description="Go on from the newest checkpoint in `out`.")


def load_config(path: Path, overrides: Sequence[str] = ()) -> SftConfig:
    """Read a job's YAML file, with `path.to.key=value` overrides whose values are YAML.

    Raises RecipeError with the file, the key and the nearest valid one.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"{path}: cannot read the job: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise RecipeError(f"{path}: a job is a mapping with the keys 'model' and 'out'")
    for item in overrides:
        _override(document, item)
    return build_config(document, path.parent.resolve(), str(path))


def build_config(document: dict[str, Any], base: Path | None = None, named: str = "job") -> SftConfig:
    """Validate a job that is already a mapping; relative paths are below `base`. Raises RecipeError."""
    try:
        config = SftConfig.model_validate(document)
    except ValidationError as error:
        raise RecipeError(_explain(error, named)) from error
    folder = base or Path.cwd()
    paths = {name: folder / value for name, value in config if isinstance(value, Path)}
    return config.model_copy(update=paths)


def _explain(error: ValidationError, named: str) -> str:
    first = error.errors()[0]
    at = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        valid = Lora.model_fields if len(first["loc"]) > 1 else SftConfig.model_fields
        return f"{named}: unknown key '{at}'; {nearest(str(first['loc'][-1]), valid)}"
    if first["type"] == "missing":
        return f"{named}: '{at}' is missing"
    message = str(first["msg"])
    return f"{named}: {at}: {message[:1].lower() + message[1:]} (given: {first['input']!r})"


def _override(document: dict[str, Any], item: str) -> None:
    name, separator, text = item.partition("=")
    if not separator or not name:
        raise RecipeError(f"--set {item}: write path.to.key=value")
    target = document
    *parents, last = name.split(".")
    for part in parents:
        if target.get(part) is None:
            target[part] = {}
        target = target[part]
        if not isinstance(target, dict):
            raise RecipeError(f"--set {item}: '{part}' is a plain value")
    try:
        target[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {item}: the value is not YAML") from error
