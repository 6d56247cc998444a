"""The built-in student: a small Llama-type model, with its tokenizer, trained on a sample of the pool.

It is no judge of the world's texts: it knows the pool, so its losses say what is common there and what is not. With a
pretrained model's folder at hand, `models.load` is the better student.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import orjson
import xxhash
from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.errors import RecipeError
from stages.contract import Pool, State
from stages.student.lessons import END, START, Lesson, forms, lessons, token_lists, train_tokenizer
from stages.student.models import Student, require
from stages.student.training import train
from stages.student.turns import Exchange

__all__ = ["DOING", "Size", "draft", "fit", "from_state", "to_state"]

DOING: Final = "training the built-in model, loss {:.2f}"
_PREFIX: Final = "weights."


class Size(BaseModel):
    """Size and schooling of the built-in student."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vocabulary: int = Field(4096, ge=300, le=65_536, description="Tokens, at most.")
    width: int = Field(128, ge=16, le=4096, description="Of the hidden state; a multiple of 2 x heads.")
    layers: int = Field(4, ge=1, le=64, description="Transformer blocks.")
    heads: int = Field(4, ge=1, le=64, description="Of attention.")
    context: int = Field(512, ge=32, le=32_768, description="Tokens it can look at.")
    tokens: int = Field(300_000, ge=1, description="Tokens it is trained on, at most.")
    epochs: int = Field(3, ge=1, le=100, description="How often it may see a record, where the pool is small.")
    seed: int = Field(0, ge=0, le=2**63 - 1, description="Of the weights and of the order of the texts.")

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.width % (2 * self.heads):
            raise ValueError(f"width = {self.width} is not a multiple of 2 x heads = {2 * self.heads}")
        return self


def fit(pool: Pool, size: Size) -> State:
    """Train a student on the pool: the state of a stage, read back by `from_state`.

    Deterministic given the pool's content, `size` and the libraries, on machines of one kind. Finished steps stay in
    `pool.scratch`: the same call after a kill continues from them, to the same bits. `pool.progress` hears of
    every step. Raises RecipeError where the pool has no text to learn from.
    """
    require()
    taught = lessons(pool)
    if not taught:
        raise RecipeError("the built-in student has nothing to learn from: no record of the pool has a text")
    tokenizer = _tokenizer(taught, size, pool.scratch)
    ids = token_lists(taught, tokenizer, size.context, size.tokens, size.epochs, size.seed)
    model = _untrained(_config(size, tokenizer), size.seed)
    train(model, ids, pool.scratch, lambda step: pool.progress(DOING.format(step.loss), step.done, step.total))
    return _arrays(model, _fast(tokenizer).backend_tokenizer.to_str())


def draft(said: Sequence[Exchange], size: Size) -> Student:
    """The student as it is before training, its vocabulary from a few exchanges: to measure what it will cost."""
    require()
    tokenizer = train_tokenizer([forms(each, number) for number, each in enumerate(said)], size.vocabulary)
    return from_state(_arrays(_untrained(_config(size, tokenizer), size.seed), tokenizer.to_str()), "cpu")


def to_state(student: Student) -> State:
    """A built-in student as arrays: its weights, and its tokenizer's and configuration's JSON as bytes."""
    return _arrays(student.model, student.tokenizer.backend_tokenizer.to_str())


def from_state(state: State, device: str = "auto") -> Student:
    """The student that `fit` trained."""
    require()
    import torch
    import transformers
    from tokenizers import Tokenizer

    config = transformers.LlamaConfig(**orjson.loads(state["config"].tobytes()))
    model = _untrained(config, 0)
    weights = {name.removeprefix(_PREFIX): value for name, value in state.items() if name.startswith(_PREFIX)}
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(torch.from_numpy(weights[name].copy()))
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = _fast(Tokenizer.from_str(state["tokenizer"].tobytes().decode()))
    return Student(model.to(device).eval(), tokenizer, config.max_position_embeddings, device, _fingerprint(state))


def _tokenizer(taught: list[Lesson], size: Size, scratch: Path) -> Any:
    """Trained, or found in `scratch` where an earlier attempt left it."""
    from tokenizers import Tokenizer

    path = scratch / "tokenizer.json"
    if path.is_file():
        return Tokenizer.from_file(str(path))
    tokenizer = train_tokenizer(taught, size.vocabulary)
    unfinished = scratch / "unfinished.json"
    unfinished.write_text(tokenizer.to_str(), encoding="utf-8")
    unfinished.replace(path)
    return tokenizer


def _fast(tokenizer: Any) -> Any:
    """As transformers wraps a tokenizer, which changes how its JSON is written."""
    import transformers

    return transformers.PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, bos_token=START, eos_token=END
    )


def _config(size: Size, tokenizer: Any) -> Any:
    import transformers

    return transformers.LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=size.width,
        intermediate_size=-(-size.width * 8 // 3 // 64) * 64,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        max_position_embeddings=size.context,
        initializer_range=size.width**-0.5,  # the usual 0.02 is for wide models: a narrow one would hardly attend
        tie_word_embeddings=True,
        bos_token_id=tokenizer.token_to_id(START),
        eos_token_id=tokenizer.token_to_id(END),
    )


def _untrained(config: Any, seed: int) -> Any:
    import torch
    import transformers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return transformers.LlamaForCausalLM(config)


def _arrays(model: Any, tokenizer: str) -> State:
    # Tied weights are one parameter, which `named_parameters` names once.
    weights = {_PREFIX + name: weight.detach().cpu().numpy().copy() for name, weight in model.named_parameters()}
    return {
        **weights,
        "config": _bytes(orjson.dumps(_plain(model.config))),
        "tokenizer": _bytes(tokenizer.encode()),
    }


def _plain(config: Any) -> dict[str, Any]:
    """The part of a configuration that `_config` sets."""
    names = (
        "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
        "num_key_value_heads", "max_position_embeddings", "tie_word_embeddings", "bos_token_id", "eos_token_id",
    )  # fmt: skip
    return {name: getattr(config, name) for name in names}


def _bytes(text: bytes) -> np.typing.NDArray[np.uint8]:
    return np.frombuffer(text, np.uint8)


def _fingerprint(state: State) -> str:
    hasher = xxhash.xxh3_128()
    for name in sorted(state):
        hasher.update(name.encode())
        hasher.update(np.ascontiguousarray(state[name]).tobytes())
    return hasher.hexdigest()
