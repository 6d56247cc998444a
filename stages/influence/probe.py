"""One short forward pass that shows what a model's parts do: which mix tokens, which matrices share an input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from stages.influence.experts import eager_experts, listening

ROWS, LENGTH = 2, 7


@dataclass
class Trace:
    """What was seen, by module path."""

    inputs: dict[str, list[Tensor]] = field(default_factory=dict)
    """The input of each matrix, once per call, in the order of the calls."""
    mixes: dict[str, bool] = field(default_factory=dict)
    """Whether a container's output for one token depends on earlier tokens: attention does, an MLP does not."""
    experts: dict[str, str] = field(default_factory=dict)
    """Fused parameters that were seen expert by expert: path to `linear` ([out, in]) or `matmul` ([in, out])."""

    def per_token(self, path: str) -> bool:
        """Whether the matrix's input is one vector for each token of the batch."""
        return all(one.shape[:-1] in ((ROWS, LENGTH), (ROWS * LENGTH,)) for one in self.inputs[path])


def logits_of(model: nn.Module, ids: Tensor) -> Tensor:
    """Logits [n, length, vocabulary]. No attention mask: with padding at the right, causality is mask enough."""
    output = model(input_ids=ids, use_cache=False)
    logits: Tensor = output.logits if hasattr(output, "logits") else output
    return logits


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """`model` without dropout, and as it was afterwards."""
    were = [module for module in model.modules() if module.training]
    try:
        model.eval()
        yield
    finally:
        for module in were:
            module.training = True


def trace(
    model: nn.Module, matrices: Sequence[str], containers: Sequence[str], fused: Mapping[str, nn.Module]
) -> Trace:
    """Run a few tokens through `model` and note what `matrices`, `containers` and `fused` expert modules do."""
    found = Trace()
    with ExitStack() as stack:
        stack.enter_context(evaluating(model))
        stack.enter_context(eager_experts(fused.values()))
        stack.enter_context(torch.enable_grad())
        _listen(model, matrices, containers, fused, found, stack)
        logits_of(model, _tokens(model))
    return found


def _listen(
    model: nn.Module, matrices: Sequence[str], containers: Sequence[str], fused: Mapping[str, nn.Module],
    found: Trace, stack: ExitStack,
) -> None:  # fmt: skip
    modules = dict(model.named_modules())
    handles = [modules[path].register_forward_hook(partial(_note, found, path)) for path in matrices]
    handles += [
        modules[path].register_forward_hook(partial(_mixing, found, path), with_kwargs=True) for path in containers
    ]
    embeddings = [module for module in modules.values() if isinstance(module, nn.Embedding)]
    handles += [module.register_forward_hook(_differentiable) for module in embeddings]
    for path, module in fused.items():
        names = {id(parameter): f"{path}.{name}" for name, parameter in module.named_parameters(recurse=False)}
        handles += listening(module, {key: {} for key in names}, partial(_expert, found, names))
    for handle in handles:
        stack.callback(handle.remove)


def _tokens(model: nn.Module) -> Tensor:
    weight = next(module.weight for module in model.modules() if isinstance(module, nn.Embedding))
    return torch.arange(1, ROWS * LENGTH + 1, device=weight.device).reshape(ROWS, LENGTH) % weight.shape[0]


def _note(found: Trace, path: str, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
    found.inputs.setdefault(path, []).append(args[0].detach())


def _differentiable(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
    if not output.requires_grad:
        output.requires_grad_()


def _expert(found: Trace, names: Mapping[int, str], key: int, expert: int, how: str, **_: Any) -> None:
    found.experts[names[key]] = how


def _mixing(
    found: Trace, path: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
) -> None:
    """Does the last token's output move with earlier tokens' input?"""
    given = _hidden((*args, *kwargs.values()))
    made = _hidden(output if isinstance(output, tuple | list) else (output,))
    if given is None or made is None or not (given.requires_grad and made.requires_grad):
        return
    by_token = made.reshape(ROWS, LENGTH, -1)[:, -1].float()
    weights = torch.linspace(-1, 1, by_token.shape[-1], device=by_token.device).cos()  # no norm's null direction
    (grad,) = torch.autograd.grad((by_token * weights).sum(), given, retain_graph=True, allow_unused=True)
    if grad is not None:
        found.mixes[path] = bool(grad.reshape(ROWS, LENGTH, -1)[:, :-1].any())


def _hidden(values: Sequence[Any]) -> Tensor | None:
    """The first tensor that has one vector per token."""
    tensors = (value for value in values if isinstance(value, Tensor) and value.is_floating_point())
    shapes = ((ROWS, LENGTH), (ROWS * LENGTH,))
    return next((one for one in tensors if one.ndim in (2, 3) and one.shape[:-1] in shapes), None)
