"""A frozen model, one forward and backward pass per batch, and what every block saw in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from schemas.errors import RecipeError, RunError
from stages.influence.batches import Batch
from stages.influence.experts import by_row, eager_experts, listening
from stages.influence.layers import Block, Layers
from stages.influence.losses import Reduction, RowLosses, asked, row_losses
from stages.influence.probe import evaluating, logits_of


class Seen(NamedTuple):
    """What one block saw of one batch: row i's gradient is `grads[i].T @ inputs[i]` [out, in]."""

    block: Block
    inputs: Tensor  # [n, m, in]
    grads: Tensor  # [n, m, out], zeros for padding
    live: Tensor  # [n, m], False for padding and for tokens after which nothing counts: their gradients are zero
    sound: Tensor  # [n], whether the row's loss is finite


Use = Callable[[Seen], None]


def _live(counted: Tensor) -> Tensor:
    """Tokens that a later token's loss can depend on [n, length]."""
    later = torch.flip(torch.cumsum(torch.flip(counted.int(), [1]), 1), [1])
    return later > counted.int()


class _Joint:
    """A joint block's output gradients, as they arrive."""

    def __init__(self, block: Block, inputs: Tensor) -> None:
        self.block, self.inputs, self.version = block, inputs, inputs._version
        self.grads: list[Tensor | None] = [None] * len(block.members)


def _when_ready(output: Tensor, hook: Callable[[Tensor], None]) -> None:
    """Call `hook` with the gradient of `output`."""
    output.register_hook(hook)  # type: ignore[no-untyped-call]


class Passes:
    """Runs batches; made by `watching`."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self.device = next(model.parameters()).device
        self._use: Use | None = None
        self._live = self._sound = torch.empty(0)
        self._asked = asked(torch.empty(0, 1))

    def run(
        self,
        batch: Batch,
        use: Use | None,
        *,
        reduction: Reduction = "mean",
        uniforms: npt.NDArray[np.float32] | None = None,
    ) -> RowLosses:
        """One forward and (unless `use` is None) backward pass; `use` is told of each block as its gradient arrives.

        `uniforms` [n, length]: draw labels from the model instead of taking the text's (see `row_losses`).
        """
        ids, counted = (torch.from_numpy(one).to(self.device) for one in (batch.ids, batch.counted))
        self._live, self._asked = _live(counted), asked(counted)
        draws = None if uniforms is None else torch.from_numpy(uniforms).to(self.device)
        self._use = use
        with torch.set_grad_enabled(use is not None):
            logits = self._logits(ids)
            found = row_losses(logits.detach(), ids, counted, reduction, draws)
            self._sound = torch.isfinite(found.loss)
            if use is not None:
                torch.autograd.backward(logits, found.gradient)
        return found

    def _logits(self, ids: Tensor) -> Tensor:
        """Logits [k, vocabulary] where they are asked for. One row never asks for all of its tokens', so that what the
        output head was spared can be told from the shape.
        """
        logits = logits_of(self._model, ids)
        return logits[self._asked] if logits.shape[:2] == ids.shape else logits[0]

    def _spare(self, head: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        """Give the output head only the tokens whose logits are asked for, as one row."""
        if not args or args[0].shape[:-1] != self._live.shape:
            return None
        row, place = (one.to(args[0].device) for one in self._asked)
        return (args[0][row, place][None], *args[1:])

    def watch(self, model: nn.Module, layers: Layers) -> list[object]:
        """Put hooks on the output head and the blocks' modules; the handles to remove them by."""
        head: nn.Module | None = getattr(model, "get_output_embeddings", lambda: None)()
        handles: list[object] = [] if head is None else [head.register_forward_pre_hook(self._spare)]
        fused: dict[str, dict[int, dict[int, Block]]] = {}
        for block in layers:
            if block.expert is None:
                shared: list[_Joint] = []
                for member, path in enumerate(block.members):
                    hook = partial(self._forward, block, member, shared)
                    handles.append(model.get_submodule(path).register_forward_hook(hook))
            else:
                keys = fused.setdefault(block.members[0].rpartition(".")[0], {})
                keys.setdefault(id(model.get_parameter(block.members[0])), {})[block.expert] = block
        for path, keys in fused.items():
            handles += listening(model.get_submodule(path), keys, partial(self._routed, keys))
        return handles

    def _forward(
        self,
        block: Block,
        member: int,
        shared: list[_Joint],
        module: nn.Module,
        args: tuple[Tensor, ...],
        output: Tensor,
    ) -> None:
        if not torch.is_grad_enabled():
            return
        if not output.requires_grad:  # the first block: nothing before it has a graph
            output.requires_grad_()
        if member == 0:
            shared[:] = [_Joint(block, args[0].detach())]
        _when_ready(output, partial(self._arrived, shared[0], member))

    def _arrived(self, joint: _Joint, member: int, grad: Tensor) -> None:
        joint.grads[member] = grad
        grads = [one for one in joint.grads if one is not None]
        if len(grads) < len(joint.grads):
            return
        if joint.inputs._version != joint.version:
            raise RunError(f"influence: the model overwrites the input of {joint.block.name}; leave that layer out")
        rows, length = self._live.shape
        stacked = grads[0] if len(grads) == 1 else torch.cat(grads, -1)
        inputs = joint.inputs.reshape(rows, length, -1)
        self._tell(Seen(joint.block, inputs, stacked.reshape(rows, length, -1), self._live, self._sound))

    def _routed(
        self, keys: dict[int, dict[int, Block]], key: int, expert: int, how: str, *,
        inputs: Tensor, output: Tensor, tokens: Tensor,
    ) -> None:  # fmt: skip
        if torch.is_grad_enabled() and expert in keys[key] and len(tokens):
            if not output.requires_grad:
                output.requires_grad_()
            _when_ready(output, partial(self._arrived_routed, keys[key][expert], inputs, tokens))

    def _arrived_routed(self, block: Block, inputs: Tensor, tokens: Tensor, grad: Tensor) -> None:
        rows, length = self._live.shape
        live = by_row(self._live.reshape(-1, 1)[tokens], tokens, rows, length)
        dense = by_row(inputs, tokens, rows, length), by_row(grad, tokens, rows, length)
        self._tell(Seen(block, *dense, live[..., 0], self._sound))

    def _tell(self, seen: Seen) -> None:
        assert self._use is not None
        self._use(seen)


@contextmanager
def watching(model: nn.Module, layers: Layers) -> Iterator[Passes]:
    """`model` frozen, without dropout and with hooks on `layers`; all as it was before at the end."""
    parameters = [one for one in model.parameters() if one.requires_grad]
    modules = {block.members[0].rpartition(".")[0] for block in layers if block.expert is not None}
    passes = Passes(model)
    with ExitStack() as stack:
        stack.enter_context(evaluating(model))
        stack.enter_context(eager_experts([model.get_submodule(path) for path in modules]))
        for parameter in parameters:
            parameter.requires_grad_(False)
            stack.callback(parameter.requires_grad_, True)
        for handle in passes.watch(model, layers):
            stack.callback(handle.remove)  # type: ignore[attr-defined]
        yield passes


def context_of(model: nn.Module) -> int:
    """The longest sequence the model takes, in tokens.

    Raises:
        RecipeError: where its configuration does not say.
    """
    config = getattr(model, "config", None)
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        if isinstance(size := getattr(config, name, None), int):
            return size
    raise RecipeError(f"influence: the configuration of {type(model).__name__} does not say how long its context is")
