"""Curvature against the Gauss-Newton matrix itself, and factors that survive a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from influence_models import VOCABULARY, OneMatrix, gradients, mean, random_rows, tiny

from schemas.errors import RecipeError, RunError
from stages.influence import Directions, Factors, directions, encode, estimate_factors, find_layers, resume, score
from stages.influence.losses import draw

DAMPING = 0.1


def exact(curvature: torch.Tensor, target: torch.Tensor, rows: list[torch.Tensor]) -> list[float]:
    """g_V^T (H + damping x mean eigenvalue)^-1 g_z with H written out."""
    damped = curvature + DAMPING * curvature.trace() / len(curvature) * torch.eye(len(curvature), dtype=curvature.dtype)
    solved = torch.linalg.solve(damped, target.flatten().to(curvature))
    return [float(row.flatten().to(curvature) @ solved) for row in rows]


def softmax_regression() -> OneMatrix:
    torch.manual_seed(0)
    model = OneMatrix()
    torch.nn.init.zeros_(model.layers[0].mlp.weight)
    return model


@pytest.mark.parametrize("kind", ["ekfac", "kfac"])
def test_one_layer_one_token_equals_the_inverse_gauss_newton_matrix(kind: str) -> None:
    """All labels once after one token, at equal probabilities: then their own Fisher matrix is the Gauss-Newton one."""
    model = softmax_regression()
    layers, rows = find_layers(model), encode([[2, label] for label in range(5)], context=2)
    factors = estimate_factors(model, layers, rows, kind=kind, labels="true")  # type: ignore[arg-type]
    pool, target = encode([[1, 3], [2, 0], [4, 4]], context=2), encode([[2, 1], [3, 1]], context=2)
    found = score(model, layers, directions(model, layers, factors, [target], damping=DAMPING), pool)
    given, chances = model.embedding.weight[2].detach().double(), torch.full((5,), 0.2).double()
    curvature = torch.kron(torch.diag(chances) - torch.outer(chances, chances), torch.outer(given, given))
    (name,) = [block.name for block in layers]
    own = [one[name] for one in gradients(model, layers, pool)]
    expected = exact(curvature, mean(gradients(model, layers, target))[name], own)
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-4)


def test_sampled_labels_approach_the_gauss_newton_matrix() -> None:
    torch.manual_seed(1)
    model = OneMatrix()
    layers = find_layers(model)
    factors = estimate_factors(model, layers, encode([[2, 0]] * 4000, context=2), samples=4000)
    (block,) = layers
    left, right, values = factors.outputs[block.name], factors.inputs[block.name], factors.eigenvalues[block.name]
    found = torch.einsum("ai,bi,ij,cj,dj->abcd", left, left, values, right, right)
    given = model.embedding.weight[2].detach()
    chances = torch.softmax(model.layers[0].mlp(given), 0).detach()
    one = torch.diag(chances) - torch.outer(chances, chances)
    expected = torch.einsum("ab,c,d->abcd", one, given, given)
    assert (found - expected).abs().max() < 0.05 * expected.abs().max()


def test_labels_are_drawn_with_the_models_probabilities() -> None:
    logits = torch.tensor([0.1, 0.2, 0.3, 0.4]).log().expand(1000, 4)
    found = draw(logits, (torch.arange(1000) + 0.5) / 1000)
    assert torch.bincount(found).tolist() == [100, 200, 300, 400]
    assert draw(logits[:1], torch.tensor([1.0])).tolist() == [3]


@pytest.mark.parametrize("name", ["llama", "mixtral", "gpt2"])
def test_factors_do_not_depend_on_batches_or_order(name: str) -> None:
    model, rows = tiny(name), random_rows(60, tokens=200)
    layers, random = find_layers(model), torch.Generator().manual_seed(0)
    alone = encode(rows.ids[::-1], rows.counted[::-1], context=64, tokens=1)
    first, second = (estimate_factors(model, layers, one) for one in (rows, alone))
    for block in layers:
        probe = torch.randn(block.outputs, block.inputs, generator=random)
        solved = [one.solve(block.name, probe, DAMPING) for one in (first, second)]
        torch.testing.assert_close(*solved, rtol=0, atol=1e-3 * float(solved[0].abs().max()))


def test_corrected_eigenvalues_are_mean_squared_coordinates() -> None:
    model, rows = tiny(), random_rows(8)
    layers = find_layers(model)
    factors = estimate_factors(model, layers, rows, labels="true")
    tokens = sum(int(counted.sum()) for counted in rows.counted)
    each = gradients(model, layers, rows, "sum")
    for block in layers:
        left, right = factors.outputs[block.name].double(), factors.inputs[block.name].double()
        squares = sum((left.T @ one[block.name] @ right).square() for one in each) / tokens
        expected = squares.float()
        torch.testing.assert_close(
            factors.eigenvalues[block.name], expected, rtol=1e-3, atol=1e-5 * float(expected.max())
        )


def test_an_expert_without_tokens_has_no_say() -> None:
    model, target = tiny("mixtral"), encode([[1, 2]], context=4)
    layers = find_layers(model, "mlp")
    factors = estimate_factors(model, layers, target)
    found = score(model, layers, directions(model, layers, factors, [target]), random_rows(6))
    idle = [block for block in layers if not factors.eigenvalues[block.name].any()]
    assert idle
    assert np.isfinite(found).all()


def test_states_come_back_equal() -> None:
    model, rows = tiny(), random_rows(6)
    layers = find_layers(model)
    factors = estimate_factors(model, layers, rows)
    towards = directions(model, layers, factors, [rows, random_rows(2, seed=5)])
    found = score(model, layers, towards, rows)
    again = directions(model, layers, Factors.from_state(factors.to_state()), [rows, random_rows(2, seed=5)])
    np.testing.assert_array_equal(score(model, layers, again, rows), found)
    np.testing.assert_array_equal(score(model, layers, Directions.from_state(towards.to_state()), rows), found)
    half = score(model, layers, Directions.from_state(towards.to_state("float16")), rows)
    np.testing.assert_allclose(half, found, atol=2e-3 * np.abs(found).max())


def test_a_row_that_overflows_leaves_the_others_alone() -> None:
    model, rows = tiny(), random_rows(8)
    layers = find_layers(model)
    clean = encode([np.minimum(one, VOCABULARY - 2) for one in rows.ids], rows.counted, context=64)
    poisoned = encode([*clean.ids, [3, VOCABULARY - 1, 3]], [*clean.counted, None], context=64)
    with torch.no_grad():
        model.get_input_embeddings().weight[-1] = torch.inf
    bad = [estimate_factors(model, layers, one, kind="kfac", labels="true") for one in (clean, poisoned)]
    for block in layers:
        torch.testing.assert_close(bad[0].eigenvalues[block.name], bad[1].eigenvalues[block.name], rtol=1e-3, atol=1e-6)
    only = encode([[3, VOCABULARY - 1, 3]], context=64)
    with pytest.raises(RunError, match="finite on none"):
        estimate_factors(model, layers, only)


def test_nothing_to_learn_from_is_said() -> None:
    model = tiny()
    layers = find_layers(model)
    empty = encode([[], [1]], context=4)
    with pytest.raises(RecipeError, match="none of the rows"):
        estimate_factors(model, layers, empty)
    factors = estimate_factors(model, layers, empty, kind="identity")
    with pytest.raises(RecipeError, match="target set 0 has no token"):
        directions(model, layers, factors, [empty])
    fewer = estimate_factors(model, find_layers(model, "mlp"), random_rows(3))
    with pytest.raises(RecipeError, match="estimated without layer"):
        directions(model, layers, fewer, [random_rows(2)])


@pytest.mark.parametrize("step", ["covariances", "corrections"])
def test_interrupted_factors_go_on_with_the_same_bits(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, rows = tiny(), random_rows(12)
    layers = find_layers(model)
    expected = estimate_factors(model, layers, rows).to_state()
    monkeypatch.setattr(resume, "SAVE_SECONDS", 0.0)
    done: list[tuple[str, int]] = []

    def stop(now: str, batch: int, _: int) -> None:
        done.append((now, batch))
        if (now, batch) == (step, 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        estimate_factors(model, layers, rows, scratch=tmp_path, progress=stop)
    first = len(done)
    again = estimate_factors(model, layers, rows, scratch=tmp_path, progress=lambda *now: done.append(now[:2]))
    assert len(done) == len(set(done)) > first  # no batch twice
    state = again.to_state()
    assert all(np.array_equal(state[name], values) for name, values in expected.items())


_KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
import torch
sys.path.insert(0, sys.argv[1])
from influence_models import random_rows, tiny
from stages.influence import estimate_factors, find_layers, resume
torch.set_num_threads(1)
resume.SAVE_SECONDS = 0.0
def die(step, done, total):
    if (step, done) == ("corrections", 2) and sys.argv[3] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
model = tiny()
factors = estimate_factors(model, find_layers(model), random_rows(12), scratch=Path(sys.argv[2]), progress=die)
np.savez(Path(sys.argv[2], "found.npz"), **factors.to_state())
"""


@pytest.mark.slow
def test_kill_9_in_the_middle_gives_the_same_factors(tmp_path: Path) -> None:
    def run(folder: Path, how: str) -> int:
        arguments = [sys.executable, "-c", _KILLED, str(Path(__file__).parent), str(folder), how]
        return subprocess.run(arguments, env={**os.environ, "OMP_NUM_THREADS": "1"}).returncode

    killed, whole = tmp_path / "killed", tmp_path / "whole"
    killed.mkdir(), whole.mkdir()
    assert run(killed, "die") == -signal.SIGKILL
    assert run(killed, "live") == run(whole, "live") == 0
    found, expected = np.load(killed / "found.npz"), np.load(whole / "found.npz")
    assert all(np.array_equal(found[name], expected[name]) for name in expected.files)
