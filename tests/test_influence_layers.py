"""Weight matrices are found by structure."""

from __future__ import annotations

import pytest
import torch
from influence_models import CONFIGS, OneMatrix, tiny
from peft import LoraConfig, get_peft_model
from torch import nn

from schemas.errors import RecipeError
from stages.influence import find_layers

# per decoder block: (inputs, outputs) of attention matrices, and of MLP matrices with how many there are of each
HEADS = (16, 32)  # 4 query and 2 + 2 key and value heads of 4
WIDE = (16, 64)  # the same with heads of 8
ATTENTION = {
    "llama": [HEADS, (16, 16)], "qwen2": [HEADS, (16, 16)], "qwen3": [WIDE, (32, 16)], "mistral": [HEADS, (16, 16)],
    "gemma": [WIDE, (32, 16)], "gemma2": [WIDE, (32, 16)], "gpt2": [(16, 48), (16, 16)],
    "gpt_neox": [(16, 48), (16, 16)], "phi": [(16, 48), (16, 16)], "phi3": [HEADS, (16, 16)],
    "opt": [(16, 48), (16, 16)], "bloom": [(16, 48), (16, 16)], "mixtral": [HEADS, (16, 16)],
    "qwen2_moe": [HEADS, (16, 16)], "gpt_oss": [WIDE, (32, 16)],
}  # fmt: skip
GATED = [(16, 24), (16, 24), (24, 16)]
FUSED = [(16, 48)] * 4 + [(24, 16)] * 4
MLP = {
    **dict.fromkeys(("llama", "qwen2", "qwen3", "mistral", "gemma", "gemma2"), GATED),
    **{name: [(16, 64), (64, 16)] for name in ("gpt2", "bloom")},
    **{name: [(16, 24), (24, 16)] for name in ("gpt_neox", "phi", "opt")},
    "phi3": [(16, 48), (24, 16)],
    "mixtral": FUSED,
    "gpt_oss": FUSED,
    "qwen2_moe": [(16, 20), (16, 20), (20, 16), (16, 1), *[(16, 24)] * 4, *[(12, 16)] * 4],
}


@pytest.mark.parametrize("name", CONFIGS)
def test_attention_and_mlp_of_every_architecture(name: str) -> None:
    model = tiny(name, torch.float32)
    attention, mlp = find_layers(model, "attention"), find_layers(model, "mlp")
    assert [(one.inputs, one.outputs) for one in attention] == ATTENTION[name] * 2
    assert sorted((one.inputs, one.outputs) for one in mlp) == sorted(MLP[name] * 2)
    both = {one.name for one in attention} | {one.name for one in mlp}
    assert {one.name for one in find_layers(model)} == both
    assert not attention.skipped
    assert model.training


def test_lora_takes_the_adapters() -> None:
    model = get_peft_model(tiny(dtype=torch.float32), LoraConfig(r=3, target_modules=["q_proj", "v_proj", "down_proj"]))
    layers = find_layers(model)
    assert [(one.kind, one.inputs, one.outputs) for one in layers[:4]] == [
        ("attention", 16, 6), ("attention", 3, 16), ("attention", 3, 8), ("mlp", 24, 3),
    ]  # fmt: skip
    assert len(layers) == 2 * 5
    assert set(layers.skipped.values()) == {"frozen, and others are not"}
    assert all("lora" in path for one in layers for path in one.members)


def test_a_frozen_model_is_taken_whole() -> None:
    model = tiny(dtype=torch.float32)
    assert find_layers(model.requires_grad_(False)) == find_layers(tiny(dtype=torch.float32))


def test_paths_choose_layers_and_a_wrong_one_names_the_nearest() -> None:
    model = tiny(dtype=torch.float32)
    layers = find_layers(model, ["model.layers.0.self_attn.v_proj", "model.layers.1.mlp.up_proj"])
    assert [one.name for one in layers] == ["model.layers.0.self_attn.v_proj", "model.layers.1.mlp.up_proj"]
    with pytest.raises(RecipeError, match=r"did you mean 'model\.layers\.1\.mlp\.up_proj'"):
        find_layers(model, ["model.layers.1.mlp.upproj"])


def test_a_model_without_decoder_blocks_is_refused() -> None:
    with pytest.raises(RecipeError, match="has no matrices"):
        find_layers(OneMatrix(), "attention")


def test_what_cannot_be_told_apart_is_skipped() -> None:
    model = OneMatrix()
    block = model.layers[0]

    class Pooling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.per_token, self.routed = nn.Linear(3, 3), nn.Linear(3, 5)
            self.shared, self.unused = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            some = self.per_token(hidden).reshape(-1, 3)[::2]
            return hidden @ self.shared(self.shared(hidden)).mT @ self.routed(some).mean(0).expand(*hidden.shape[:2], 5)

    block.mlp = Pooling()
    layers = find_layers(model)
    assert [one.name for one in layers] == ["layers.0.mlp.per_token"]
    assert dict(layers.skipped) == {
        "layers.0.mlp.routed": "its input is not one vector per token, so rows cannot be told apart",
        "layers.0.mlp.shared": "used more than once in a forward pass",
        "layers.0.mlp.unused": "not used for text",
    }
