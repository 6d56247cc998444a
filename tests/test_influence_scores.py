"""Scores, norms and losses against plain autograd, one row at a time, for every architecture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from influence_models import CONFIGS, CONTEXT, VOCABULARY, dot, gradients, loss, mean, random_rows, tiny
from peft import LoraConfig, get_peft_model
from torch import nn

from schemas.errors import RecipeError
from stages.influence import (
    AdamState,
    Block,
    Directions,
    Layers,
    adam_directions,
    context_of,
    cost,
    directions,
    encode,
    estimate_factors,
    examine,
    find_layers,
    memory_needed,
    project,
    score,
)
from stages.influence.layers import weight_of
from stages.influence.projection import Projection


@pytest.mark.parametrize("name", CONFIGS)
def test_every_architecture_equals_autograd(name: str) -> None:
    model, pool = tiny(name), random_rows(9)
    targets = [random_rows(4, seed=1), random_rows(3, seed=2)]
    layers = find_layers(model)
    factors = estimate_factors(model, layers, pool, kind="identity")
    found = examine(model, layers, pool, towards=directions(model, layers, factors, targets), norms=True)
    each = gradients(model, layers, pool)
    means = [mean(gradients(model, layers, target)) for target in targets]
    expected = np.array([[dot(one, other) for other in means] for one in each])
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found.scores, expected, rtol=1e-5, atol=1e-6 * scale)
    np.testing.assert_allclose(found.norms, [dot(one, one) ** 0.5 for one in each], rtol=1e-5)
    np.testing.assert_allclose(
        found.loss, [loss(model, *row).item() for row in zip(pool.ids, pool.counted, strict=True)], rtol=1e-5
    )
    assert not found.not_finite.any()


def made(model: nn.Module, layers: Layers, targets: int = 2) -> Directions:
    """EK-FAC directions towards some random target sets."""
    factors = estimate_factors(model, layers, random_rows(20, seed=3))
    return directions(model, layers, factors, [random_rows(3, seed=10 + place) for place in range(targets)])


@pytest.mark.parametrize("name", ["llama", "gpt2", "mistral", "mixtral"])
@pytest.mark.parametrize("targets", [1, 2])
def test_scores_do_not_depend_on_batches_padding_or_order(name: str, targets: int) -> None:
    model, pool = tiny(name, torch.float32), random_rows(12)
    layers = find_layers(model)
    towards = made(model, layers, targets)
    expected = score(model, layers, towards, pool)
    for tokens in (1, 64, 4096):
        rows = encode(pool.ids, pool.counted, context=64, tokens=tokens)
        np.testing.assert_allclose(
            score(model, layers, towards, rows), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max()
        )
    order = np.random.default_rng(0).permutation(12)
    found = score(model, layers, towards, pool.take(order))
    np.testing.assert_allclose(found, expected[order], rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_rows_with_nothing_to_score_are_null_and_not_called_infinite() -> None:
    model, pool = tiny(), encode([[], [5], [1, 2, 3], [1, 2]], [None, None, None, [True, False]], context=64)
    layers = find_layers(model)
    found = examine(model, layers, pool, towards=made(model, layers), norms=True, dimensions=4)
    assert found.norms is not None
    assert found.vectors is not None
    for values in (found.scores, found.loss, found.el2n, found.norms, found.vectors):
        assert np.isnan(values.reshape(4, -1)).all(1).tolist() == [True, True, False, True]
    assert not found.not_finite.any()


@pytest.mark.parametrize("name", ["llama", "mixtral"])
@pytest.mark.parametrize("targets", [1, 2])
def test_an_infinite_row_poisons_no_other(name: str, targets: int) -> None:
    model = tiny(name)
    layers = find_layers(model)
    ids = [[1, 2, 3, 4], [5, 60, 7], [8, 9], [10, 11, 12]]
    towards = made(model, layers, targets)
    expected = score(model, layers, towards, encode(ids, context=64))
    with torch.no_grad():
        model.get_input_embeddings().weight[60] = torch.inf
    found = examine(model, layers, encode(ids, context=64), towards=towards, norms=True, dimensions=4)
    assert found.not_finite.tolist() == [False, True, False, False]
    assert np.isnan(found.scores[1]).all()
    assert np.isnan(found.loss[1])
    kept = [0, 2, 3]
    np.testing.assert_allclose(found.scores[kept], expected[kept], rtol=1e-6)
    again = directions(
        model, layers, estimate_factors(model, layers, encode(ids, context=64)), [encode(ids, context=64)]
    )
    assert all(torch.isfinite(one).all() for one in again.matrices.values())


def test_a_step_on_a_row_with_a_positive_score_lowers_the_targets_loss() -> None:
    model, target = tiny(), random_rows(1, seed=21)
    pool, layers = random_rows(12, seed=22), find_layers(model)
    factors = estimate_factors(model, layers, pool, kind="identity")
    found = score(model, layers, directions(model, layers, factors, [target]), pool)
    step, drops = 1e-4, []
    for row in gradients(model, layers, pool):
        moved = [(weight, grad) for block in layers for weight, grad in parts(model, block, row[block.name])]
        losses = []
        for move in (step, -2 * step, step):
            with torch.no_grad():
                for weight, grad in moved:
                    weight.add_(grad, alpha=move)
                losses.append(loss(model, target.ids[0], target.counted[0]).item())
        drops.append((losses[0] - losses[1]) / (2 * step))
    np.testing.assert_allclose(drops, found[:, 0], rtol=1e-2, atol=1e-2 * np.abs(found).max())


def parts(model: nn.Module, block: Block, gradient: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Each member's weight and its share of the block's gradient."""
    weights = weight_of(model, block)
    return list(zip(weights, torch.split(gradient, [len(one) for one in weights]), strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_low_precision_ranks_alike(dtype: torch.dtype) -> None:
    pool = random_rows(40)
    found = []
    for precision in (torch.float64, dtype):
        model = tiny("llama", precision)
        layers = find_layers(model)
        factors = estimate_factors(model, layers, pool, kind="identity")
        towards = directions(model, layers, factors, [pool.take([0, 1]), pool.take([2, 3, 4])])
        found.append(score(model, layers, towards.to("cpu", dtype if dtype == torch.bfloat16 else torch.float32), pool))
    limit = 0.98 if dtype == torch.bfloat16 else 0.99999
    assert min(np.corrcoef(found[0][:, one], found[1][:, one])[0, 1] for one in range(2)) > limit


def test_lora_scores_equal_autograd() -> None:
    model = get_peft_model(tiny(), LoraConfig(r=3, target_modules=["q_proj", "v_proj", "down_proj"], lora_dropout=0.3))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(0))
    frozen = [name for name, one in model.named_parameters() if not one.requires_grad]
    pool, target, layers = random_rows(7), random_rows(3, seed=1), find_layers(model)
    factors = estimate_factors(model, layers, pool, kind="identity")
    found = score(model, layers, directions(model, layers, factors, [target]), pool)
    expected = [dot(one, mean(gradients(model, layers, target))) for one in gradients(model, layers, pool)]
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())
    assert [name for name, one in model.named_parameters() if not one.requires_grad] == frozen


