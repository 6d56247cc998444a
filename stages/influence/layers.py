"""Which weight matrices take part: found by what the model does with them, not by their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, overload

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from schemas.errors import RecipeError, nearest
from stages.influence.experts import fused_parameters
from stages.influence.probe import Trace, trace

Which = Literal["all", "attention", "mlp"]
Part = Literal["attention", "mlp"]


@dataclass(frozen=True)
class Block:
    """Weight matrices with one input, treated as one matrix [out, in]: Q, K and V together, else a single one."""

    name: str
    members: tuple[str, ...]
    """Module paths in the order in which their outputs are stacked; of an expert, its fused parameter's path."""
    kind: Part
    inputs: int
    outputs: int
    expert: int | None = None
    """Which expert of a fused parameter this is."""
    transposed: bool = False
    """Whether that parameter is [experts, in, out]."""


@dataclass(frozen=True)
class Layers(Sequence[Block]):
    """The blocks, in the order the model uses them, and what was left out and why (`skipped`: path to reason)."""

    blocks: tuple[Block, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.blocks)

    @overload
    def __getitem__(self, index: int) -> Block: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Block]: ...
    def __getitem__(self, index: int | slice) -> Block | Sequence[Block]:
        return self.blocks[index]


class _Found(NamedTuple):
    """Candidates before the trace."""

    matrices: dict[str, nn.Module]
    fused: dict[str, nn.Module]
    container: dict[str, str]  # matrix or fused module -> the direct child of its decoder block
    skipped: dict[str, str]


def find_layers(model: nn.Module, layers: Which | Sequence[str] = "all") -> Layers:
    """The weight matrices (nn.Linear, Conv1D, fused experts) inside `model`'s decoder blocks.

    A decoder block is an element of an outermost `nn.ModuleList`; a part of it that lets earlier tokens reach later
    ones is attention, any other is an MLP. Matrices of one attention part that are given the same tensor form one
    block. Where some matrices can be trained and some are frozen, as with LoRA, those that can be trained are taken.
    Biases, norms, embeddings and the output head take no part.

    Args:
        model: a causal language model; two rows of seven tokens are run through it.
        layers: `all`, `attention`, `mlp`, or module paths as in `model.named_modules()`.

    Raises:
        RecipeError: where nothing fits, or a path is none of the model's.
    """
    found = _trainable_only(model, _candidates(model), layers)
    seen = trace(model, list(found.matrices), sorted(set(found.container.values())), found.fused)
    blocks = _blocks(found, seen)
    if isinstance(layers, str) and layers != "all":
        blocks = [block for block in blocks if block.kind == layers]
    if not blocks:
        raise RecipeError(f"influence: {type(model).__name__} has no matrices for layers: {layers}; {found.skipped}")
    return Layers(tuple(blocks), found.skipped)


def weight_of(model: nn.Module, block: Block, of: Mapping[int, Tensor] | None = None) -> list[Tensor]:
    """The block's weights, member by member as [out, in]; `of` maps ids of parameters to what to take instead."""
    if block.expert is not None:
        parameter = model.get_parameter(block.members[0])
        matrix = (parameter if of is None else of[id(parameter)])[block.expert]
        return [matrix.T if block.transposed else matrix]
    weights = []
    for path in block.members:
        module = model.get_submodule(path)
        weight = model.get_parameter(f"{path}.weight")
        matrix = weight if of is None else of[id(weight)]
        weights.append(matrix.T if isinstance(module, Conv1D) else matrix)
    return weights


def _candidates(model: nn.Module) -> _Found:
    found = _Found({}, {}, {}, {})
    owners: dict[int, list[str]] = {}
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if name == "weight":
                owners.setdefault(id(parameter), []).append(path)
    for path, module in model.named_modules():
        container = _container(model, path)
        if container is None:
            continue
        if isinstance(module, nn.Linear | Conv1D):
            if len(owners.get(id(module.weight), ())) > 1:
                found.skipped[path] = "its weight is shared with another module"
                continue
            found.matrices[path] = module
        elif fused_parameters(module):
            found.fused[path] = module
        else:
            continue
        found.container[path] = container
    return found


