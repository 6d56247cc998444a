"""What the actions of a run brought: new results per action, and required entities found.

ISR = |R n O| / |R|, the share of the required entities R that were obtained; ISE = |R n O| / T, those obtained per
step (WebLeaper, 2025). An entity counts as obtained when a result names it that is no search result: the snippets of
a search page name much that nobody looked at.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import orjson

from stages.trajectories.actions import Action, Message, read_run

Entity = tuple[str, ...]
"""The names that one required entity goes by."""

_APOSTROPHE: Final = re.compile(r"['’`]")
_NOT_WORD: Final = re.compile(r"[\W_]+")
_UNSPACED: Final = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")


class Gains(NamedTuple):
    """Calls made before with the same arguments; those of them with the same result; calls that brought a new one."""

    repeated: int
    same_result: int
    unique: int


def gains(actions: Sequence[Action]) -> Gains:
    """Count repeats and gains.

    A call brings something new if it was not made before and its result has not been seen before in the run. A result
    that is missing or empty tells nothing, and the call alone counts.
    """
    calls: dict[tuple[str, str], set[str]] = {}
    seen: set[str] = set()
    repeated = same = unique = 0
    for action in actions:
        call, result = (action.tool, action.arguments), " ".join((action.result or "").split())
        is_repeat = call in calls
        repeated += is_repeat
        same += is_repeat and result in calls[call]
        unique += not is_repeat and not (result and result in seen)
        calls.setdefault(call, set()).add(result)
        seen.add(result)
    return Gains(repeated, same, unique)


def required(value: Any) -> list[Entity]:
    """The required entities that a value names: a list of names (or of lists of names for the same entity), JSON text
    of one, or text with one name per line."""
    if isinstance(value, str):
        value = _listed(value)
    if not isinstance(value, list):
        return []
    named = [item if isinstance(item, list) else [item] for item in value]
    found = [tuple(filter(None, (normal(name) for name in names if isinstance(name, str)))) for names in named]
    return list(dict.fromkeys(entity for entity in found if entity))


def _listed(text: str) -> Any:
    if text.lstrip().startswith("["):
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            pass
    return text.splitlines()


def found(entities: Iterable[Entity], actions: Sequence[Action], search_tools: Sequence[str]) -> int:
    """How many of the entities a visit named."""
    visits = [action.result for action in actions if action.result and not _is_search(action.tool, search_tools)]
    text = f" {normal(' '.join(visits))} "
    return sum(any(named(name, text) for name in entity) for entity in entities)


def entity_scores(listed: Any, messages: Sequence[Message], search_tools: Sequence[str]) -> dict[str, float]:
    """`n_required`, `n_found`, `isr` and `ise` of a run; nothing where no entity is listed."""
    entities = required(listed)
    if not entities:
        return {}
    run = read_run(messages)
    n = found(entities, run.actions, search_tools)
    return {
        "n_required": len(entities),
        "n_found": n,
        "isr": n / len(entities),
        "ise": n / run.steps if run.steps else 0.0,
    }


def normal(text: str) -> str:
    """Lower-case words with single spaces: what two spellings of a name have in common."""
    plain = _APOSTROPHE.sub("", unicodedata.normalize("NFKC", text).casefold())
    return _NOT_WORD.sub(" ", plain).strip()


def named(name: str, text: str) -> bool:
    """Whether normalised `text`, with a space at both ends, has the name as whole words (anywhere, in scripts that
    put no spaces between words)."""
    return name in text if _UNSPACED.search(name) else f" {name} " in text


def _is_search(tool: str, search_tools: Sequence[str]) -> bool:
    return any(part.casefold() in tool.casefold() for part in search_tools)
