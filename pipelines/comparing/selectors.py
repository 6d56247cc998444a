"""Selectors as stages of a recipe, with the target, the budget and the model filled in where a stage wants them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml

from pipelines.comparing.plan import RANDOM, SELECTORS
from pipelines.recipe_file import parse_yaml
from pipelines.registry import stage_class, stage_names
from schemas.errors import RecipeError, nearest
from stages.contract import DECIDES, IntArray
from stages.sample import Sample
from stages.zipfit.ranking import Keep, TokenBudget

Entry = tuple[str, Mapping[str, Any]]
"""A stage's name and the parameters given for it."""
LENGTH: Final = "length"


@dataclass(frozen=True)
class Selector:
    """A selector as it was asked for.

    Attributes:
        name: how tables call it.
        entries: its stages, in order.
        targeted: whether a stage learns what the target is.
        redrawn: whether chance decides, and repeating it is cheap: it is then done anew for every seed.
        base: where relative paths in its parameters start.
    """

    name: str
    entries: tuple[Entry, ...]
    targeted: bool
    redrawn: bool
    base: Path = Path()


@dataclass(frozen=True)
class Filling:
    """What stages get that the selector does not say itself. `rows` and `words` describe the pool's rows."""

    keep: Keep
    on: str
    model: str
    words: IntArray
    chars: IntArray


def parse(given: Sequence[str]) -> list[Selector]:
    """The selectors. Raises RecipeError for a name that is neither a selector, nor a stage that can, nor a file."""
    found = [_parse(item) for item in given]
    names = [selector.name for selector in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise RecipeError(f"two selectors are called '{twice}': rename one of the files")
    return found


def recipe_stages(selector: Selector, filling: Filling, target: str | None) -> list[dict[str, Any]]:
    """The selector's part of a recipe; `target` is a path or glob of the target rows that selectors may see."""
    if selector.entries == ((LENGTH, {}),):
        return _longest(filling)
    last = max((at for at, entry in enumerate(selector.entries) if _has_budget(entry[0])), default=-1)
    return [
        {name: _filled(name, params, filling, target, at == last)}
        for at, (name, params) in enumerate(selector.entries)
    ]  # fmt: skip


def _parse(given: str) -> Selector:
    if Path(given).suffix in (".yaml", ".yml"):
        return _selector(Path(given).stem, _read(Path(given)), Path(given).parent.resolve())
    if given == RANDOM:
        return _selector(RANDOM, (("sample", {}),))
    if given == LENGTH:
        return Selector(LENGTH, ((LENGTH, {}),), False, False)
    if given not in stage_names():
        raise RecipeError(f"no selector '{given}'; {nearest(given, {*SELECTORS, *stage_names()})}, or a YAML of stages")
    if not _has_budget(given):
        raise RecipeError(f"stage '{given}' has no budget (`keep`): give a YAML file of stages instead")
    return _selector(given, ((given, {}),))


def _selector(name: str, entries: tuple[Entry, ...], base: Path = Path()) -> Selector:
    targeted = any("target" in _fields(stage) and "target" not in params for stage, params in entries)
    return Selector(name, entries, targeted, any(_draws(stage, params) for stage, params in entries), base)


def _draws(stage: str, params: Mapping[str, Any]) -> bool:
    """Whether the stage draws by a seed, and another one is cheap: it changes no score, or the score is the draw."""
    kind = stage_class(stage)
    field = kind.model_fields.get("seed")
    if field is None or "seed" in params:
        return False
    return kind is Sample or field.json_schema_extra == DECIDES


def _read(path: Path) -> tuple[Entry, ...]:
    try:
        document = parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"selector {path}: cannot be read: {error}") from error
    entries = document.get("stages") if isinstance(document, dict) else document
    if not isinstance(entries, list) or not entries:
        raise RecipeError(f"selector {path}: write a list of stages, as in a recipe")
    return tuple(_entry(item, path) for item in entries)


def _entry(item: Any, path: Path) -> Entry:
    if isinstance(item, str):
        return item, {}
    if isinstance(item, dict) and len(item) == 1:
        name, params = next(iter(item.items()))
        if params is None or isinstance(params, dict):
            return str(name), params or {}
    raise RecipeError(f"selector {path}: a stage is written '- name: {{parameter: value}}'")


def _fields(stage: str) -> set[str]:
    return set(stage_class(stage).model_fields)


def _has_budget(stage: str) -> bool:
    """Whether the stage's `keep` says how much (that of `dedup` says which of several rows)."""
    field = stage_class(stage).model_fields.get("keep")
    return field is not None and not isinstance(field.default, str)


def _filled(
    name: str, params: Mapping[str, Any], filling: Filling, target: str | None, budgeted: bool
) -> dict[str, Any]:
    fields = _fields(name)
    values: dict[str, Any] = {"on": filling.on} if "on" in fields else {}
    if "target" in fields and target is not None:
        values["target"] = [target]
    if {"student", "model", "keep"} <= fields:
        values["model"] = filling.model
    if budgeted:
        values["keep"] = _rows(filling) if name == "sample" else plain_keep(filling.keep)
    return {**values, **params}


def plain_keep(keep: Keep) -> Any:
    """A budget as a recipe has it."""
    return keep.model_dump() if isinstance(keep, TokenBudget) else keep


def _rows(filling: Filling) -> float | int:
    """The budget as a share or number of rows: of a token budget as many average rows as fill it."""
    if not isinstance(filling.keep, TokenBudget):
        return filling.keep
    return max(1, min(len(filling.words), round(filling.keep.tokens / max(1.0, float(filling.words.mean())))))


def _longest(filling: Filling) -> list[dict[str, Any]]:
    """The longest rows within the budget; rows of one length at its end by lot."""
    order = np.argsort(-filling.chars, kind="stable")
    if isinstance(filling.keep, TokenBudget):
        count = int(np.searchsorted(np.cumsum(filling.words[order]), filling.keep.tokens, side="right"))
    else:
        count = filling.keep if isinstance(filling.keep, int) else round(filling.keep * len(order))
    count = max(1, min(count, len(order)))
    least = int(filling.chars[order[count - 1]])
    return [{LENGTH: {"min_chars": least, "on": filling.on}}, {"sample": {"keep": count}}]
