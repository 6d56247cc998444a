"""The model of a fine-tuning job: loaded from a folder, whole or with adapters."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
import transformers

from jobs.sft_config import Lora, SftConfig
from schemas.errors import RecipeError


def load_model(config: SftConfig, arguments: transformers.TrainingArguments) -> tuple[Any, bool]:
    """The model, and whether its attention wants packs as one line (variable-length kernels).

    Weights are float32 under bfloat16 autocast for full fine-tuning, so that small updates are not rounded away;
    under adapters, which are float32 themselves, the frozen weights are bfloat16. RecipeError where the folder holds
    no causal language model or the attention is not installed.
    """
    if not config.model.is_dir():
        raise RecipeError(f"model: {config.model} is no folder; download the model there first")
    attention = config.attention or _attention(arguments)
    dtype = torch.bfloat16 if arguments.bf16 and config.lora else torch.float32
    try:
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(
            str(config.model),
            local_files_only=True,
            trust_remote_code=False,
            dtype=dtype,
            attn_implementation=attention,
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise RecipeError(f"model: {config.model} cannot be loaded as a causal language model: {error}") from error
    model.config.use_cache = False
    flat = str(model.config._attn_implementation).startswith("flash")
    return (_adapted(model, config.lora, config) if config.lora else model), flat


def _attention(arguments: transformers.TrainingArguments) -> str | None:
    """Flash attention where it is installed and works; else the library's choice."""
    from transformers.utils.import_utils import is_flash_attn_2_available

    usable = arguments.bf16 and arguments.device.type == "cuda" and is_flash_attn_2_available()
    return "flash_attention_2" if usable else None


def _adapted(model: Any, lora: Lora, config: SftConfig) -> Any:
    if find_spec("peft") is None:
        raise RecipeError("lora: needs peft: pip install 'curatrix[train]'")
    import peft

    settings = peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets,
    )
    if config.gradient_checkpointing:
        model.enable_input_require_grads()
    return peft.get_peft_model(model, settings)


def pad_token(tokenizer: Any) -> int:
    """The id that fills lines up; no loss and no other token looks at it, so any will do."""
    found = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    return int(found or 0)
