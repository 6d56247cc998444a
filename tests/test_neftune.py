"""Parts of the fine-tuning job that work on tensors: noise by example, and packs whose examples do not leak."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small_models import save_llama
from transformers import AutoModelForCausalLM

from jobs.isolation import block_mask, isolation_method, packed_inputs
from jobs.neftune import Neftune, example_lengths, noise
from jobs.packing import positions
from schemas.errors import RecipeError


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llama(tmp_path_factory.mktemp("llama"))


def test_how_models_keep_examples_apart(model: Path, tmp_path: Path) -> None:
    assert isolation_method(AutoModelForCausalLM.from_pretrained(model, use_cache=False)) == "positions"
    assert isolation_method(AutoModelForCausalLM.from_pretrained(model)) == "mask"  # a cache hides the borders

    class Running(torch.nn.Module):
        """A recurrent model: nothing keeps its examples apart."""

        dtype = torch.float32

        def __init__(self) -> None:
            super().__init__()
            text = SimpleNamespace(vocab_size=20)
            self.config = SimpleNamespace(get_text_config=lambda: text, _attn_implementation="sdpa")
            self.words = torch.nn.Embedding(20, 8)

        def forward(self, input_ids: torch.Tensor, **rest: Any) -> SimpleNamespace:
            return SimpleNamespace(logits=self.words(input_ids).cumsum(1))

    with pytest.raises(RecipeError, match="packing: false"):
        isolation_method(Running())


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_masks_under_autocast(attention: str, model: Path) -> None:
    loaded = AutoModelForCausalLM.from_pretrained(model, attn_implementation=attention, use_cache=False).eval()
    assert isolation_method(loaded, bf16=True) == "positions"
    words = torch.arange(12)[None]
    inputs = {"input_ids": words, "position_ids": torch.arange(6).repeat(2)[None]}
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        one, other = (loaded(**packed_inputs(inputs, way, loaded.dtype)).logits for way in ("positions", "mask"))
    assert torch.allclose(one.float(), other.float(), atol=0.05)


def test_block_mask_by_hand() -> None:
    mask = block_mask(torch.tensor([[0, 1, 0, 0, 1]]), torch.float32)[0, 0]
    wanted = [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 1, 1]]
    assert (mask == 0).int().tolist() == wanted


def test_lengths_of_examples() -> None:
    packed = torch.tensor([[0, 1, 2, 0, 1], [0, 0, 1, 2, 3]])
    assert example_lengths(packed).tolist() == [[3, 3, 3, 2, 2], [1, 4, 4, 4, 4]]
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
    assert example_lengths(torch.arange(4).expand(2, 4), mask).tolist() == [[3, 3, 3, 0], [4, 4, 4, 4]]


@pytest.mark.parametrize("padded", [True, False])
def test_noise_has_the_specified_deviation(padded: bool) -> None:
    """U(-1, 1) has variance 1/3, so noise has the deviation alpha / sqrt(3 L d) for the example's own L."""
    torch.manual_seed(0)
    alpha, width, sizes = 7.0, 256, [40, 250]
    if padded:
        mask = (torch.arange(256) < torch.tensor(sizes)[:, None]).long()
        lengths = example_lengths(torch.arange(256).expand(2, 256), mask)
        examples = [(0, slice(0, 40)), (1, slice(0, 250))]
    else:
        lengths = example_lengths(torch.from_numpy(positions(sizes))[None])
        examples = [(0, slice(0, 40)), (0, slice(40, 290))]
    added = noise(torch.zeros(*lengths.shape, width), lengths, alpha)
    for (line, where), size in zip(examples, sizes, strict=True):
        wanted = alpha / math.sqrt(3 * size * width)
        assert float(added[line, where].std()) == pytest.approx(wanted, rel=0.02)
        assert float(added[line, where].abs().max()) <= alpha / math.sqrt(size * width)
        assert abs(float(added[line, where].mean())) < 0.05 * wanted
    if padded:
        assert not added[0, 40:].any()


def test_noise_only_in_training_and_within_a_batch(model: Path) -> None:
    loaded = AutoModelForCausalLM.from_pretrained(model)
    hook = Neftune(5.0)
    hook.attach(loaded)
    batch = {"input_ids": torch.ones(1, 4, dtype=torch.long), "position_ids": torch.arange(4)[None]}
    embed = loaded.get_input_embeddings()
    clean = embed(batch["input_ids"])
    loaded.train()
    assert torch.equal(embed(batch["input_ids"]), clean)
    with hook.batch(batch):
        assert not torch.equal(embed(batch["input_ids"]), clean)
        loaded.eval()
        assert torch.equal(embed(batch["input_ids"]), clean)
