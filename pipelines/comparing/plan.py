"""What is compared: pool, targets, selectors, and the schooling of the small model. Needs no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from schemas.errors import RecipeError, nearest
from stages.student.builtin import Size
from stages.text import On
from stages.zipfit.ranking import Keep

RANDOM: Final = "random"
SELECTORS: Final = (RANDOM, "length", "dsir", "zipfit", "quad", "ifd")
_NAME: Final = re.compile(r"[\w.+-]+")


class Training(BaseModel):
    """How the model is trained on every selection: the same number of tokens, in the same number of steps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: int = Field(65_536, ge=64, description="Tokens that every selection trains on, again and again if need be.")
    batch: int = Field(2_048, ge=32, description="Tokens of a step.")
    window: int = Field(256, ge=16, description="Tokens of a sequence; at most the model's own limit.")
    rate: float | None = Field(
        None, gt=0, description="Highest learning rate; default: 3e-4 for the built-in model, 2e-5 for another."
    )
    held_out: int = Field(128, ge=1, description="Rows of every set that losses are measured on, at most.")


class Comparison(BaseModel):
    """Everything that a comparison depends on. Paths are absolute; each may be a file, a folder or a glob."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pool: Mapping[str, str] = Field(min_length=1, description="The rows to choose from: paths by source name.")
    targets: Mapping[str, str] = Field(min_length=1, description="Targets to be good at: paths by name.")
    others: Mapping[str, str] = Field({}, description="Other sets to measure losses on: paths by name.")
    keep: Keep = Field(description="A fraction, a row count, or {tokens: N}: what every selector may keep.")
    selectors: tuple[str, ...] = Field(SELECTORS, min_length=1, description="Names, stages, or YAML files of stages.")
    seeds: int = Field(5, ge=1, le=1_000, description="How often everything that chance decides is repeated.")
    seed: int = Field(0, ge=0, le=2**31, description="Of the split, of the model, and of the first repetition.")
    on: On = Field("text", description="What is compared and trained on: text, prompt, response, messages or code.")
    model: str | None = Field(None, description="Folder of a causal language model; default: one trained on the pool.")
    student: Size = Field(
        Size(vocabulary=1024, width=96, layers=2, context=256, tokens=600_000),
        description="Size and schooling of the built-in model.",
    )
    train: Training = Training()

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        both = sorted(set(self.targets) & set(self.others))
        if both:
            raise ValueError(f"'{both[0]}' names a target and another set: give one of them a name of its own")
        for name in (*self.targets, *self.others):
            if not _NAME.fullmatch(name):
                raise ValueError(f"'{name}' cannot name a set: letters, digits, '.', '_', '+' and '-' may")
        return self

    @property
    def rate(self) -> float:
        """The highest learning rate."""
        return self.train.rate or (3e-4 if self.model is None else 2e-5)

    @property
    def chosen(self) -> tuple[str, ...]:
        """The selectors, `random` first: it is what the others are judged against."""
        return tuple(dict.fromkeys((RANDOM, *self.selectors)))


def comparison(document: Mapping[str, Any], overrides: Sequence[str] = ()) -> Comparison:
    """A validated comparison; `overrides` are `path.to.key=value` items.

    Raises RecipeError, naming the key and the nearest valid one.
    """
    values: dict[str, Any] = dict(document)
    for item in overrides:
        _override(values, item)
    try:
        return Comparison.model_validate(values)
    except ValidationError as error:
        raise RecipeError(_explain(error)) from error


def _override(values: dict[str, Any], item: str) -> None:
    path, separator, text = item.partition("=")
    *parents, last = path.split(".")
    if not separator or not last:
        raise RecipeError(f"--set {item}: write path.to.key=value")
    for parent in parents:
        values[parent] = dict(values.get(parent) or (_DEFAULTS.get(parent) or {}))
        values = values[parent]
    values[last] = yaml.safe_load(text)


_DEFAULTS: Final = {"student": Comparison.model_fields["student"].default.model_dump()}
"""What a comparison does not take from the defaults of the model itself."""


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    names = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        models: dict[str, type[BaseModel]] = {"train": Training, "student": Size}
        valid = models.get(names[0], Comparison).model_fields
        return f"compare: unknown key '{'.'.join(names)}'; {nearest(names[-1], valid)}"
    message = str(first["msg"]).removeprefix("Value error, ")
    return f"compare: {'.'.join(names) or 'arguments'}: {message[:1].lower() + message[1:]}"
