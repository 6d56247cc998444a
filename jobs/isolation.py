"""Packed examples must not see each other: how a model is told where they begin, and the proof that it listens.

Models of `transformers` take the position ids of a pack as its borders (a block-diagonal mask in sdpa and eager
attention, variable-length kernels in flash attention). Whether this model does is not taken on trust: before training,
a pack of two examples goes through it, and the second one's logits must neither change with the first one's tokens nor
differ from its logits alone. A model that only takes masks (or one with `use_cache` on, whose cache hides the borders)
gets a block-diagonal one; a model that mixes examples either way (a recurrent one, say) is refused.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import torch

from schemas.errors import RecipeError

Method = Literal["positions", "mask"]
_LENGTH: Final = 6
_NEVER: Final = torch.finfo(torch.bfloat16).min
"""Finite in float32 and in bfloat16, to which autocast may turn a mask."""
_EXACT: Final = 1e-5
_CLOSE: Final = 0.05
"""Share of the logits' spread: rounding in bfloat16, far from what other positions or other tokens do."""


def block_mask(position_ids: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """What to add to attention scores, shape [lines, 1, tokens, tokens]: 0 for earlier tokens of the same example."""
    lines, tokens = position_ids.shape
    new = torch.ones_like(position_ids, dtype=torch.bool)
    new[:, 1:] = position_ids.diff(dim=1) != 1
    example = new.cumsum(1)
    same = example[:, :, None] == example[:, None, :]
    seen = same & torch.ones(tokens, tokens, dtype=torch.bool, device=position_ids.device).tril()
    blank = torch.zeros(lines, tokens, tokens, dtype=dtype, device=position_ids.device)
    return blank.masked_fill(~seen, _NEVER)[:, None]


def packed_inputs(inputs: dict[str, Any], method: Method, dtype: torch.dtype) -> dict[str, Any]:
    """The inputs of a packed batch as the model wants them."""
    if method == "positions":
        return inputs
    return {**inputs, "attention_mask": block_mask(inputs["position_ids"], dtype)}


def isolation_method(model: Any, bf16: bool = False) -> Method:
    """How this model keeps the examples of a pack apart, under bfloat16 autocast with `bf16`. RecipeError where it does
    not. Flash attention cannot be tried where the model is not on its GPU yet; it takes position ids."""
    device = next(model.parameters()).device
    if device.type == "cpu" and str(model.config._attn_implementation).startswith("flash"):
        return "positions"
    methods: tuple[Method, ...] = ("positions", "mask")
    for method in methods:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            if _isolates(model, method):
                return method
    raise RecipeError(
        f"{type(model).__name__} lets packed examples see each other whether it is given position ids or a mask; "
        "set `packing: false`"
    )


def _isolates(model: Any, method: Method) -> bool:
    """Whether the second of two packed examples is told the same whatever the first is, and as if it were alone."""
    device = next(model.parameters()).device
    words = torch.arange(3 * _LENGTH, device=device).view(3, _LENGTH) % int(model.config.get_text_config().vocab_size)
    places = torch.arange(_LENGTH, device=device)
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            one, other = (_second(model, words[at], words[2], places, method) for at in (0, 1))
            alone = model(input_ids=words[2][None], position_ids=places[None]).logits[0].float()
    except (TypeError, ValueError, RuntimeError):
        return False  # it takes no position ids, or no mask of this form
    finally:
        model.train(was_training)
    spread = float(alone.std()) or 1.0
    return bool((one - other).abs().max() <= _EXACT * spread and (one - alone).abs().max() <= _CLOSE * spread)


def _second(
    model: Any, first: torch.Tensor, second: torch.Tensor, places: torch.Tensor, method: Method
) -> torch.Tensor:
    inputs = {"input_ids": torch.cat([first, second])[None], "position_ids": torch.cat([places, places])[None]}
    logits: torch.Tensor = model(**packed_inputs(inputs, method, model.dtype)).logits[0, len(first) :]
    return logits.float()