def _container(model: nn.Module, path: str) -> str | None:
    """The direct child of a decoder block that `path` is or lies in; None outside of decoder blocks."""
    parts = path.split(".")
    for depth in range(1, len(parts) - 1):
        if isinstance(model.get_submodule(".".join(parts[:depth])), nn.ModuleList):
            return ".".join(parts[: depth + 2])
    return None


def _trainable_only(model: nn.Module, found: _Found, layers: Which | Sequence[str]) -> _Found:
    names = [*found.matrices, *found.fused]
    if not isinstance(layers, str):
        for name in layers:
            if name not in names:
                raise RecipeError(f"influence: no weight matrix '{name}' in a decoder block; {nearest(name, names)}")
        chosen = set(layers)
    else:
        free = {name for name in names if any(one.requires_grad for one in model.get_submodule(name).parameters())}
        chosen = free or set(names)
        found.skipped.update({name: "frozen, and others are not" for name in names if name not in chosen})
    keep = {name: container for name, container in found.container.items() if name in chosen}
    matrices = {name: module for name, module in found.matrices.items() if name in chosen}
    return _Found(matrices, {name: one for name, one in found.fused.items() if name in chosen}, keep, found.skipped)


def _blocks(found: _Found, seen: Trace) -> list[Block]:
    """Matrices in order of use; those of one attention part with one input together; then fused experts."""
    groups: dict[object, list[str]] = {}
    for name in seen.inputs:  # in order of first use
        if reason := _unusable(seen, name):
            found.skipped[name] = reason
            continue
        part = found.container[name]
        given = seen.inputs[name][0]
        shared = (part, given.data_ptr(), given.shape, given.stride())
        groups.setdefault(shared if seen.mixes.get(part, False) else name, []).append(name)
    found.skipped.update({name: "not used for text" for name in found.matrices if name not in seen.inputs})
    blocks = [_block(names, found, seen) for names in groups.values()]
    for path, module in found.fused.items():
        blocks += _expert_blocks(path, module, found, seen)
    return blocks


def _unusable(seen: Trace, name: str) -> str | None:
    if len(seen.inputs[name]) > 1:
        return "used more than once in a forward pass"
    return None if seen.per_token(name) else "its input is not one vector per token, so rows cannot be told apart"


def _kind(found: _Found, seen: Trace, name: str) -> Part:
    return "attention" if seen.mixes.get(found.container[name], False) else "mlp"


def _block(names: list[str], found: _Found, seen: Trace) -> Block:
    outputs, inputs = zip(*(_shape(found.matrices[name]) for name in names), strict=True)
    stem = names[0].rpartition(".")[0]
    name = names[0] if len(names) == 1 else f"{stem}.({','.join(one.removeprefix(stem + '.') for one in names)})"
    return Block(name, tuple(names), _kind(found, seen, names[0]), inputs[0], sum(outputs))


def _shape(module: nn.Module) -> tuple[int, int]:
    if isinstance(module, Conv1D):
        return int(module.weight.shape[1]), int(module.weight.shape[0])
    assert isinstance(module, nn.Linear)
    return module.out_features, module.in_features


def _expert_blocks(path: str, module: nn.Module, found: _Found, seen: Trace) -> list[Block]:
    blocks = []
    for name, parameter in fused_parameters(module).items():
        whole = f"{path}.{name}"
        if whole not in seen.experts:
            found.skipped[whole] = "fused experts whose code does not go expert by expert"
            continue
        transposed = seen.experts[whole] == "matmul"
        inputs, outputs = parameter.shape[1:] if transposed else reversed(parameter.shape[1:])
        kind = _kind(found, seen, path)
        blocks += [
            Block(f"{whole}[{expert}]", (whole,), kind, int(inputs), int(outputs), expert, transposed)
            for expert in range(parameter.shape[0])
        ]
    return blocks
