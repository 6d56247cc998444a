"""Which stages exist: every entry point of the group `curatrix.stages`, ours and other people's alike."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points

from schemas.errors import RecipeError, nearest
from stages.contract import Stage

GROUP = "curatrix.stages"


@cache
def _points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def stage_names() -> list[str]:
    """Names a recipe may use, sorted."""
    return sorted(_points())


def stage_class(name: str) -> type[Stage]:
    """The stage called `name`.

    Raises RecipeError, naming the nearest stage, if there is none, or if its package cannot be imported.
    """
    if name not in _points():
        raise RecipeError(f"unknown stage '{name}'; {nearest(name, _points())}")
    try:
        loaded = _points()[name].load()
    except ImportError as error:
        raise RecipeError(f"stage '{name}' cannot be loaded: {error}") from error
    if not (isinstance(loaded, type) and issubclass(loaded, Stage)):
        raise RecipeError(f"stage '{name}': entry point {_points()[name].value} is not a Stage")
    return loaded
