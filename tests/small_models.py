"""Small models and pools for tests: made here, never downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from pools import MemoryPool, records
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system turns here') }}{% endif %}"
    "<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


class ScratchPool(MemoryPool):
    """A pool in memory with a folder for unfinished fits."""

    def __init__(self, records: Any, scratch: Path) -> None:
        super().__init__(records)
        scratch.mkdir(parents=True, exist_ok=True)
        self._scratch = scratch


def sft_pool(pairs: Sequence[tuple[str | None, str | None]], scratch: Path) -> ScratchPool:
    """Records of prompts and completions."""
    return ScratchPool(records([{"kind": "sft", "prompt": p, "completion": c} for p, c in pairs]), scratch)


def byte_tokenizer(template: str | None = None, context: int = 64) -> Any:
    """One token per byte, with start and end tokens that texts do not get by themselves."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(["<s>", "</s>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", model_max_length=context
    )
    fast.chat_template = template
    return fast


def save_llama(folder: Path, template: str | None = None, context: int = 64) -> Path:
    """A random Llama of two layers in a folder, its weights large enough for losses that differ."""
    tokenizer = byte_tokenizer(template, context)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=context, initializer_range=0.3,
    )  # fmt: skip
    return _save(transformers.LlamaForCausalLM(config), tokenizer, folder)


def save_gpt2(folder: Path, context: int = 64) -> Path:
    """A random GPT-2, whose positions are learned and whose linear layers are Conv1D."""
    tokenizer = byte_tokenizer(None, context)
    torch.manual_seed(1)
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=4, n_positions=context, initializer_range=0.3
    )
    return _save(transformers.GPT2LMHeadModel(config), tokenizer, folder)


def _save(model: Any, tokenizer: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
