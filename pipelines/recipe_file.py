"""From YAML text to a Recipe, with errors that name the line and the nearest valid key."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from pipelines.readers.streams import public
from pipelines.recipe import RESERVED, Export, Recipe, Source, StageUse
from pipelines.registry import stage_class
from schemas.errors import RecipeError, nearest

_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


class _Loader(yaml.SafeLoader):
    """YAML in which only `true` and `false` are booleans, so that a key `on` stays a key."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)

Location = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)


class _Lines:
    """Where each key of a YAML document stands."""

    def __init__(self, file: str, node: yaml.Node | None) -> None:
        self._file = file
        self._lines: dict[Location, int] = {}
        if node is not None:
            self._walk(node, ())

    def _walk(self, node: yaml.Node, location: Location) -> None:
        self._lines.setdefault(location, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if (*location, key.value) in self._lines:
                    line = key.start_mark.line + 1
                    raise RecipeError(f"{self._file}:{line}: '{key.value}' is given twice")
                self._lines[(*location, key.value)] = key.start_mark.line + 1
                self._walk(value, (*location, key.value))
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                self._walk(value, (*location, index))

    def where(self, location: Location) -> str:
        """`file:line` of the deepest part of `location` that the text has."""
        for end in range(len(location), -1, -1):
            if location[:end] in self._lines:
                return f"{self._file}:{self._lines[location[:end]]}"
        return self._file


def parse_yaml(text: str) -> Any:
    """YAML as recipes are written. Raises yaml.YAMLError."""
    return yaml.load(text, Loader=_Loader)


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read, override and validate a recipe.

    Args:
        path: the YAML file; paths in it are relative to its folder.
        overrides: `path.to.key=value` items as given to `--set`; values are YAML.

    Raises:
        RecipeError: with file, line, key and the nearest valid choice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot read the recipe: {_reason(error)}") from error
    try:
        document = parse_yaml(text)
        lines = _Lines(str(path), yaml.compose(text, Loader=_Loader))
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise RecipeError(f"{path}: an alias refers to itself, or values are nested too deeply") from error
    if not isinstance(document, dict):
        raise RecipeError(f"{path}: a recipe is a mapping with the key 'sources'")
    for item in overrides:
        _override(document, item)
    return build_recipe(document, path.parent.resolve(), lines)


def override_recipe(document: Mapping[str, Any], overrides: Sequence[str], base: Path) -> Recipe:
    """A recipe as a manifest holds it, with overrides. Raises RecipeError as `load_recipe` does."""
    changed = copy.deepcopy(dict(document))
    for item in overrides:
        _override(changed, item)
    return build_recipe(changed, base)


def build_recipe(document: Mapping[str, Any], base: Path, lines: _Lines | None = None) -> Recipe:
    """Validate a recipe that is already a mapping. Raises RecipeError as `load_recipe` does."""
    lines = lines or _Lines("recipe", None)
    values = _expand(dict(document), lines, ())
    unknown = set(values) - (set(Recipe.model_fields) - {"base", "written"})
    if unknown:
        key = sorted(unknown, key=str)[0]
        valid = set(Recipe.model_fields) - {"base", "written"}
        raise RecipeError(f"{lines.where((key,))}: unknown key '{key}'; {nearest(str(key), valid)}")
    values["sources"] = _sources(values.get("sources"), lines)
    values["stages"] = _stages(values.get("stages") or [], values.get("seed", 0), base, lines)
    values["export"] = _model(Export, values.get("export") or {}, ("export",), lines)
    return _model(Recipe, {**values, "base": base, "written": dict(document)}, (), lines)


def _sources(entries: Any, lines: _Lines) -> list[Source]:
    if not isinstance(entries, list) or not entries:
        raise RecipeError(f"{lines.where(('sources',))}: 'sources' must be a list with at least one source")
    return [_named(_model(Source, entry, ("sources", index), lines)) for index, entry in enumerate(entries)]


def _named(source: Source) -> Source:
    if source.name:
        return source
    name = source.dataset or Path(re.sub(r"[*?\[\]]+", "", public(source.paths[0])).rstrip("/")).name.split(".")[0]
    return source.model_copy(update={"name": name or "source"})


def _stages(entries: Any, seed: Any, base: Path, lines: _Lines) -> list[StageUse]:
    if not isinstance(entries, list):
        raise RecipeError(f"{lines.where(('stages',))}: 'stages' must be a list")
    uses: list[StageUse] = []
    seen: dict[str, int] = {}
    for index, entry in enumerate(entries):
        name, params = _stage_entry(entry, index, lines)
        seen[name] = seen.get(name, 0) + 1
        label = name if seen[name] == 1 else f"{name}#{seen[name]}"
        uses.append(StageUse(label=label, position=index + 1, stage=_stage(name, params, seed, base, index, lines)))
    return uses


def _stage_entry(entry: Any, index: int, lines: _Lines) -> tuple[str, Any]:
    if isinstance(entry, str):
        return entry, {}
    if isinstance(entry, dict) and len(entry) == 1:
        name, params = next(iter(entry.items()))
        return str(name), {} if params is None else params
    raise RecipeError(f"{lines.where(('stages', index))}: a stage is written '- name: {{parameter: value}}'")


def _stage(name: str, params: Any, seed: Any, base: Path, index: int, lines: _Lines) -> Any:
    location: Location = ("stages", index, name)
    if name in RESERVED:
        raise RecipeError(f"{lines.where(location)}: '{name}' is not a stage; it always comes first by itself")
    try:
        kind = stage_class(name)
    except RecipeError as error:
        raise RecipeError(f"{lines.where(location)}: {error}") from error
    if isinstance(params, dict) and "seed" in kind.model_fields:
        params = {"seed": seed, **params}
    return _model(kind, params, location, lines, {"base": str(base)})


def _model(kind: type[M], values: Any, location: Location, lines: _Lines, context: dict[str, Any] | None = None) -> M:
    try:
        return kind.model_validate(values, context=context)
    except ValidationError as error:
        raise RecipeError(_explain(kind, error, location, lines)) from error


def _explain(kind: type[BaseModel], error: ValidationError, location: Location, lines: _Lines) -> str:
    first = error.errors()[0]
    at = (*location, *first["loc"])
    dotted = ".".join(str(part) for part in at) or "recipe"
    where = lines.where(at)
    if first["type"] == "extra_forbidden":
        key = str(first["loc"][-1])
        return f"{where}: {dotted}: unknown key '{key}'; {nearest(key, kind.model_fields)}"
    given = f" (given: {first['input']!r})" if isinstance(first.get("input"), str | int | float | bool) else ""
    return f"{where}: {dotted}: {_plain(first)}{given}"


def _plain(error: Any) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    expected = error.get("ctx", {}).get("expected")
    if error["type"] == "literal_error" and isinstance(error.get("input"), str) and expected:
        choices = re.findall(r"'([^']*)'", expected)
        return f"{message}; {nearest(error['input'], choices)}"
    return message[:1].lower() + message[1:]


def _override(document: dict[str, Any], item: str) -> None:
    path, separator, text = item.partition("=")
    if not separator or not path:
        raise RecipeError(f"--set {item}: write path.to.key=value")
    target: Any = document
    parts = path.split(".")
    for part, following in zip(parts, [*parts[1:], None], strict=True):
        if following is None:
            _assign(target, part, _value(text, item), item)
        else:
            target = _step(target, part, item)


def _value(text: str, item: str) -> Any:
    try:
        return parse_yaml(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {item}: not valid YAML: {' '.join(str(error).split())}") from error


def _step(target: Any, part: str, item: str) -> Any:
    if isinstance(target, list):
        return _element(target, part, item)
    if isinstance(target, dict):
        if target.get(part) is None:
            target[part] = {}
        return target[part]
    raise RecipeError(f"--set {item}: '{part}' is inside a plain value")


def _element(entries: list[Any], part: str, item: str) -> Any:
    """The element a path part names: by index, or by stage label (`dedup`, `dedup#2`) or source name."""
    if part.isdigit() and int(part) < len(entries):
        return entries[int(part)]
    labels: dict[str, Any] = {}
    for index, entry in enumerate(entries):
        name = str(entry.get("name") if isinstance(entry, dict) and "name" in entry else _entry_name(entry))
        label = name if name not in labels else f"{name}#{sum(key.split('#')[0] == name for key in labels) + 1}"
        labels[label] = _entry_params(entries, index)
    if part not in labels:
        raise RecipeError(f"--set {item}: nothing is called '{part}' here; {nearest(part, labels)}")
    return labels[part]


def _entry_name(entry: Any) -> Any:
    return next(iter(entry)) if isinstance(entry, dict) and entry else entry


def _entry_params(entries: list[Any], index: int) -> Any:
    entry = entries[index]
    if isinstance(entry, str):
        entries[index] = entry = {entry: {}}
    if isinstance(entry, dict) and len(entry) == 1 and "path" not in entry and "dataset" not in entry:
        name = next(iter(entry))
        if entry[name] is None:
            entry[name] = {}
        return entry[name]
    return entry


def _assign(target: Any, part: str, value: Any, item: str) -> None:
    if isinstance(target, list) and part.isdigit() and int(part) < len(target):
        target[int(part)] = value
    elif isinstance(target, dict):
        target[part] = value
    else:
        raise RecipeError(f"--set {item}: cannot set '{part}' there")


def _expand(value: Any, lines: _Lines, location: Location) -> Any:
    """`${NAME}` and `${NAME:-default}` from the environment, anywhere in a string."""
    if isinstance(value, dict):
        return {key: _expand(item, lines, (*location, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(item, lines, (*location, index)) for index, item in enumerate(value)]
    if isinstance(value, str):
        return _VARIABLE.sub(lambda match: _variable(match, lines, location), value)
    return value


def _variable(match: re.Match[str], lines: _Lines, location: Location) -> str:
    name, default = match.group(1), match.group(2)
    value = os.environ.get(name, default)
    if value is None:
        dotted = ".".join(str(part) for part in location)
        raise RecipeError(f"{lines.where(location)}: {dotted}: environment variable {name} is not set")
    return value


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
