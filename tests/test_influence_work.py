"""Scoring does no work that it could be spared: products are counted, and cheaper ways give the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from influence_models import VOCABULARY, random_rows, tiny
from torch.utils.flop_counter import FlopCounterMode

from stages.influence import directions, encode, estimate_factors, examine, find_layers, score
from stages.influence.products import gradient_scores, row_gradients, token_scores, tokenwise
from stages.influence.scoring import Examined

ROWS, LENGTH, COUNTED = 4, 10, 3


def rows() -> Any:
    """Rows of one length, of which the last tokens count."""
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (ROWS, LENGTH))
    return encode(list(ids), [np.arange(LENGTH) >= LENGTH - COUNTED] * ROWS, context=LENGTH)


@pytest.mark.parametrize("targets", [1, 2])
def test_scoring_multiplies_no_more_than_it_must(targets: int) -> None:
    model = tiny(dtype=torch.float32)
    layers, pool = find_layers(model), rows()
    towards = directions(model, layers, estimate_factors(model, layers, pool, kind="identity"), [pool] * targets)
    with FlopCounterMode(display=False) as counter:
        score(model, layers, towards, pool)
    found = counter.get_flop_counts()["Global"][torch.ops.aten.mm]
    sizes = [block.inputs * block.outputs for block in layers]
    tokens, first = ROWS * LENGTH, sizes[0]  # the first block's inputs have no gradient: nothing before them is asked
    head = ROWS * COUNTED * VOCABULARY * model.config.hidden_size  # type: ignore[union-attr,operator]
    forward, back, compared = tokens * sum(sizes), tokens * (sum(sizes) - first), targets * tokens * sum(sizes)
    assert found == 2 * (forward + back + compared + 2 * head)


def test_no_parameter_has_a_gradient() -> None:
    model = tiny(dtype=torch.float32)
    layers = find_layers(model)
    embedded: list[bool] = []
    hook = model.get_input_embeddings().register_forward_hook(  # type: ignore[operator]
        lambda module, args, output: embedded.append(output.requires_grad)
    )
    examine(model, layers, rows(), norms=True)
    hook.remove()
    assert embedded == [False]
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("name", ["llama", "gemma2", "bloom"])
def test_a_head_that_sees_every_token_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, pool = tiny(name), random_rows(9)
    layers = find_layers(model)
    expected = examine(model, layers, pool, norms=True)
    monkeypatch.setattr(model, "get_output_embeddings", lambda: None)
    assert _equal(examine(model, layers, pool, norms=True), expected)


def _equal(found: Examined, expected: Examined) -> bool:
    pairs = [(found.loss, expected.loss), (found.el2n, expected.el2n), (found.norms, expected.norms)]
    return all(np.allclose(one, other, rtol=1e-6, atol=0) for one, other in pairs)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("targets", "tokens", "dtype", "cheaper"),
    [
        (1, 100, torch.float32, True), (2, 63, torch.float32, True), (2, 64, torch.float32, False),
        (1, 100, torch.bfloat16, False),
    ],
)  # fmt: skip
def test_both_ways_to_a_score_are_the_sum_over_tokens(
    targets: int, tokens: int, dtype: torch.dtype, cheaper: bool
) -> None:
    torch.manual_seed(0)
    inputs, grads = torch.randn(3, tokens, 7).to(dtype), torch.randn(3, tokens, 5).to(dtype)
    matrices = torch.randn(targets, 5, 7)
    assert tokenwise(inputs, matrices) == cheaper
    expected = torch.einsum("nmo,toi,nmi->nt", grads.float(), matrices, inputs.float())
    found = torch.cat([gradient_scores(one, matrices) for one in row_gradients(inputs, grads)])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3 if dtype == torch.float32 else 0.5)
    if dtype == torch.float32:
        torch.testing.assert_close(token_scores(inputs, grads, matrices), expected, rtol=1e-4, atol=1e-3)


def test_asking_for_more_changes_no_score() -> None:
    """Norms need rows' gradients, which scores are then taken from."""
    model, pool = tiny(dtype=torch.float32), random_rows(9)
    layers = find_layers(model)
    towards = directions(
        model, layers, estimate_factors(model, layers, pool, kind="identity"), [random_rows(3, seed=1)]
    )
    alone = examine(model, layers, pool, towards=towards)
    together = examine(model, layers, pool, towards=towards, norms=True, dimensions=4)
    scale = np.abs(alone.scores).max()
    np.testing.assert_allclose(together.scores, alone.scores, rtol=1e-4, atol=1e-5 * scale)
