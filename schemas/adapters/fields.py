"""Which source field went into which column, and the user's own mapping from one to the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from schemas.adapters.base import Adapter, Row, as_json_text, missing, number, put, to_json, wrong_type
from schemas.adapters.messages import read_messages
from schemas.errors import BadRow, RecipeError, nearest
from schemas.record import CONTENT_COLUMNS, KINDS, Draft, Kind

_COLUMNS: Final = (*CONTENT_COLUMNS, "source_id")
_OPTIONAL: Final = frozenset(
    {"source_id", "language", "reasoning", "reward", "tools", "judge", "entry_point", "answer"}
)
_JSON_TEXT: Final = frozenset({"tools", "judge"})
_ABSENT: Final = object()


def field_map(primary: Adapter, row: Row) -> dict[str, str]:
    """Source key to the canonical column(s) its content went into, for one row; empty for a row it cannot read."""
    if not isinstance(row, Mapping):
        return {}
    try:
        drafts = primary.read(row)
    except BadRow:
        return {}
    return {key: _columns_of(key, value, drafts) for key, value in row.items()}


def _columns_of(key: str, value: Any, drafts: list[Draft]) -> str:
    meta = any(key in draft.get("meta", {}) for draft in drafts)
    leaves = [leaf for leaf in _leaves(value) if leaf != ""]
    if not leaves:
        return "meta" if meta else "(empty)"
    hits = [name for name in _COLUMNS if any(_is_in(leaves, draft.get(name)) for draft in drafts)]
    exact = [name for name in hits if any(draft.get(name) == value for draft in drafts)]
    if meta and (value in [draft.get("meta", {}).get(key) for draft in drafts] or not hits):
        return "meta"
    return ", ".join([*(exact or hits), *["meta"] * meta]) or "(derived)"


def _is_in(leaves: list[Any], column: Any) -> bool:
    """Whether the most telling leaf of a field, its longest text, is in a column, as text or within JSON text."""
    if column is None:
        return False
    held = list(_leaves(column))
    texts = [leaf for leaf in held if isinstance(leaf, str)]
    longest = max((leaf for leaf in leaves if isinstance(leaf, str)), key=len, default=None)
    if longest is None:
        return leaves[0] in held or str(leaves[0]) in texts
    written = (longest.strip(), to_json(longest)[1:-1])
    return any(form in each for each in texts for form in written)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    elif value is not None:
        yield value


def mapped(row: Mapping[str, Any], mapping: Mapping[str, str]) -> Draft:
    """A draft by the user's own mapping {canonical column: dotted path in the row}, plus an optional `kind`.

    Numbers in a path index lists. Raises RecipeError for a column or kind that does not exist, BadRow for a row
    without a mapped path (all but the descriptive columns are required) or with a value of the wrong type there.
    """
    if not isinstance(row, Mapping):
        raise wrong_type("row", row, "an object")
    draft: Draft = {"kind": _kind(mapping)}
    used: list[str] = []
    for column, path in mapping.items():
        if column == "kind":
            continue
        if column not in _COLUMNS:
            raise RecipeError(f"no column '{column}' to map to; {nearest(column, [*_COLUMNS, 'kind'])}")
        value = _at(row, path)
        if value is not _ABSENT and value is not None:
            put(draft, **{column: _typed(column, value, path)})
            used += [path] if _is_whole(column, value, path) else []
        elif column not in _OPTIONAL:
            missing(row, path)
    rest = _pruned(row, [path.split(".") for path in used])
    return put(draft, meta=rest)


def _kind(mapping: Mapping[str, str]) -> Kind:
    named = mapping.get("kind")
    for kind in KINDS:
        if kind == named:
            return kind
    if named is not None:
        raise RecipeError(f"no kind '{named}'; {nearest(named, KINDS)}")
    if "tests" in mapping or "test_code" in mapping:
        return "code"
    if "rejected" in mapping:
        return "preference"
    return "text" if "text" in mapping else "sft"


def _at(row: Any, path: str) -> Any:
    if isinstance(row, Mapping) and path in row:
        return row[path]
    value = row
    for step in path.split("."):
        if isinstance(value, Mapping) and step in value:
            value = value[step]
        elif isinstance(value, list | tuple) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return _ABSENT
    return value


def _typed(column: str, value: Any, path: str) -> Any:
    if column in _JSON_TEXT:
        return as_json_text(value)
    if column == "reward":
        reward = number(value)
        if reward is None:
            raise wrong_type(path, value, "a number")
        return reward
    if column == "messages":
        if not isinstance(value, list | tuple):
            raise wrong_type(path, value, "a list of messages")
        return read_messages(value, path)[0]
    if column in ("tests", "solutions"):
        return _structs(column, value, path)
    if isinstance(value, str):
        return value
    if column in ("source_id", "answer") and isinstance(value, int | float):
        return str(value)
    raise wrong_type(path, value, "text")


def _is_whole(column: str, value: Any, path: str) -> bool:
    """Whether a value is in its column without a remainder; a message can have fields that no column holds."""
    return column != "messages" or not any(read_messages(value, path)[1])


def _structs(column: str, value: Any, path: str) -> list[dict[str, str]]:
    """Tests and solutions: a list of canonical objects, or of bare source."""
    found = value if isinstance(value, list | tuple) else [value]
    names = {"tests": {"name", "input", "output", "code", "file"}, "solutions": {"code", "language", "verdict"}}[column]
    made: list[dict[str, str]] = []
    for item in found:
        if isinstance(item, str):
            made.append({"code": item})
        elif isinstance(item, Mapping) and item.keys() <= names:
            made.append({key: as_json_text(part) for key, part in item.items() if part is not None})
        else:
            raise BadRow("wrong_type", f"'{path}' holds no {column}: text, or objects of {sorted(names)}", path)
    return made


def _pruned(value: Any, paths: list[list[str]]) -> Any:
    """`value` without what lies at `paths`; empty containers that are left over are dropped with it."""
    if not paths:
        return value
    if isinstance(value, Mapping):
        return _pruned_object(value, paths)
    kept = list(value)
    for step in sorted({int(path[0]) for path in paths}, reverse=True):
        below = [path[1:] for path in paths if int(path[0]) == step]
        left = None if [] in below else _pruned(kept[step], below)
        kept[step] = left
    return kept if any(item not in (None, {}, []) for item in kept) else []


def _pruned_object(value: Mapping[str, Any], paths: list[list[str]]) -> dict[str, Any]:
    whole = {".".join(path) for path in paths}
    kept: dict[str, Any] = {}
    for key, item in value.items():
        below = [path[1:] for path in paths if path[0] == key]
        if key in whole or [] in below:
            continue
        left = _pruned(item, below) if below else item
        if not below or left not in ({}, []):
            kept[key] = left
    return kept
