"""Fused experts: one [experts, out, in] parameter for all, used expert by expert on the tokens routed to each.

`transformers` keeps a mixture's experts so. Its plain (`eager`) code takes `parameter[expert]` and multiplies the
routed tokens with it; both steps are watched here, whatever the architecture does around them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_MATMULS = (torch.matmul, torch.mm, torch.Tensor.matmul, torch.Tensor.mm, torch.Tensor.__matmul__)


class Listener(Protocol):
    """Told of each product of routed tokens with one expert's matrix."""

    def __call__(self, key: int, expert: int, how: str, *, inputs: Tensor, output: Tensor, tokens: Tensor) -> None:
        """`key`: id of the parameter; `tokens`: which of the batch's tokens (flat) the inputs' rows are."""
        ...


def fused_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """A fused expert module's matrices by name; empty where it is none."""
    own = dict(module.named_parameters(recurse=False))
    matrices = {name: one for name, one in own.items() if one.ndim == 3}
    return matrices if len({one.shape[0] for one in matrices.values()}) == 1 else {}


@contextmanager
def eager_experts(modules: Iterable[nn.Module]) -> Iterator[None]:
    """The modules' plain code in place of fused kernels, which do not show one expert at a time."""
    configs: dict[int, Any] = {id(module.config): module.config for module in modules if hasattr(module, "config")}
    were = {key: getattr(config, "_experts_implementation", None) for key, config in configs.items()}
    try:
        for config in configs.values():
            config._experts_implementation = "eager"
        yield
    finally:
        for key, config in configs.items():
            config._experts_implementation = were[key]


def listening(module: nn.Module, keys: Mapping[int, Any], listener: Listener) -> list[Any]:
    """Tell `listener` of every product with a slice of the parameters whose ids are `keys`; handles to remove."""
    open_modes: list[ExitStack] = []

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        values = (*args, *kwargs.values())
        routes = next(
            one for one in values if isinstance(one, Tensor) and not one.is_floating_point() and one.ndim == 2
        )
        stack = ExitStack()
        stack.enter_context(_Watch(keys, routes, listener))
        open_modes.append(stack)

    def after(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if open_modes:
            open_modes.pop().close()

    return [
        module.register_forward_pre_hook(before, with_kwargs=True),
        module.register_forward_hook(after, always_call=True),
    ]


class _Watch(TorchFunctionMode):
    def __init__(self, keys: Mapping[int, Any], routes: Tensor, listener: Listener) -> None:
        super().__init__()
        self.keys, self.routes, self.listener = keys, routes, listener
        self.slices: dict[int, tuple[int, int, Tensor]] = {}  # the tensor is held, so that its id stays its own

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if func is torch.Tensor.__getitem__ and id(args[0]) in self.keys and output.ndim == 2:
            self.slices[id(output)] = (id(args[0]), int(args[1]), output)
        elif (func is nn.functional.linear or func in _MATMULS) and len(args) > 1 and id(args[1]) in self.slices:
            key, expert, _ = self.slices[id(args[1])]
            how = "linear" if func is nn.functional.linear else "matmul"
            tokens = torch.where((self.routes == expert).T)[1]
            self.listener(key, expert, how, inputs=args[0].detach(), output=output, tokens=tokens)
        return output


def by_row(values: Tensor, tokens: Tensor, rows: int, length: int) -> Tensor:
    """Vectors [k, d] of the batch's flat `tokens` [k] as [rows, most per row, d], zeros where a row has fewer."""
    row = torch.div(tokens, length, rounding_mode="floor")
    order = torch.argsort(row, stable=True)
    counts = torch.bincount(row, minlength=rows)
    starts = torch.cumsum(counts, 0) - counts
    sorted_row = row[order]
    most = int(counts.max())
    slots = sorted_row * most + torch.arange(len(order), device=row.device) - starts[sorted_row]
    dense = values.new_zeros(rows * most, values.shape[-1])
    dense[slots] = values[order]
    return dense.reshape(rows, most, -1)
