"""Curvature: Kronecker factors of the Gauss-Newton matrix, block by block.

Martens and Grosse 2015 (K-FAC), George et al. 2018 (EK-FAC: eigenvalues corrected in the Kronecker eigenbasis), and
Grosse et al. 2023, section 2.2, for language models. The matrix is that of the mean loss per counted token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from schemas.errors import RecipeError, RunError
from stages.influence.arrays import Arrays, State, pack, unpack
from stages.influence.batches import Batch, Batches
from stages.influence.layers import Layers
from stages.influence.passes import Passes, Seen, watching
from stages.influence.products import finite, row_gradients
from stages.influence.resume import Progress, fingerprint, key_of, summed

Kind = Literal["ekfac", "kfac", "identity"]
Labels = Literal["sampled", "true"]
_COUNTED = "counted tokens"


@dataclass(frozen=True)
class Factors:
    """Per block name: eigenvectors of E[a a^T] [in, in] and of E[d d^T] [out, out] as columns, and the curvature's
    eigenvalues [out, in] in their basis. With `kind: identity` there are none, and the curvature is the identity.
    """

    kind: Kind
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    eigenvalues: Mapping[str, Tensor]

    def solve(self, name: str, gradient: Tensor, damping: float) -> Tensor:
        """(H + damping x mean eigenvalue of the block)^-1 times `gradient` [..., out, in] of block `name`.

        Zero where no sample moved the block (an expert that no token was sent to): nothing is known of it.
        """
        if self.kind == "identity":
            return gradient
        left, right, values = (part[name].to(gradient.device) for part in (self.outputs, self.inputs, self.eigenvalues))
        floor = damping * values.mean()
        if not values.mean() > 0:
            return torch.zeros_like(gradient)
        return left @ ((left.T @ gradient @ right) / (values + floor)) @ right.T

    def to_state(self) -> Arrays:
        """As named arrays, float32."""
        parts = {"inputs": self.inputs, "outputs": self.outputs, "eigenvalues": self.eigenvalues}
        arrays: Arrays = {"kind": np.array(self.kind)}
        for name, tensors in parts.items():
            arrays |= pack(name, tensors)
        return arrays

    @staticmethod
    def from_state(state: State) -> Factors:
        """What `to_state` wrote."""
        inputs, outputs, values = (unpack(name, state) for name in ("inputs", "outputs", "eigenvalues"))
        return Factors(str(state["kind"]), inputs, outputs, values)  # type: ignore[arg-type]


def estimate_factors(
    model: nn.Module,
    layers: Layers,
    batches: Batches,
    *,
    kind: Kind = "ekfac",
    samples: int = 256,
    labels: Labels = "sampled",
    seed: int = 0,
    scratch: Path | None = None,
    progress: Progress | None = None,
) -> Factors:
    """Curvature at the model's weights.

    Args:
        model: on the device and in the precision to be used; sums are float32, eigenvectors are found in float64.
        layers: from `find_layers`.
        batches: rows to take at most `samples` of, by chance of their content.
        kind: `ekfac`; `kfac` saves the second pass and fits a little worse; `identity` needs no data.
        samples: 256 rows are about as good as 4,000.
        labels: `sampled` from the model (the Gauss-Newton matrix), or the texts' own (the empirical Fisher matrix).
        seed: of the choice of rows and of the labels; each row's are its own, whatever it is batched with.
        scratch: folder for finished steps: a killed call repeated goes on and gives the same factors.
        progress: told after every batch.

    Raises:
        RecipeError: where no row has a token that counts.
        RunError: where the model's loss is finite on none.
    """
    if kind == "identity":
        return Factors(kind, {}, {}, {})
    chosen = batches.sample(samples, seed)
    if not len(chosen):
        raise RecipeError("influence: none of the rows for the curvature has a token whose loss counts")
    key = "" if scratch is None else key_of(chosen, fingerprint(model), [block.name for block in layers], labels, seed)
    with watching(model, layers) as passes:
        job = _Job(passes, layers, chosen, labels, seed, key, scratch, progress)
        sums = job.covariances()
        counted = float(sums[_COUNTED])
        if not counted:
            raise RunError("influence: the model's loss is finite on none of the rows for the curvature")
        inputs = {block.name: eigen(sums[f"inputs {block.name}"], sums[f"tokens {block.name}"]) for block in layers}
        outputs = {block.name: eigen(sums[f"outputs {block.name}"], sums[_COUNTED]) for block in layers}
        del sums
        if kind == "kfac":
            values = {name: torch.outer(outputs[name].values, inputs[name].values) for name in inputs}
        else:
            values = {name: total / counted for name, total in job.corrections(inputs, outputs).items()}
    left, right = ({name: one.vectors for name, one in basis.items()} for basis in (outputs, inputs))
    return Factors(kind, right, left, values)


class Eigen(NamedTuple):
    """Eigenvalues [n], none below zero, and eigenvectors as columns [n, n]; float32."""

    values: Tensor
    vectors: Tensor


def eigen(total: Tensor, count: Tensor) -> Eigen:
    """Eigen decomposition of the symmetric `total` / `count`, in float64 (on the CPU where the device has none)."""
    matrix = total if total.device.type != "mps" else total.cpu()
    mean = matrix.double() / count.double().clamp(min=1).to(matrix.device)
    values, vectors = torch.linalg.eigh((mean + mean.T) / 2)
    return Eigen(values.clamp(min=0).float().to(total.device), vectors.float().to(total.device))


class _Job(NamedTuple):
    passes: Passes
    layers: Layers
    rows: Batches
    labels: Labels
    seed: int
    key: str
    scratch: Path | None
    progress: Progress | None

    def covariances(self) -> dict[str, Tensor]:
        """Sums over tokens of a a^T and d d^T of each block, and how many tokens went in."""
        totals = {_COUNTED: self._zeros()}
        for block in self.layers:
            totals[f"tokens {block.name}"] = self._zeros()
            totals[f"inputs {block.name}"] = self._zeros(block.inputs, block.inputs)
            totals[f"outputs {block.name}"] = self._zeros(block.outputs, block.outputs)

        def use(seen: Seen) -> None:
            inputs, grads, live = finite(seen)
            inputs, grads, name = inputs[live], grads[live], seen.block.name
            totals[f"tokens {name}"].add_(len(inputs))
            totals[f"inputs {name}"].addmm_(inputs.T, inputs)
            totals[f"outputs {name}"].addmm_(grads.T, grads)

        self._sum("covariances", totals, use)
        return totals

    def corrections(self, inputs: Mapping[str, Eigen], outputs: Mapping[str, Eigen]) -> dict[str, Tensor]:
        """Sums over rows of their gradient's squared coordinates in the Kronecker eigenbasis."""
        totals = {block.name: self._zeros(block.outputs, block.inputs) for block in self.layers}

        def use(seen: Seen) -> None:
            name = seen.block.name
            given, grads, _ = finite(seen)
            for gradients in row_gradients(given @ inputs[name].vectors, grads @ outputs[name].vectors):
                totals[name].add_(gradients.square().sum(0))

        self._sum("corrections", totals, use)
        return totals

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, device=self.passes.device)

    def _sum(self, step: str, totals: dict[str, Tensor], use: object) -> None:
        # the two steps draw labels of their own: else the second would only confirm what the first happened to draw
        uniforms = None if self.labels == "true" else _Uniforms(self.rows.keys(f"labels {self.seed} {step}"))

        def add(batch: Batch) -> None:
            draws = None if uniforms is None else uniforms.of(batch)
            losses = self.passes.run(batch, use, reduction="sum", uniforms=draws)  # type: ignore[arg-type]
            if _COUNTED in totals:
                kept = torch.isfinite(losses.loss).cpu().numpy()
                totals[_COUNTED].add_(float(batch.counted[kept].sum()))

        summed(step, self.rows, totals, add, key=self.key, scratch=self.scratch, progress=self.progress)


class _Uniforms(NamedTuple):
    """Numbers in [0, 1) for every token, from each row's own key."""

    keys: list[bytes]

    def of(self, batch: Batch) -> npt.NDArray[np.float32]:
        draws = np.zeros(batch.ids.shape, np.float32)
        for place, row in enumerate(batch.rows):
            generator = np.random.Generator(np.random.Philox(key=int.from_bytes(self.keys[row], "little")))
            size = int(batch.real[place].sum())
            draws[place, :size] = generator.random(size, np.float32)
        return draws
