"""Recipes that come with the package."""

from __future__ import annotations

from pathlib import Path

from schemas.errors import RecipeError, nearest

_FOLDER = Path(__file__).parent / "recipes"


def shipped_recipe(name: str) -> Path:
    """Path of a shipped recipe. Raises RecipeError, naming the nearest one, if there is none."""
    path = _FOLDER / f"{name}.yaml"
    if not path.exists():
        raise RecipeError(
            f"no shipped recipe '{name}'; {nearest(name, [item.stem for item in _FOLDER.glob('*.yaml')])}"
        )
    return path