def test_the_model_comes_back_as_it_was() -> None:
    model = tiny("mixtral")
    before = {name: one.clone() for name, one in model.named_parameters()}
    experts = model.config._experts_implementation
    made(model, find_layers(model))
    assert all(torch.equal(before[name], one) and one.requires_grad for name, one in model.named_parameters())
    assert all(one.grad is None for one in model.parameters())
    assert all(module.training for module in model.modules())
    assert model.config._experts_implementation == experts
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_sums_and_means_differ_by_the_number_of_tokens() -> None:
    model, pool = tiny(), random_rows(6)
    layers = find_layers(model)
    sums, means = (examine(model, layers, pool, norms=True, reduction=one) for one in ("sum", "mean"))  # type: ignore[arg-type]
    counts = np.array([counted.sum() for counted in pool.counted])
    np.testing.assert_allclose(sums.loss, means.loss * counts, rtol=1e-5)
    np.testing.assert_allclose(sums.norms, means.norms * counts, rtol=1e-5)
    with pytest.raises(RecipeError, match="cannot score"):
        examine(model, layers, pool, towards=made(model, layers), reduction="sum")


def test_el2n_is_the_mean_distance_from_the_truth() -> None:
    model, pool = tiny().eval(), encode([[1, 2, 3], [4, 5]], context=64)
    found = examine(model, find_layers(model), pool)
    for place, ids in enumerate(pool.ids):
        chances = torch.softmax(model(input_ids=torch.tensor(ids)[None]).logits[0, :-1], -1).detach()
        truth = nn.functional.one_hot(torch.tensor(ids[1:]), VOCABULARY)
        assert found.el2n[place] == pytest.approx(float((chances - truth).norm(dim=1).mean()), rel=1e-5)


