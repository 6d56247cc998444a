"""What every adapter is made of: typed reading of a source row, and the rule that nothing of it is lost."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, NoReturn

import orjson

from schemas.errors import BadRow
from schemas.record import Draft

Row = Mapping[str, Any]
_SHARED_META_BYTES: Final = 1_000  # of a row that becomes many drafts, what is larger is kept with the first only


@dataclass(frozen=True)
class Adapter:
    """One format: `matches` says why a row is of it (or None), `read` makes drafts of such a row or raises BadRow."""

    name: str
    describe: str
    matches: Callable[[Row], str | None]
    read: Callable[[Row], list[Draft]]


class Made(NamedTuple):
    """What a maker hands back: the drafts, and the keys of the row whose whole value is in them."""

    drafts: list[Draft]
    used: Collection[str]


def made(draft: Draft, *used: str) -> Made:
    """A single draft and the source keys it has taken in whole."""
    return Made([draft], used)


def keeping_rest(maker: Callable[[Row], Made]) -> Callable[[Row], list[Draft]]:
    """Turn a maker into an adapter's `read`: every key it did not use goes to `meta` under its own name.

    Where one row becomes many drafts, what is left of it goes to each of them when small and to the first otherwise.
    """

    def read(row: Row) -> list[Draft]:
        drafts, used = maker(row)
        if not drafts:
            raise BadRow("missing_content", "holds not a single example")
        rest = {key: value for key, value in row.items() if key not in used}
        if rest and drafts:
            _add_meta(drafts[0], rest)
            if len(drafts) > 1:
                small = {key: value for key, value in rest.items() if len(to_json(value)) <= _SHARED_META_BYTES}
                for draft in drafts[1:]:
                    _add_meta(draft, small)
        return drafts

    return read


def _add_meta(draft: Draft, rest: Mapping[str, Any]) -> None:
    if rest:
        draft["meta"] = {**draft.get("meta", {}), **rest}


def to_json(value: Any) -> str:
    """Compact JSON text of any decoded value, also of what strict JSON has no place for (dates, huge numbers,
    infinities). BadRow for what is nested too deeply to write."""
    try:
        written = orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()
        if "null" not in written or json_equal(written, value):
            return written
    except (TypeError, ValueError, RecursionError):
        pass
    try:
        return json.dumps(value, default=str, separators=(",", ":"))
    except (RecursionError, TypeError, ValueError) as error:
        raise BadRow("unwritable", f"a value cannot be written as JSON: {error}") from error


def json_equal(written: str, value: Any) -> bool:
    """Whether JSON text reads back as `value`: orjson writes infinities and NaN as null."""
    return bool(orjson.loads(written) == value)


def as_json_text(value: Any) -> str:
    """`value` itself where it is text (taken to be JSON already), else its JSON."""
    return value if isinstance(value, str) else to_json(value)


def missing(row: Row, *names: str) -> NoReturn:
    """Raise BadRow for an absent field (any of `names` would do), naming the nearest key the row has."""
    keys = [key for key in row if isinstance(key, str)]
    close = [hit for name in names for hit in difflib.get_close_matches(name, keys, n=1, cutoff=0.6)]
    hint = f"; nearest key '{close[0]}'" if close and close[0] not in names else ""
    raise BadRow("missing_content", f"no '{names[0]}'{hint}", names[0])


def wrong_type(field: str, value: Any, wanted: str) -> BadRow:
    """The error for a field that is there but of the wrong type."""
    return BadRow("wrong_type", f"'{field}' is {type(value).__name__}, not {wanted}", field)


def value_of(row: Row, name: str) -> Any:
    """The field `name`, of any type; BadRow where it is absent."""
    value = row.get(name)
    return missing(row, name) if value is None else value


def optional_text(row: Row, *names: str) -> str | None:
    """The first of `names` that has a value; None where none has. BadRow where it is not text."""
    for name in names:
        value = row.get(name)
        if value is not None:
            if not isinstance(value, str):
                raise wrong_type(name, value, "text")
            return value
    return None


def text(row: Row, *names: str) -> str:
    """As `optional_text`, but one of `names` must be there."""
    value = optional_text(row, *names)
    return missing(row, *names) if value is None else value


def items(row: Row, *names: str) -> list[Any]:
    """The first of `names` that has a value, which must be a list."""
    for name in names:
        value = row.get(name)
        if value is not None:
            if not isinstance(value, list | tuple):
                raise wrong_type(name, value, "a list")
            return list(value)
    return missing(row, *names)


def mapping(row: Row, name: str) -> dict[str, Any]:
    """The field `name`, which must be an object."""
    value = row.get(name)
    if value is None:
        return missing(row, name)
    if not isinstance(value, Mapping):
        raise wrong_type(name, value, "an object")
    return dict(value)


def first_key(row: Row, *names: str) -> str | None:
    """The first of `names` that has a value in the row."""
    return next((name for name in names if row.get(name) is not None), None)


def has(row: Row, *names: str) -> bool:
    """Whether all of `names` have a value."""
    return all(row.get(name) is not None for name in names)


def is_text(row: Row, *names: str) -> bool:
    """Whether all of `names` hold text."""
    return all(isinstance(row.get(name), str) for name in names)


def without(row: Row, *names: str) -> dict[str, Any]:
    """The row without `names`."""
    return {key: value for key, value in row.items() if key not in names}


def identify(draft: Draft, value: Any) -> None:
    """Set `source_id` from a text or number; nothing else can be an id."""
    if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
        draft["source_id"] = str(value)


def number(value: Any) -> float | None:
    """A reward as a number, where the value is one that a float holds exactly (true counts 1, false 0)."""
    if not isinstance(value, bool | int | float):
        return None
    try:
        return float(value) if float(value) == value else None
    except OverflowError:
        return None


def put(draft: Draft, **columns: Any) -> Draft:
    """Set the columns that have a value; keys without one stay absent. Returns the same draft."""
    for name, value in columns.items():
        if value is not None and value != [] and value != {}:
            draft[name] = value  # type: ignore[literal-required]
    return draft
