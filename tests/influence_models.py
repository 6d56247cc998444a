"""Tiny causal language models of many architectures, random rows, and gradients by plain autograd."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor, nn

from stages.influence import Batches, Block, Layers, encode
from stages.influence.layers import weight_of

VOCABULARY, CONTEXT = 61, 64
_SIZES = {
    "vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": CONTEXT,
}  # fmt: skip
_GROUPED = {**_SIZES, "num_key_value_heads": 2}
_EXPERTS = {"num_experts_per_tok": 2}
CONFIGS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "llama": ("LlamaConfig", _GROUPED),
    "qwen2": ("Qwen2Config", {**_GROUPED, "tie_word_embeddings": True}),
    "qwen3": ("Qwen3Config", {**_GROUPED, "head_dim": 8}),
    "mistral": ("MistralConfig", {**_GROUPED, "sliding_window": 4}),
    "gemma": ("GemmaConfig", {**_GROUPED, "head_dim": 8}),
    "gemma2": ("Gemma2Config", {**_GROUPED, "head_dim": 8}),
    "gpt2": ("GPT2Config", {"vocab_size": VOCABULARY, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT}),
    "gpt_neox": ("GPTNeoXConfig", _SIZES),
    "phi": ("PhiConfig", _SIZES),
    "phi3": ("Phi3Config", {**_GROUPED, "pad_token_id": 0}),
    "opt": ("OPTConfig", {"vocab_size": VOCABULARY, "hidden_size": 16, "ffn_dim": 24, "num_hidden_layers": 2,
                          "num_attention_heads": 4, "max_position_embeddings": CONTEXT, "word_embed_proj_dim": 16}),
    "bloom": ("BloomConfig", {"vocab_size": VOCABULARY, "hidden_size": 16, "n_layer": 2, "n_head": 4}),
    "mixtral": ("MixtralConfig", {**_GROUPED, **_EXPERTS, "num_local_experts": 4}),
    "qwen2_moe": ("Qwen2MoeConfig", {**_GROUPED, **_EXPERTS, "num_experts": 4, "moe_intermediate_size": 12,
                                     "shared_expert_intermediate_size": 20}),
    "gpt_oss": ("GptOssConfig", {**_GROUPED, **_EXPERTS, "head_dim": 8, "num_local_experts": 4}),
}  # fmt: skip


def tiny(name: str = "llama", dtype: torch.dtype = torch.float64) -> nn.Module:
    """A model with random weights, large enough that its layers matter, in training mode."""
    kind, sizes = CONFIGS[name]
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, kind)(**sizes))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
            else:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.to(dtype).train()


def random_rows(count: int, seed: int = 0, tokens: int = 40, shortest: int = 2, longest: int = 15) -> Batches:
    """Rows of random tokens and lengths; in every other one only the second half counts."""
    random = np.random.default_rng(seed)
    ids = [random.integers(0, VOCABULARY, random.integers(shortest, longest + 1)) for _ in range(count)]
    counted = [np.arange(len(row)) >= (len(row) // 2 if place % 2 else 0) for place, row in enumerate(ids)]
    return encode(ids, counted, context=CONTEXT, tokens=tokens)


def gradients(model: nn.Module, layers: Layers, rows: Batches, reduction: str = "mean") -> list[dict[str, Tensor]]:
    """Every row's gradient per block [out, in], one row at a time, with the loss of `torch` and no hooks."""
    model.eval()
    if hasattr(model, "config"):
        model.config._experts_implementation = "eager"  # the fused kernel knows no float64
    return [_gradient(model, layers, *row, reduction) for row in zip(rows.ids, rows.counted, strict=True)]


def _gradient(model: nn.Module, layers: Layers, ids: Any, counted: Any, reduction: str) -> dict[str, Tensor]:
    model.zero_grad()
    loss(model, ids, counted, reduction).backward()
    grads = {id(one): torch.zeros_like(one) if one.grad is None else one.grad for one in model.parameters()}
    return {block.name: torch.cat(weight_of(model, block, grads)).clone() for block in layers}


def loss(model: nn.Module, ids: Any, counted: Any, reduction: str = "mean") -> Tensor:
    """Next-token loss of one row."""
    logits = model(input_ids=torch.tensor(ids)[None]).logits[0, :-1]
    labels = torch.where(torch.tensor(counted), torch.tensor(ids), -100)[1:]
    return nn.functional.cross_entropy(logits, labels, reduction=reduction)


def dot(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> float:
    """Inner product over all blocks."""
    return sum(float((left[name] * right[name]).sum()) for name in left)


def mean(several: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Their mean, block by block."""
    return {name: torch.stack([one[name] for one in several]).mean(0) for name in several[0]}


class OneMatrix(nn.Module):
    """Embedding, one linear layer in one decoder block, and logits that are its output: a softmax regression."""

    def __init__(self, vocabulary: int = 5, width: int = 3) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        block = nn.Module()
        block.mlp = nn.Linear(width, vocabulary, bias=False)
        self.layers = nn.ModuleList([block])

    def forward(self, input_ids: Tensor, use_cache: bool = False) -> SimpleNamespace:
        """Logits for every token from that token alone."""
        return SimpleNamespace(logits=self.layers[0].mlp(self.embedding(input_ids)))


def named(layers: Layers, name: str) -> Block:
    """The block of that name."""
    return next(block for block in layers if block.name == name)