def test_projections_keep_inner_products_on_average() -> None:
    model, pool = tiny("llama", torch.float32), random_rows(4)
    layers = find_layers(model)
    own = gradients(model, layers, pool)
    expected = np.array([[dot(one, other) for other in own] for one in own])
    many = [project(model, layers, pool, 64, seed=seed).astype(float) for seed in range(30)]
    found = np.mean([one @ one.T for one in many], 0)
    assert np.abs(found - expected).max() < 0.2 * np.abs(expected).max()
    np.testing.assert_allclose(
        project(model, layers, pool.take([3, 1]), 64, seed=0), many[0][[3, 1]], rtol=1e-3, atol=1e-5
    )
    assert not np.allclose(many[0], many[1])


def test_less_projects_adams_own_steps() -> None:
    """One step of torch's Adam from the same moments moves the weights as `AdamState.update` says."""
    model, pool = tiny(), random_rows(5)
    layers = find_layers(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.8, 0.9))
    for row in zip(pool.ids, pool.counted, strict=True):
        loss(model, *row).backward()
        optimizer.step()
        optimizer.zero_grad()
    adam = AdamState.of(model, layers, optimizer)
    (gradient,) = gradients(model, layers, pool.take([0]))
    block = layers[0]
    before = torch.cat(weight_of(model, block)).detach().clone()
    model.eval()
    model.zero_grad()
    loss(model, pool.ids[0], pool.counted[0]).backward()
    optimizer.step()
    moved = (before - torch.cat(weight_of(model, block)).detach()) / 1e-3
    torch.testing.assert_close(adam.update(block.name, gradient[block.name][None])[0], moved, rtol=1e-4, atol=1e-5)


def test_projected_adam_updates_equal_the_projection_of_updates() -> None:
    model, pool = tiny(), random_rows(4)
    layers = find_layers(model)
    adam = AdamState(
        {one.name: torch.full((one.outputs, one.inputs), 0.01) for one in layers},
        {one.name: torch.full((one.outputs, one.inputs), 0.02) for one in layers},
        step=3,
    )
    found, projection = project(model, layers, pool, 12, adam=adam), Projection(12, 0)
    for place, own in enumerate(gradients(model, layers, pool)):
        updates = [(one, adam.update(one.name, own[one.name][None].float())) for one in layers]
        expected = sum(projection.gradients(one, update)[0] for one, update in updates)
        np.testing.assert_allclose(found[place], expected, rtol=1e-3, atol=1e-4)
    towards = adam_directions(model, layers, adam, [pool])
    whole = mean(gradients(model, layers, pool))
    for one in layers:
        denominator = (0.02 / (1 - 0.999**3)) ** 0.5 + 1e-8
        torch.testing.assert_close(
            towards.matrices[one.name][0], (whole[one.name] / denominator).float(), rtol=1e-4, atol=1e-6
        )


def test_memory_is_stated_before_and_about_right() -> None:
    model = tiny("llama", torch.float32)
    layers = find_layers(model)
    small, large = (memory_needed(model, layers, targets=2, tokens=tokens, length=32) for tokens in (320, 3200))
    assert small.weights == sum(4 * one.numel() for one in model.parameters())
    assert small.weights < small.score < large.score < small.score + 10 * 320 * 50_000
    none = memory_needed(model, layers, kind="identity", length=32)
    assert none.factors == none.weights < small.factors


def test_cost_counts_padded_tokens() -> None:
    model = tiny("llama", torch.float32)
    rows = encode([[1, 2, 3, 4], [1, 2, 3], [], [5]], context=8, tokens=8)
    found = cost(model, find_layers(model), rows, rows=40)
    assert found.tokens == 80
    assert found.seconds > 0
    assert np.isnan(cost(model, find_layers(model), rows.take([2])).seconds)


def test_one_model_can_be_used_for_many_lengths() -> None:
    assert context_of(tiny("gpt2")) == CONTEXT
    with pytest.raises(RecipeError, match="how long"):
        context_of(nn.Linear(2, 2))
